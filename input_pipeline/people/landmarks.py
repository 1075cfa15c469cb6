"""Named points of the body that every image is labeled with: COCO's 17 joints first, more after them."""

from typing import NamedTuple

import numpy as np

from input_pipeline.people.skeleton import Body


class Landmark(NamedTuple):
  """A point fixed to a joint of the skeleton.

  Attributes:
    joint: the joint that it moves with.
    offset: from the joint, in the joint's frame, shares of the stature; on the head, shares of the head's size.
    radius: depth under the skin, share of the stature.
    parts: values of `Solid.part` that it belongs to; any other solid in front of it hides it.
  """

  joint: str
  offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
  radius: float = 0.01
  parts: tuple[str, ...] = ("head",)


def _sides(name: str, joint: str, radius: float, *parts: str, offset=(0.0, 0.0, 0.0)) -> dict[str, Landmark]:
  x, y, z = offset
  return {
    f"{side}_{name}": Landmark(
      joint if joint == "head" else f"{side}_{joint}",
      (sign * x, y, z),
      radius,
      tuple(part if part in ("head", "hips", "torso", "skirt") else f"{side}_{part}" for part in parts),
    )
    for side, sign in (("left", 1), ("right", -1))
  }


LANDMARKS: dict[str, Landmark] = {
  "nose": Landmark("head", (0, -0.018, 0.066)),
  **_sides("eye", "head", 0.01, "head", offset=(0.019, 0.006, 0.053)),
  **_sides("ear", "head", 0.012, "head", offset=(0.0475, 0.001, -0.002)),
  **_sides("shoulder", "shoulder", 0.05, "upper_arm", "torso"),
  **_sides("elbow", "elbow", 0.035, "upper_arm", "forearm"),
  **_sides("wrist", "wrist", 0.025, "forearm", "hand"),
  **_sides("hip", "hip", 0.075, "thigh", "hips", "torso", "skirt"),
  **_sides("knee", "knee", 0.05, "thigh", "shin", "skirt"),
  **_sides("ankle", "ankle", 0.03, "shin", "foot", "skirt"),
  "neck": Landmark("neck", (0, 0.01, 0), 0.04, ("neck", "torso", "head")),
  "head_top": Landmark("head", (0, 0.068, -0.005), 0.02),
  "chin": Landmark("head", (0, -0.062, 0.035), 0.015, ("head", "neck")),
  "chest": Landmark("chest", (0, 0, 0), 0.09, ("torso",)),
  "pelvis": Landmark("pelvis", (0, 0, 0), 0.09, ("hips", "torso", "skirt")),
  **_sides("fingertips", "fingers", 0.02, "hand"),
  **_sides("heel", "ankle", 0.025, "foot", offset=(0, -0.02, -0.02)),
  **_sides("toes", "toes", 0.02, "foot"),
}
"""Name -> landmark; the first 17 are COCO's, in COCO's order."""


def _mirror_name(name: str) -> str:
  swap = {"left": "right", "right": "left"}
  side, _, rest = name.partition("_")
  return f"{swap[side]}_{rest}" if side in swap else name


FLIPPED_LANDMARKS: np.ndarray = np.array([list(LANDMARKS).index(_mirror_name(name)) for name in LANDMARKS])
"""(L,): the landmark that each one becomes in the mirrored image; the first 17 entries serve COCO's joints."""


def place_landmarks(body: Body, positions: dict[str, np.ndarray], rotations: dict[str, np.ndarray]) -> np.ndarray:
  """Returns the landmarks of a posed body: (L, 3) meters, world frame."""
  head_size = body.stature * body.head
  return np.array(
    [
      positions[mark.joint]
      + rotations[mark.joint] @ np.array(mark.offset) * (head_size if mark.joint == "head" else body.stature)
      for mark in LANDMARKS.values()
    ]
  )
