"""The depth of each pixel of an image."""

import numpy as np

from input_pipeline.fields.base import AnnotatedImage, Field
from input_pipeline.fields.coverage import file_coverage
from input_pipeline.planes import UnusablePlane, checked_depth, resized_plane
from input_pipeline.source import ImageSource


class DepthField(Field):
  """`depth` (Hc, Wc) uint16, millimeters on the canvas with 0 for unknown, and `has_depth`, whether any is known.

  From depth.png. Where the silhouette of the person is known, only the person's pixels count, as in HCMoCo (Hong et al.
  2022). Shrunk by the nearest pixel: a mean of the depths of a person and of the background is neither.

  Args:
    source: the images.

  Raises:
    ValueError: none of the images tried has any.
  """

  def __init__(self, source: ImageSource):
    self.summary = file_coverage(
      source,
      ("depth.png",),
      "depth",
      "prepare them with `saip prepare ... --depth=PLACE`, or choose data.source=people",
    )

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"depth": (tuple(canvas_hw), np.uint16), "has_depth": ((), np.bool_)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    if "depth.png" not in image.files:
      return None
    try:
      depth = checked_depth(image.plane("depth.png"))
      if image.person is not None:
        depth = np.where(image.person, depth, np.uint16(0))
    except UnusablePlane as error:
      return f"depth: {error}"
    height, width = image.valid_hw
    depth = resized_plane(depth, image.valid_hw)
    if not depth.any():
      return "depth: none of the person's pixels has any"
    row["depth"][:height, :width] = depth
    row["has_depth"][...] = True
    return None
