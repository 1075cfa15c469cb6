"""The part of the body, or the piece of clothing, that each pixel of an image shows."""

import numpy as np

from input_pipeline.fields.base import AnnotatedImage, Field
from input_pipeline.fields.coverage import file_coverage
from input_pipeline.fields.legend import classes_of
from input_pipeline.planes import UnusablePlane, resized_plane
from input_pipeline.records import IGNORE_LABEL
from input_pipeline.source import ImageSource


class PartsField(Field):
  """`parts` (Hc, Wc) uint8, the class of each pixel on the canvas, 255 where none counts, and `has_parts`.

  From parts.png. Shrunk by the nearest pixel to the size of the image on its canvas.

  Args:
    source: the images.

  Raises:
    ValueError: it names no parts, or none of the images tried has any.
  """

  def __init__(self, source: ImageSource):
    self.classes = classes_of(source, "parts")
    self.summary = file_coverage(source, ("parts.png",), "parts", "choose data with parts, such as people or lip")

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"parts": (tuple(canvas_hw), np.uint8), "has_parts": ((), np.bool_)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    if "parts.png" not in image.files:
      return None
    try:
      parts = image.plane("parts.png")
    except UnusablePlane as error:
      return f"parts: {error}"
    if ((parts >= len(self.classes)) & (parts != IGNORE_LABEL)).any():
      return "parts: a class without a name"
    height, width = image.valid_hw
    row["parts"][...] = IGNORE_LABEL
    row["parts"][:height, :width] = resized_plane(parts, image.valid_hw)
    row["has_parts"][...] = True
    return None
