"""The identity of the person in an image."""

import numpy as np

from input_pipeline.fields.base import AnnotatedImage, Field
from input_pipeline.identities import number_identities
from input_pipeline.source import ImageSource


class IdentityField(Field):
  """`identity` int32: the number of the first person among all identities of the data set, from 1; 0 for unknown.

  Args:
    source: the images; the annotations of all of them are read.

  Attributes:
    numbers: (n,) int32, the number of each image.

  Raises:
    ValueError: no identity is known.
  """

  def __init__(self, source: ImageSource):
    self.numbers, self.classes = number_identities(source)
    known = int((self.numbers > 0).sum())
    self.summary = [f"{len(self.classes):,} identities in {known:,} of {len(source):,} images"]

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"identity": ((), np.int32)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    row["identity"][...] = self.numbers[image.index]
    return None
