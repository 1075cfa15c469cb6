"""The silhouette of the person in an image."""

import numpy as np

from input_pipeline.fields.base import AnnotatedImage, Field
from input_pipeline.fields.coverage import file_coverage
from input_pipeline.planes import UnusablePlane, resized_plane
from input_pipeline.source import ImageSource


class ForegroundField(Field):
  """`foreground` (Hc, Wc) bool, the first person's pixels on the canvas, and `has_foreground`, whether they are known.

  From instances.png (people[0] has the number 1), else from parts.png. Shrunk by the nearest pixel to the size of the
  image on its canvas.

  Args:
    source: the images.

  Raises:
    ValueError: none of the images tried has any.
  """

  def __init__(self, source: ImageSource):
    self.summary = file_coverage(
      source,
      ("instances.png", "parts.png"),
      "masks",
      "prepare them with `saip prepare ... --instances=PLACE`, or choose data.source=people",
    )

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"foreground": (tuple(canvas_hw), np.bool_), "has_foreground": ((), np.bool_)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    try:
      person = image.person
    except UnusablePlane as error:
      return f"mask: {error}"
    if person is None:
      return None
    height, width = image.valid_hw
    mask = resized_plane(person, image.valid_hw)
    if not mask.any():
      return "mask: it is empty"
    row["foreground"][:height, :width] = mask
    row["has_foreground"][...] = True
    return None
