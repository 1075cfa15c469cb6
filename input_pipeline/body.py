"""The body: names of joints, limbs, sides that change places in the mirror image, and sigmas of keypoints.

Everything here is plain data of published data sets, and the functions that read it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

COCO_JOINTS: tuple[str, ...] = (
  "nose",
  "left_eye",
  "right_eye",
  "left_ear",
  "right_ear",
  "left_shoulder",
  "right_shoulder",
  "left_elbow",
  "right_elbow",
  "left_wrist",
  "right_wrist",
  "left_hip",
  "right_hip",
  "left_knee",
  "right_knee",
  "left_ankle",
  "right_ankle",
)
"""The 17 joints of COCO (Lin et al. 2014), in its order."""

COCO_LIMBS: tuple[tuple[str, str], ...] = (
  ("left_ankle", "left_knee"),
  ("left_knee", "left_hip"),
  ("right_ankle", "right_knee"),
  ("right_knee", "right_hip"),
  ("left_hip", "right_hip"),
  ("left_shoulder", "left_hip"),
  ("right_shoulder", "right_hip"),
  ("left_shoulder", "right_shoulder"),
  ("left_shoulder", "left_elbow"),
  ("right_shoulder", "right_elbow"),
  ("left_elbow", "left_wrist"),
  ("right_elbow", "right_wrist"),
  ("left_eye", "right_eye"),
  ("nose", "left_eye"),
  ("nose", "right_eye"),
  ("left_eye", "left_ear"),
  ("right_eye", "right_ear"),
  ("left_ear", "left_shoulder"),
  ("right_ear", "right_shoulder"),
)
"""The skeleton of COCO: pairs of joints, in its order."""

FURTHER_JOINTS: dict[str, tuple[str, ...]] = {
  "foot": tuple(f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")),
  "face": tuple(f"face_{k}" for k in range(68)),
  "lefthand": tuple(f"left_hand_{k}" for k in range(21)),
  "righthand": tuple(f"right_hand_{k}" for k in range(21)),
}
"""List of COCO-WholeBody beside the 17 joints -> its joints; `foot_kpts` of a file is "foot" in `more_keypoints`."""

WHOLE_BODY_JOINTS = (*COCO_JOINTS, *(joint for joints in FURTHER_JOINTS.values() for joint in joints))
"""The 133 joints of COCO-WholeBody (Jin et al. 2020), in its order: body, feet, face, left hand, right hand."""

WHOLE_BODY_PARTS = {
  "body": slice(0, 17),
  "foot": slice(17, 23),
  "face": slice(23, 91),
  "left_hand": slice(91, 112),
  "right_hand": slice(112, 133),
  "whole": slice(0, 133),
}
"""Part of the whole body -> its joints in `WHOLE_BODY_JOINTS`."""

MPII_JOINTS = (
  "right_ankle",
  "right_knee",
  "right_hip",
  "left_hip",
  "left_knee",
  "left_ankle",
  "pelvis",
  "thorax",
  "upper_neck",
  "head_top",
  "right_wrist",
  "right_elbow",
  "right_shoulder",
  "left_shoulder",
  "left_elbow",
  "left_wrist",
)
"""The 16 joints of MPII (Andriluka et al. 2014), in the order of its files, which do not name them."""

MPII_ROWS = {
  "Head": (9,),
  "Shoulder": (12, 13),
  "Elbow": (11, 14),
  "Wrist": (10, 15),
  "Hip": (2, 3),
  "Knee": (1, 4),
  "Ankle": (0, 5),
}
"""Row of MPII's table of results -> its joints in `MPII_JOINTS`; pelvis and thorax are in none."""

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
"""Points of the face that change places in the mirror image: outline, brows, nose, eyes and lips, in the order of 300-W
(Sagonas et al. 2016, figure 1)."""


def _sigmas(*texts: str) -> np.ndarray:
  return np.array([float(number) for text in texts for number in text.split()])


