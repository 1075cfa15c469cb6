"""COCO-WholeBody: 133 keypoints, which its JSON keeps in five lists for each person."""

from collections.abc import Mapping

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
  for name, count, points in (("keypoints", len(COCO_JOINTS), person.get("keypoints")),
                              *((name, len(joints), more.get(name)) for name, joints in FURTHER_JOINTS.items())):
    if points and len(points) != count:
      raise ValueError(f"a person has {len(points)} points in {name!r}; COCO-WholeBody has {count}")
    found += points or [[0.0, 0.0, 0]] * count
  return found
