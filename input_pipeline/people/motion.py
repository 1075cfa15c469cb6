"""Poses and motions of the built-in people: still poses, and cycles of walking and reaching for clips."""

import dataclasses

import numpy as np

from input_pipeline.people.gait import KEYS, PHASE, SHIN, THIGH, Gait, bent_leg, eased, gait_keys
from input_pipeline.people.skeleton import JOINTS, Pose

_SIDES = ("left", "right")
_HALF_PELVIS = JOINTS["left_hip"].offset[0]
_TYPICAL_STATURE = 1.7

# Poses of a left arm: shoulder flex, abduct and twist, elbow flex and twist, wrist flex and abduct, in degrees. A
# search found the angles that bring wrist, fingers and elbow to given points around the trunk.
_ARM_POSES: dict[str, tuple[float, ...]] = {
  "akimbo": (-24, 42, -30, 92, -38, 0, 10),
  "pocket": (-24, 7, -53, 55, 0, -9, 0),
  "phone": (9, 14, -28, 111, 0, 6, 0),
  "call": (62, -6, 29, 145, -44, 16, 7),
  "carry": (4, 12, -22, 87, 0, 2, -13),
  "strap": (0, 19, -24, 132, 0, 45, -13),
  "chin": (32, 25, -28, 125, 0, 29, -4),
  "behind": (-27, -8, -42, 51, -43, 38, -6),
  "wave": (83, 73, 70, 110, 59, -25, 20),
  "hail": (139, 0, 70, 62, -6, -21, 4),
  "under": (-3, 25, -68, 103, 0, 8, -14),  # the two arms of a crossed pair
  "over": (4, 29, -64, 108, 0, 2, -20),
}
_LOOKING_DOWN = ("phone",)

