"""One rendered picture with everything that is known of it."""

import copy
import dataclasses

import numpy as np

from input_pipeline.body import COCO_JOINTS
from input_pipeline.people.landmarks import FLIPPED_LANDMARKS
from input_pipeline.people.parts import FLIPPED_PARTS


@dataclasses.dataclass(frozen=True)
class Picture:
  """Pixels and labels of one geometry. Pixel frame: x right, y down, the center of the top left pixel at (.5, .5).

  Attributes:
    image_u8: (H, W, 3) RGB.
    depth: (H, W) float32 meters along the camera's axis; 0 where nothing solid is.
    instances: (H, W) uint8; 0 nobody, k the visible part of facts["people"][k - 1], without what they carry.
    parts: (H, W) uint8 classes of `PARTS`; above 0 exactly where `instances` is.
    jpeg_quality: what the camera would store the picture with, 1 to 100.
    facts: JSON-able labels, see README of the record format in records.py.
  """

  image_u8: np.ndarray
  depth: np.ndarray
  instances: np.ndarray
  parts: np.ndarray
  jpeg_quality: int
  facts: dict

  def flipped(self) -> "Picture":
    """The mirrored picture, left and right swapped in every label; the camera's axes stay right-handed.

    A mirrored world has no camera pose that gives it, so `world_to_camera` is None afterwards.
    """
    width = self.image_u8.shape[1]
    facts = copy.deepcopy(self.facts) | {"world_to_camera": None}
    facts["camera_matrix"][0][2] = width - facts["camera_matrix"][0][2]
    for person in facts["people"]:
      swapped = FLIPPED_LANDMARKS[: len(COCO_JOINTS)]
      person["keypoints"] = [[width - x, y, v] for x, y, v in (person["keypoints"][j] for j in swapped)]
      person["landmarks_xyz"] = [[-x, y, z] for x, y, z in (person["landmarks_xyz"][j] for j in FLIPPED_LANDMARKS)]
      for box in ("box_full", "box_visible"):
        x, y, w, h = person[box]
        person[box] = [width - x - w, y, w, h] if w else [x, y, w, h]
    image, depth, instances, parts = (
      np.ascontiguousarray(plane[:, ::-1]) for plane in (self.image_u8, self.depth, self.instances, self.parts)
    )
    return dataclasses.replace(
      self, image_u8=image, depth=depth, instances=instances, parts=FLIPPED_PARTS[parts], facts=facts
    )
