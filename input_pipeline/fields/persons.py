"""The person that each pixel of a photo shows."""

import numpy as np

from input_pipeline.fields.base import AnnotatedImage, Field
from input_pipeline.fields.coverage import file_coverage
from input_pipeline.planes import UnusablePlane, resized_plane
from input_pipeline.source import ImageSource


class PersonsField(Field):
  """`persons` (Hc, Wc) uint8 on the canvas: k for the k-th person, 0 for none; and `has_persons`, whether it is known.

  From instances.png. Shrunk by the nearest pixel to the size of the image on its canvas.

  Args:
    source: the images.

  Raises:
    ValueError: none of the images tried has any.
  """

  def __init__(self, source: ImageSource):
    self.summary = file_coverage(
      source, ("instances.png",), "masks", "choose data that tells persons apart, as people or cihp"
    )

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"persons": (tuple(canvas_hw), np.uint8), "has_persons": ((), np.bool_)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    if "instances.png" not in image.files:
      return None
    try:
      persons = image.plane("instances.png")
    except UnusablePlane as error:
      return f"mask: {error}"
    if persons.max() > 255:
      return "mask: more than 255 persons"
    height, width = image.valid_hw
    row["persons"][:height, :width] = resized_plane(persons, image.valid_hw)
    row["has_persons"][...] = True
    return None