# Actions of the arms while the legs stand or walk: (weight, left arm, right arm); "swing" keeps the arm of the gait or
# stance. Each may be mirrored.
_STANDING_ACTIONS = (
  (0.24, "swing", "swing"),
  (0.15, "gesture", "swing"),
  (0.06, "gesture", "gesture"),
  (0.09, "phone", "swing"),
  (0.04, "phone", "phone"),
  (0.05, "call", "swing"),
  (0.06, "akimbo", "akimbo"),
  (0.03, "akimbo", "swing"),
  (0.06, "over", "under"),
  (0.06, "pocket", "pocket"),
  (0.04, "pocket", "swing"),
  (0.03, "carry", "carry"),
  (0.03, "wave", "swing"),
  (0.01, "hail", "swing"),
  (0.02, "strap", "swing"),
  (0.01, "chin", "under"),
  (0.02, "behind", "behind"),
)
_WALKING_ACTIONS = (
  (0.70, "swing", "swing"),
  (0.07, "phone", "swing"),
  (0.04, "call", "swing"),
  (0.06, "pocket", "pocket"),
  (0.05, "pocket", "swing"),
  (0.04, "carry", "carry"),
  (0.03, "strap", "swing"),
  (0.01, "wave", "swing"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
  """One walking or reaching cycle with its own style.

  Attributes:
    kind: "walk" or "reach".
    period: seconds per cycle.
    speed: of the pelvis along the heading for a body of 1.7 m, meters per second; it scales with the stature.
    keys: (keys, joints, 3) degrees: poses at equal steps of the period, joints in the order of JOINTS.
  """

  kind: str
  period: float
  speed: float
  keys: np.ndarray

  @classmethod
  def sample(cls, rng: np.random.Generator) -> "Motion":
    """Draws a random cycle."""
    if rng.random() < 0.6:
      gait = Gait.walking(rng)
      period = 1.08 * (0.75 / gait.stride) ** 0.5 * rng.uniform(0.93, 1.07)  # longer steps are also quicker
      keys = gait_keys(rng, gait)
      _add_arm_action(rng, keys, _WALKING_ACTIONS, tremble=2.0)
      return cls("walk", period, gait.stride * _TYPICAL_STATURE / period, _as_array(keys))
    rest, there = _sample_reach(rng)
    along = eased(PHASE, ((0.0, 0.0), (0.40, 1.0), (0.50, 1.0), (0.92, 0.0), (1.0, 0.0)))[:, None]
    keys = rest | {name: rest[name] + along * (angles - rest[name]) for name, angles in there.items()}
    return cls("reach", rng.uniform(1.6, 2.8), 0.0, _as_array(keys))

  def pose(self, time: float) -> Pose:
    """Returns the pose at a time in seconds; it is continuous and repeats after every `period`."""
    place = time / self.period % 1 * len(self.keys)
    before = int(place) % len(self.keys)
    share = place - int(place)
    angles = (1 - share) * self.keys[before] + share * self.keys[(before + 1) % len(self.keys)]
    return {name: tuple(row) for name, row in zip(JOINTS, angles.tolist())}


def sample_pose(rng: np.random.Generator) -> Pose:
  """Draws a pose of a person on a street: walking, standing busy or idle, running, reaching, bending, crouching."""
  kind = rng.choice(["walk", "stand", "run", "reach", "crouch"], p=[0.42, 0.42, 0.07, 0.06, 0.03])
  if kind in ("walk", "run"):
    gait = Gait.walking(rng) if kind == "walk" else Gait.running(rng)
    instant = rng.integers(KEYS)
    pose = {name: angles[instant] for name, angles in gait_keys(rng, gait).items()}
    if kind == "walk":
      _add_arm_action(rng, pose, _WALKING_ACTIONS, tremble=5.0)
  elif kind == "reach":
    rest, there = _sample_reach(rng)
    share = rng.uniform(0.4, 1)
    pose = rest | {name: rest[name] + share * (angles - rest[name]) for name, angles in there.items()}
  else:
    pose = _standing(rng)
    if kind == "crouch":
      _crouch(rng, pose)
    else:
      _add_arm_action(rng, pose, _STANDING_ACTIONS, tremble=6.0)
  for name, angles in pose.items():
    if not name.endswith(("_hip", "_knee", "_ankle")) and name != "pelvis":  # the feet keep their planned places
      pose[name] = angles + rng.normal(0, 2, 3)
  return {name: tuple(row) for name, row in zip(JOINTS, _as_array(pose).tolist())}


def _as_array(angles: dict[str, np.ndarray]) -> np.ndarray:
  """Returns angles as (..., joints, 3), clipped to the joints' limits; joints left out are at rest."""
  shape = np.broadcast_shapes(*(np.shape(row) for row in angles.values()))
  rows = [np.broadcast_to(angles.get(name, (0.0, 0.0, 0.0)), shape) for name in JOINTS]
  limits = np.array([joint[2:] for joint in JOINTS.values()], float)
  return np.clip(np.stack(rows, -2), limits[..., 0], limits[..., 1])


def _add_arm_action(rng: np.random.Generator, pose: dict, actions: tuple, tremble: float) -> None:
  """Draws an action of the arms and adds it to a pose or a cycle, in place; `tremble` varies it, in degrees."""
  weights = np.array([weight for weight, _, _ in actions])
  _, *hands = actions[rng.choice(len(actions), p=weights / weights.sum())]
  if rng.random() < 0.5:
    hands = hands[::-1]
  for side, action in zip(_SIDES, hands):
    if action == "gesture":
      angles = np.array(
        [
          rng.uniform(-10, 100),
          rng.uniform(0, 70),
          rng.uniform(-30, 35),
          rng.uniform(5, 110),
          rng.uniform(-45, 25),
          rng.normal(0, 15),
          rng.normal(0, 8),
        ]
      )
    elif action != "swing":
      angles = np.array(_ARM_POSES[action]) + rng.normal(0, tremble, 7)
    else:
      continue
    mirror = 1 if side == "left" else -1
    pose[f"{side}_shoulder"] = angles[:3] * (1, 1, mirror)
    pose[f"{side}_elbow"] = np.array([angles[3], 0, angles[4] * mirror])
    pose[f"{side}_wrist"] = np.array([angles[5], angles[6], 0])
  if any(action in _LOOKING_DOWN for action in hands) and rng.random() < 0.8:
    down = rng.uniform(8, 20, 2)
    for name, angle in zip(("neck", "head"), down):
      pose[name] = pose[name] * (0, 1, 0.4) - (angle, 0, 0)


def _standing(rng: np.random.Generator) -> dict[str, np.ndarray]:
  """Draws a stance with the weight on one leg; the pelvis sinks on the other side so that both feet are down."""
  busy, idle = _SIDES if rng.random() < 0.5 else _SIDES[::-1]
  straight = rng.normal(0, 2)
  forward = rng.uniform(-5, 14)
  thigh = {busy: straight, idle: forward + rng.uniform(0, 10)}
  shin = {busy: straight - abs(rng.normal(0, 2)), idle: forward - rng.uniform(0, 12)}
  shin[idle] = min(shin[idle], thigh[idle])
  return _on_both_feet(rng, thigh, shin)


def _on_both_feet(rng, thigh: dict[str, float], shin: dict[str, float]) -> dict[str, np.ndarray]:
  """Draws a standing pose from the legs' angles against the vertical in degrees, positive forward."""
  height = {side: THIGH * np.cos(np.deg2rad(thigh[side])) + SHIN * np.cos(np.deg2rad(shin[side])) for side in _SIDES}
  drop = np.rad2deg(np.arcsin(np.clip((height["left"] - height["right"]) / (2 * _HALF_PELVIS), -0.15, 0.15)))
  tilt, spread = rng.uniform(-4, 2), rng.uniform(0, 7)
  trunk_turn, glance = rng.normal(0, 5), rng.normal(0, 16)
  pose = {
    "pelvis": (tilt, drop, 0),
    "spine": (-tilt - rng.normal(2, 3), -drop * 1.2, trunk_turn),
    "chest": (rng.normal(0, 3), drop * 0.2, trunk_turn),
    "neck": (rng.normal(-2, 6), rng.normal(0, 3), glance),
    "head": (rng.normal(-2, 5), rng.normal(0, 3), glance * 0.6),
  }
  hang, elbows = rng.uniform(3, 11), rng.uniform(5, 30)
  for side, mirror in zip(_SIDES, (1, -1)):
    pose[f"{side}_hip"] = (thigh[side] - tilt, spread - drop * mirror, rng.uniform(0, 16) * mirror)
    pose[f"{side}_knee"] = (shin[side] - thigh[side], 0, 0)
    pose[f"{side}_ankle"] = (-shin[side], 0, 0)
    pose[f"{side}_shoulder"] = (rng.normal(-2, 5), hang + rng.normal(0, 2), rng.uniform(-25, 10) * mirror)
    pose[f"{side}_elbow"] = (elbows + abs(rng.normal(0, 5)), 0, rng.uniform(-30, 0) * mirror)
    pose[f"{side}_wrist"] = (rng.uniform(-5, 20), 0, 0)
  return {name: np.array(angles, float) for name, angles in pose.items()}


def _crouch(rng: np.random.Generator, pose: dict[str, np.ndarray]) -> None:
  """Bends the knees of a standing pose far down, in place: heels off the ground, arms on the thighs."""
  depth, fold = rng.uniform(35, 66), rng.uniform(10, 45)
  pose["pelvis"] = np.array([-15.0, 0, 0])
  pose["spine"], pose["chest"] = np.array([-fold * 0.7, 0, 0]), np.array([-fold * 0.3, 0, 0])
  pose["neck"] = pose["neck"] + (fold * 0.4, 0, 0)
  for side in _SIDES:
    pose[f"{side}_hip"] = pose[f"{side}_hip"] * (0, 1, 1) + (depth + 15, 6, 0)
    pose[f"{side}_knee"], pose[f"{side}_ankle"] = np.array([-2 * depth, 0, 0]), np.array([0.45 * depth, 0, 0])
    pose[f"{side}_shoulder"] = np.array([rng.uniform(40, 75), rng.uniform(0, 15), 0])
    pose[f"{side}_elbow"] = np.array([rng.uniform(20, 80), 0, 0])


def _sample_reach(rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Draws a stance, and the joints that differ when one or both hands are at their target: up, ahead, aside or down."""
  rest = _standing(rng)
  hands = [("left",), ("right",), _SIDES][rng.choice(3, p=[0.35, 0.35, 0.3])]
  where = rng.choice(["up", "ahead", "aside", "down"] if len(hands) == 1 else ["up", "ahead", "down"])
  flex, abduct, lean, gaze = {
    "up": ((120, 160), (0, 20), (-8, 2), 12),
    "ahead": ((60, 105), (-5, 20), (2, 20), -6),
    "aside": ((10, 60), (50, 90), (-2, 8), 0),
    "down": ((50, 85), (-5, 12), (50, 75), 5),
  }[str(where)]
  lean, sink = rng.uniform(*lean), rng.uniform(0.005, 0.035) if where == "down" else 0.0
  aside = 0.0 if len(hands) == 2 else rng.uniform(5, 15) * (1 if hands[0] == "left" else -1)
  aside *= 1.5 if where == "aside" else -1  # the reaching shoulder comes forward, or the chest turns to the target
  tilt = min(0.1 * max(lean, 0.0), 6)
  there = {
    "pelvis": rest["pelvis"] - (tilt, 0, 0),
    "spine": rest["spine"] + (-(lean - tilt) * 0.7, 0, aside),
    "chest": rest["chest"] + (-(lean - tilt) * 0.3, 0, aside),
    "neck": rest["neck"] * 0.3 + (gaze, 0, 0),
    "head": rest["head"] * 0.3 + (gaze, 0, aside * 0.7 if where == "aside" else 0),
  }
  for side in _SIDES:  # the hips sink, the ankles stay in place
    flex_rest = np.deg2rad(rest["pelvis"][0] + rest[f"{side}_hip"][0])
    bones = np.array([flex_rest, flex_rest + np.deg2rad(rest[f"{side}_knee"][0])])
    thigh, knee = bent_leg(np.sin(bones) @ (THIGH, SHIN), np.cos(bones) @ (THIGH, SHIN) - sink)
    there[f"{side}_hip"] = rest[f"{side}_hip"] * (0, 1, 1) + (thigh - there["pelvis"][0], 0, 0)
    there[f"{side}_knee"], there[f"{side}_ankle"] = np.array([knee, 0, 0]), np.array([-thigh - knee, 0, 0])
  target = rng.uniform(*flex), rng.uniform(*abduct), rng.uniform(-15, 15)
  elbow = rng.uniform(0, 35)
  for side in hands:
    mirror = 1 if side == "left" else -1
    there[f"{side}_shoulder"] = np.array(target) * (1, 1, mirror)
    there[f"{side}_elbow"] = np.array([elbow, 0, 0])
    there[f"{side}_wrist"] = np.array([rng.normal(0, 10), 0, 0])
  if where == "down" and len(hands) == 1:  # the other hand rests on the thigh
    other = _SIDES[1 - _SIDES.index(hands[0])]
    there[f"{other}_shoulder"] = np.array([lean * 0.6, 12.0, 0.0])
  return rest, there
