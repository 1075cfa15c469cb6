"""The kinematic tree of the built-in people: joints and their limits, proportions of a body, forward kinematics.

World frame: meters, y up, ground at y = 0; a body in rest pose looks along +z and its left side is at +x.
"""

import dataclasses
from typing import NamedTuple

import numpy as np


class Joint(NamedTuple):
  """One node of the tree.

  Attributes:
    parent: name of the parent joint; None for the root.
    offset: from the parent in rest pose, as a fraction of the stature (x left, y up, z forward).
    flex: limits in degrees; positive moves a hanging child forward and a standing one backward.
    abduct: limits in degrees; positive moves a hanging limb away from the body's middle.
    twist: limits in degrees about the vertical of the rest pose; positive turns to the body's left.
  """

  parent: str | None
  offset: tuple[float, float, float]
  flex: tuple[float, float] = (0, 0)
  abduct: tuple[float, float] = (0, 0)
  twist: tuple[float, float] = (0, 0)


def _side(sign: int, name: str) -> dict[str, Joint]:
  return {
    f"{name}_shoulder": Joint("chest", (sign * 0.108, 0.060, 0), (-60, 175), (-10, 170), (-70, 70)),
    f"{name}_elbow": Joint(f"{name}_shoulder", (sign * 0.004, -0.172, 0), (0, 145), (0, 0), (-60, 60)),
    f"{name}_wrist": Joint(f"{name}_elbow", (0, -0.150, 0), (-60, 60), (-20, 20)),
    f"{name}_fingers": Joint(f"{name}_wrist", (0, -0.085, 0)),
    f"{name}_hip": Joint("pelvis", (sign * 0.052, -0.020, 0), (-30, 120), (-15, 45), (-40, 40)),
    f"{name}_knee": Joint(f"{name}_hip", (0, -0.240, 0), (-140, 0)),
    f"{name}_ankle": Joint(f"{name}_knee", (0, -0.232, 0), (-40, 30)),
    f"{name}_toes": Joint(f"{name}_ankle", (sign * 0.008, -0.026, 0.098)),
  }


JOINTS: dict[str, Joint] = {
  "pelvis": Joint(None, (0, 0, 0), (-20, 20), (-10, 10), (-180, 180)),
  "spine": Joint("pelvis", (0, 0.085, 0), (-50, 20), (-20, 20), (-30, 30)),
  "chest": Joint("spine", (0, 0.135, 0), (-25, 15), (-15, 15), (-25, 25)),
  "neck": Joint("chest", (0, 0.085, -0.004), (-30, 25), (-20, 20), (-40, 40)),
  "head": Joint("neck", (0, 0.093, 0.008), (-25, 20), (-15, 15), (-40, 40)),
  **_side(1, "left"),
  **_side(-1, "right"),
}
"""Parents come before their children."""


# Share of children among the bodies, and their greatest stature in meters; adults are taller.
_CHILDREN, _TALLEST_CHILD = 0.08, 1.40

SOLE = 0.022
"""Thickness of a sole as a fraction of the stature: heel and toes are that high above the ground."""

HEEL = (0.0, -0.026, -0.022)
"""From the ankle to the heel as a fraction of the stature: as low as the toes where the foot is flat."""


@dataclasses.dataclass(frozen=True)
class Body:
  """The proportions of one identity.

  Attributes:
    stature: height in meters.
    shoulders: factor on the width of the shoulders.
    hips: factor on the width of the hips.
    legs: factor on the length of the legs; the trunk compensates for it.
    build: factor on the thickness of trunk and limbs.
    head: factor on the size of the head.
  """

  stature: float
  shoulders: float
  hips: float
  legs: float
  build: float
  head: float

  @classmethod
  def sample(cls, rng: np.random.Generator) -> "Body":
    """Draws a body: mostly adults, some children (`_CHILDREN`), who have larger heads and shorter legs."""
    if rng.random() < _CHILDREN:
      stature = rng.uniform(1.05, _TALLEST_CHILD)
      return cls(
        stature,
        shoulders=rng.uniform(0.84, 1.0),
        hips=rng.uniform(0.86, 1.02),
        legs=rng.uniform(0.90, 0.97),
        build=float(np.exp(rng.normal(0, 0.09))),
        head=rng.uniform(0.94, 1.05) * (1.71 / stature) ** 0.6,
      )
    stature = float(np.clip(rng.normal(1.71, 0.10), 1.45, 1.98))
    return cls(
      stature,
      shoulders=rng.uniform(0.86, 1.14),
      hips=rng.uniform(0.88, 1.15),
      legs=rng.uniform(0.95, 1.05),
      build=float(np.exp(rng.normal(0, 0.11))),
      head=rng.uniform(0.94, 1.07) * (1.71 / stature) ** 0.6,
    )

  @property
  def child(self) -> bool:
    """Whether this is a child: `sample` draws no adult of such a stature."""
    return self.stature <= _TALLEST_CHILD

  def offset(self, name: str) -> np.ndarray:
    """Returns the offset of a joint from its parent in rest pose: (3,) meters."""
    x, y, z = JOINTS[name].offset
    if name.endswith("_shoulder"):
      x *= self.shoulders
    elif name.endswith("_hip"):
      x *= self.hips
    elif name.endswith(("_knee", "_ankle")):
      y *= self.legs
    elif name in ("spine", "chest"):
      y *= 2 - self.legs
    return np.array([x, y, z]) * self.stature


Pose = dict[str, tuple[float, float, float]]
"""joint -> (flex, abduct, twist) in degrees; joints left out are at rest."""


def _rotation(angles: tuple[float, float, float], mirrored: bool) -> np.ndarray:
  flex, abduct, twist = np.deg2rad(angles)
  if mirrored:
    abduct = -abduct
  cx, sx, cz, sz, cy, sy = np.cos(-flex), np.sin(-flex), np.cos(abduct), np.sin(abduct), np.cos(twist), np.sin(twist)
  about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
  about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
  about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
  return about_y @ about_z @ about_x


def place_joints(
  body: Body, pose: Pose, heading: float = 0.0, ground_xz: tuple[float, float] = (0.0, 0.0)
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Computes forward kinematics, with the lowest heel or toe on the ground.

  Args:
    body: proportions.
    pose: joint angles, assumed within their limits.
    heading: direction in which the body looks, radians: 0 along +z, positive turns to its left.
    ground_xz: point of the ground below the pelvis, meters.

  Returns:
    joint -> position (3,) in meters, and joint -> rotation (3, 3) from its rest frame, both in the world frame.
  """
  positions, rotations = {}, {}
  for name, joint in JOINTS.items():
    rotation = _rotation(pose.get(name, (0.0, 0.0, 0.0)), mirrored=name.startswith("right"))
    if joint.parent is None:
      positions[name] = np.zeros(3)
      rotations[name] = _rotation((0.0, 0.0, np.rad2deg(heading)), mirrored=False) @ rotation
    else:
      parent = rotations[joint.parent]
      positions[name], rotations[name] = positions[joint.parent] + parent @ body.offset(name), parent @ rotation
  heel = np.multiply(HEEL, body.stature)
  lowest = min(
    low
    for side in ("left", "right")
    for low in (positions[f"{side}_toes"][1], (positions[f"{side}_ankle"] + rotations[f"{side}_ankle"] @ heel)[1])
  )
  shift = np.array([ground_xz[0], SOLE * body.stature - lowest, ground_xz[1]])
  return {name: position + shift for name, position in positions.items()}, rotations
