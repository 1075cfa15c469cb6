"""The kinematic tree of the built-in people: joints, limits, proportions of one body, and random poses.

World frame: metres, y up, ground at y = 0; a body in rest pose looks along +z and its left side is at +x.
"""

import dataclasses
from typing import NamedTuple

import numpy as np


class Joint(NamedTuple):
  """One node of the tree.

  Attributes:
    parent: name of the joint it hangs on; None for the root.
    offset: from the parent in rest pose, as a fraction of the stature (x left, y up, z forward).
    flex: limits in degrees; positive brings what hangs or stands on the joint forward (hanging) or backward (standing).
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
      f"{name}_shoulder": Joint("chest", (sign * .108, .060, 0), (-60, 175), (-10, 170), (-70, 70)),
      f"{name}_elbow": Joint(f"{name}_shoulder", (sign * .004, -.172, 0), (0, 145), (0, 0), (-60, 60)),
      f"{name}_wrist": Joint(f"{name}_elbow", (0, -.150, 0), (-60, 60), (-20, 20)),
      f"{name}_fingers": Joint(f"{name}_wrist", (0, -.085, 0)),
      f"{name}_hip": Joint("pelvis", (sign * .052, -.020, 0), (-30, 120), (-15, 45), (-40, 40)),
      f"{name}_knee": Joint(f"{name}_hip", (0, -.240, 0), (-140, 0)),
      f"{name}_ankle": Joint(f"{name}_knee", (0, -.232, 0), (-40, 30)),
      f"{name}_toes": Joint(f"{name}_ankle", (sign * .008, -.026, .098)),
  }


JOINTS: dict[str, Joint] = {
    "pelvis": Joint(None, (0, 0, 0), (-20, 20), (-10, 10), (-180, 180)),
    "spine": Joint("pelvis", (0, .085, 0), (-50, 20), (-20, 20), (-30, 30)),
    "chest": Joint("spine", (0, .135, 0), (-25, 15), (-15, 15), (-25, 25)),
    "neck": Joint("chest", (0, .085, -.004), (-30, 25), (-20, 20), (-40, 40)),
    "head": Joint("neck", (0, .093, .008), (-25, 20), (-15, 15), (-40, 40)),
    **_side(1, "left"),
    **_side(-1, "right"),
}
"""Parents come before their children."""


@dataclasses.dataclass(frozen=True)
class Body:
  """The proportions of one identity.

  Attributes:
    stature: height in metres.
    shoulders: factor on the width of the shoulders.
    hips: factor on the width of the hips.
    legs: factor on the length of the legs; the trunk makes up for it.
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
    stature = float(np.clip(rng.normal(1.71, .10), 1.45, 1.98))
    return cls(stature, shoulders=rng.uniform(.86, 1.14), hips=rng.uniform(.88, 1.15), legs=rng.uniform(.95, 1.05),
               build=float(np.exp(rng.normal(0, .11))), head=rng.uniform(.94, 1.07) * (1.71 / stature) ** .6)

  def offset(self, name: str) -> np.ndarray:
    """Offset of a joint from its parent in rest pose: (3,) metres."""
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
"""joint -> (flex, abduct, twist) in degrees; a joint left out is at rest."""


def _within_limits(pose: Pose) -> Pose:
  return {name: tuple(float(np.clip(angle, *limits)) for angle, limits in zip(angles, JOINTS[name][2:]))
          for name, angles in pose.items()}


