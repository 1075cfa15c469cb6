"""COCO-WholeBody: 133 keypoints, which its JSON keeps in five lists for each person."""

from collections.abc import Mapping

import numpy as np

from input_pipeline.people.landmarks import COCO_JOINTS

FURTHER_JOINTS: dict[str, tuple[str, ...]] = {
  "foot": tuple(f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")),
  "face": tuple(f"face_{k}" for k in range(68)),
  "lefthand": tuple(f"left_hand_{k}" for k in range(21)),
  "righthand": tuple(f"right_hand_{k}" for k in range(21)),
}
"""List beside the body's 17 -> its joints: `foot_kpts` is "foot" in `more_keypoints`, and so on."""

WHOLE_BODY_JOINTS = (*COCO_JOINTS, *(joint for joints in FURTHER_JOINTS.values() for joint in joints))
"""The 133, in the order in which the data set counts them: body, feet, face, left hand, right hand."""

MIRRORED_FACE = {
  f"face_{left}": f"face_{right}"
  for left, right in (
    *((k, 16 - k) for k in range(8)),
    *((k, 43 - k) for k in range(17, 22)),
    (31, 35),
    (32, 34),
    *((k, 81 - k) for k in range(36, 40)),
    (40, 47),
    (41, 46),
    (48, 54),
    (49, 53),
    (50, 52),
    (55, 59),
    (56, 58),
    (60, 64),
    (61, 63),
    (65, 67),
  )
}
"""Points of the face that change places in the mirror image: of the outline, brows, nose, eyes and lips, in the order
of 300-W (Sagonas et al. 2016, figure 1)."""


def whole_body_names(legend: Mapping) -> tuple[str, ...]:
  """The landmarks of the whole body that a data set has: the 133, or of built-in people their own; () for none."""
  if "landmarks" in legend:
    return tuple(legend["landmarks"])
  lists = legend.get("joints")
  return WHOLE_BODY_JOINTS if isinstance(lists, Mapping) and lists.keys() & FURTHER_JOINTS.keys() else ()


def whole_body_points(facts: Mapping) -> np.ndarray:
  """Where the landmarks of the first person are, as named by `whole_body_names`.

  Args:
    facts: of an image, see records.py; where nobody is, nothing is known.

  Returns:
    (L, 3) x, y in pixels of the image and whether they are known, 1 or 0: of most nobody tells whether they are hidden.

  Raises:
    ValueError: a list has another number of joints than COCO-WholeBody's.
  """
  person = next(iter(facts.get("people") or ()), {})
  if "landmarks_xyz" in person:
    seen = np.array(facts["camera_matrix"]) @ np.array(person["landmarks_xyz"]).T
    return np.stack([*(seen[:2] / seen[2]), seen[2] > 0], axis=1)
  points = np.array(whole_body_keypoints(person), np.float64)
  points[:, 2] = points[:, 2] > 0
  return points


def whole_body_keypoints(person: Mapping) -> list[list[float]]:
  """The keypoints of a person in the order of `WHOLE_BODY_JOINTS`.

  Args:
    person: facts, with `keypoints` and `more_keypoints`; a list that is not there is all unknown.

  Returns:
    133 [x, y, v].

  Raises:
    ValueError: a list has another number of joints than this data set's.
  """
  found, more = [], person.get("more_keypoints", {})
  for name, count, points in (
    ("keypoints", len(COCO_JOINTS), person.get("keypoints")),
    *((name, len(joints), more.get(name)) for name, joints in FURTHER_JOINTS.items()),
  ):
    if points and len(points) != count:
      raise ValueError(f"a person has {len(points)} points in {name!r}; COCO-WholeBody has {count}")
    found += points or [[0.0, 0.0, 0]] * count
  return found
