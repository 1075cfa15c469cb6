"""A rendered image with all its labels."""

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
    depth: (H, W) float32 meters along the camera's axis; 0 where there is no surface.
    instances: (H, W) uint8; 0 for no person, k for the visible part of annotations["people"][k - 1], without carried
      things.
    parts: (H, W) uint8 classes of `LIP_PARTS`; above 0 exactly where `instances` is.
    jpeg_quality: quality that the camera would store the image with, 1 to 100.
    annotations: JSON-able labels; people/records.py documents them.
  """

  image_u8: np.ndarray
  depth: np.ndarray
  instances: np.ndarray
  parts: np.ndarray
  jpeg_quality: int
  annotations: dict

  def flipped(self) -> "Picture":
    """Returns the mirrored picture, left and right swapped in every label; the camera's axes stay right-handed.

    No camera pose gives a mirrored world, so `world_to_camera` is None in the result.
    """
    width = self.image_u8.shape[1]
    annotations = copy.deepcopy(self.annotations) | {"world_to_camera": None}
    annotations["camera_matrix"][0][2] = width - annotations["camera_matrix"][0][2]
    for person in annotations["people"]:
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
      self, image_u8=image, depth=depth, instances=instances, parts=FLIPPED_PARTS[parts], annotations=annotations
    )