def sample_pose(rng: np.random.Generator) -> Pose:
  """A random pose of a person on a street: walking, standing, running, gesturing, with a phone, arms akimbo."""
  kind = rng.choice(["walk", "stand", "run", "gesture", "phone", "akimbo"], p=[.42, .22, .08, .12, .10, .06])
  jitter = lambda degrees: rng.normal(0, degrees)
  pose: Pose = {
      "pelvis": (jitter(2), jitter(2), 0.),
      "spine": (-abs(jitter(5)), jitter(3), jitter(6)),
      "chest": (jitter(4), jitter(3), jitter(6)),
      "neck": (jitter(7), jitter(4), jitter(15)),
      "head": (jitter(6), jitter(4), jitter(12)),
  }
  stride, phase = {"walk": rng.uniform(14, 30), "run": rng.uniform(35, 50)}.get(kind, 0.), rng.uniform(0, 2 * np.pi)
  for name, sign, shift in (("left", 1, 0.), ("right", -1, np.pi)):
    swing, lift = np.sin(phase + shift), max(0., np.cos(phase + shift))
    bend = 6 + lift * stride * 1.6 if stride else abs(jitter(7))
    pose[f"{name}_hip"] = (stride * swing + jitter(4) + bend * .3, 3 + abs(jitter(4)), jitter(8))
    pose[f"{name}_knee"] = (-bend, 0, 0)
    pose[f"{name}_ankle"] = (jitter(5) + bend * .25, 0, 0)
    elbow = rng.uniform(75, 105) if kind == "run" else rng.uniform(5, 40)
    pose[f"{name}_shoulder"] = (-stride * swing * .9 + jitter(6), 6 + abs(jitter(6)), jitter(10))
    pose[f"{name}_elbow"] = (elbow, 0, -sign * abs(jitter(15)))
    pose[f"{name}_wrist"] = (jitter(12), jitter(6), 0)
  arms = [side for side in ("left", "right") if rng.random() < .5] or [str(rng.choice(["left", "right"]))]
  for name in arms:
    inward = -1 if name == "left" else 1
    if kind == "gesture":
      pose[f"{name}_shoulder"] = (rng.uniform(-20, 150), rng.uniform(0, 100), inward * rng.uniform(-40, 30))
      pose[f"{name}_elbow"] = (rng.uniform(0, 130), 0, inward * rng.uniform(-30, 50))
    elif kind == "phone":
      pose[f"{name}_shoulder"] = (rng.uniform(15, 45), rng.uniform(0, 20), inward * rng.uniform(0, 30))
      pose[f"{name}_elbow"] = (rng.uniform(85, 140), 0, inward * rng.uniform(0, 30))
    elif kind == "akimbo":
      pose[f"{name}_shoulder"] = (rng.uniform(-30, -5), rng.uniform(35, 55), inward * rng.uniform(20, 40))
      pose[f"{name}_elbow"] = (rng.uniform(75, 100), 0, inward * rng.uniform(30, 60))
  return _within_limits(pose)


def _rotation(angles: tuple[float, float, float], mirrored: bool) -> np.ndarray:
  flex, abduct, twist = np.deg2rad(angles)
  if mirrored:
    abduct = -abduct
  cx, sx, cz, sz, cy, sy = np.cos(-flex), np.sin(-flex), np.cos(abduct), np.sin(abduct), np.cos(twist), np.sin(twist)
  about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
  about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
  about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
  return about_y @ about_z @ about_x


def place_joints(body: Body, pose: Pose) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Forward kinematics, with the lowest foot on the ground and the pelvis above the origin.

  Args:
    body: proportions.
    pose: joint angles, assumed within their limits.

  Returns:
    joint -> position (3,) in metres, and joint -> rotation (3, 3) from its rest frame, both in the world frame.
  """
  positions, rotations = {}, {}
  for name, joint in JOINTS.items():
    rotation = _rotation(pose.get(name, (0., 0., 0.)), mirrored=name.startswith("right"))
    if joint.parent is None:
      positions[name], rotations[name] = np.zeros(3), rotation
    else:
      parent = rotations[joint.parent]
      positions[name], rotations[name] = positions[joint.parent] + parent @ body.offset(name), parent @ rotation
  sole = .022 * body.stature
  lowest = min(positions[f"{side}_{end}"][1] for side in ("left", "right") for end in ("ankle", "toes")) - sole
  return {name: position - (0, lowest, 0) for name, position in positions.items()}, rotations
