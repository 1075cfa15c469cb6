"""Depth on the grid of an image."""

import numpy as np

from input_pipeline.fields.base import AnnotatedImage, Field
from input_pipeline.fields.coverage import held_in
from input_pipeline.planes import UnusablePlane, checked_depth, resized_plane
from input_pipeline.source import ImageSource


class Depth(Field):
  """`depth` (Hc, Wc) uint16, millimeters on the canvas with 0 for unknown, and `has_depth`, whether any is known.

  From depth.png; where the person's silhouette is known, the person's pixels alone (HCMoCo's masked depth). Shrunk by
  the nearest pixel: depth between a person and what is behind is nobody's.

  Args:
    source: the images.

  Raises:
    ValueError: none of them seems to have any.
  """

  def __init__(self, source: ImageSource):
    self.summary = held_in(
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