_BODY_SIGMAS = "0.026 0.025 0.025 0.035 0.035 0.079 0.079 0.072 0.072 0.062 0.062 0.107 0.107 0.087 0.087 0.089 0.089"
_FOOT_SIGMAS = "0.068 0.066 0.066 0.092 0.094 0.094"
_FACE_SIGMAS = """0.042 0.043 0.044 0.043 0.040 0.035 0.031 0.025 0.020 0.023 0.029 0.032 0.037 0.038 0.043 0.041 0.045
  0.013 0.012 0.011 0.011 0.012 0.012 0.011 0.011 0.013 0.015 0.009 0.007 0.007 0.007 0.012 0.009 0.008
  0.016 0.010 0.017 0.011 0.009 0.011 0.009 0.007 0.013 0.008 0.011 0.012 0.010 0.034 0.008 0.008 0.009
  0.008 0.008 0.007 0.010 0.008 0.009 0.009 0.009 0.007 0.007 0.008 0.011 0.008 0.008 0.008 0.010 0.008"""
_HAND_SIGMAS = """0.029 0.022 0.035 0.037 0.047 0.026 0.025 0.024 0.035 0.018 0.024
  0.022 0.026 0.017 0.021 0.021 0.032 0.020 0.019 0.022 0.031"""

COCO_SIGMAS = _sigmas(_BODY_SIGMAS)
"""How far apart annotators place each of `COCO_JOINTS`, in units of the square root of the person's area (OKS)."""

WHOLE_BODY_SIGMAS = _sigmas(_BODY_SIGMAS, _FOOT_SIGMAS, _FACE_SIGMAS, _HAND_SIGMAS, _HAND_SIGMAS)
"""The same for `WHOLE_BODY_JOINTS` (Jin et al. 2020)."""

CROWDPOSE_SIGMAS = _sigmas("0.079 0.079 0.072 0.072 0.062 0.062 0.107 0.107 0.087 0.087 0.089 0.089 0.079 0.079")
"""The same for the 14 joints of CrowdPose (Li et al. 2019)."""

AIC_SIGMAS = _sigmas(
  "0.01388152 0.01515228 0.01057665 0.01417709 0.01497891 0.01402144 0.03909642",
  "0.03686941 0.01981803 0.03843971 0.03412318 0.02415081 0.01291456 0.01236173",
)
"""The same for the 14 joints of AI Challenger (Wu et al. 2017)."""


def whole_body_names(legend: Mapping) -> tuple[str, ...]:
  """Returns the landmarks of the whole body that a data set has: the 133, or those of built-in people; () for none."""
  if "landmarks" in legend:
    return tuple(legend["landmarks"])
  lists = legend.get("joints")
  return WHOLE_BODY_JOINTS if isinstance(lists, Mapping) and lists.keys() & FURTHER_JOINTS.keys() else ()


def whole_body_points(facts: Mapping) -> np.ndarray:
  """Returns the landmarks of the first person, in the order of `whole_body_names`.

  Args:
    facts: of an image, see records.py; without a person, no landmark is known.

  Returns:
    (L, 3) x, y in pixels of the image and 1 if they are known, else 0; whether they are hidden is mostly unspecified.

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
  """Returns the keypoints of a person in the order of `WHOLE_BODY_JOINTS`.

  Args:
    person: facts, with `keypoints` and `more_keypoints`; all keypoints of a missing list are unknown.

  Returns:
    133 [x, y, v].

  Raises:
    ValueError: a list has another number of joints than COCO-WholeBody's.
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


def flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
  """Returns the indices of joints or classes that change places in the mirror image.

  >>> flip_pairs(["nose", "left_eye", "right_eye"])
  ((1, 2),)

  Their names differ only in left and right, or are points of the face of COCO-WholeBody.
  """
  places = {name.lower(): place for place, name in enumerate(names)}
  other = lambda name: MIRRORED_FACE.get(name, name.replace("left", "right"))
  return tuple(
    (place, places[other(name)]) for name, place in places.items() if other(name) != name and other(name) in places
  )
