"""Scales the annotations of an image that was shrunk."""

import cv2
import numpy as np

from input_pipeline.planes import decode_plane, resized_plane
from input_pipeline.records import moved_person

PLANES = ("depth.png", "instances.png", "parts.png")


def scaled_annotations(
  facts: dict, files: dict[str, bytes], scale_yx: tuple[float, float], hw: tuple[int, int]
) -> tuple[dict, dict[str, bytes]]:
  """Returns the facts and files of an image for its smaller version.

  Args:
    facts: as in records.py.
    files: as in records.py; depth, instances and parts are resized to `hw` by the nearest pixel.
    scale_yx: new size / old size, vertically and horizontally.
    hw: the new size in pixels.

  Returns:
    The facts and files for the new size.
  """
  scale_xy = scale_yx[::-1]
  facts = dict(facts)
  if "people" in facts:
    facts["people"] = [moved_person(person, scale_xy) for person in facts["people"]]
  if "camera_matrix" in facts:
    facts["camera_matrix"] = (np.diag([*scale_xy, 1.0]) @ facts["camera_matrix"]).tolist()
  return facts, {name: _scaled_plane(data, hw) if name in PLANES else data for name, data in files.items()}


def _scaled_plane(data: bytes, hw: tuple[int, int]) -> bytes:
  return cv2.imencode(".png", resized_plane(decode_plane(data), hw))[1].tobytes()
