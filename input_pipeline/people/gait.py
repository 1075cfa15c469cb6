"""Walking and running, planned from the feet, which decide whether a walk looks right.

A standing foot moves straight backwards under the pelvis and rolls from heel to toes. Hip, knee and ankle follow by the
law of cosines. All lengths of the plan are fractions of the stature.
"""

from typing import NamedTuple

import numpy as np

from input_pipeline.people.skeleton import HEEL, JOINTS, SOLE

THIGH, SHIN = -JOINTS["left_knee"].offset[1], -JOINTS["left_ankle"].offset[1]

KEYS = 48
"""Poses stored per cycle; angles are interpolated between them."""

PHASE = np.arange(KEYS) / KEYS


class Gait(NamedTuple):
  """Parameters of a walking or running cycle.

  Attributes:
    stride: distance covered per cycle of two steps, in statures.
    duty: share of the cycle in which a foot stands on the ground.
    strike: pitch of the foot when it lands, degrees, toes up.
    push: pitch of the foot when it leaves the ground, degrees.
    lift: height of the sole in the middle of the swing, in statures.
    bob: how far the hips rise over the standing leg, as a share of the rise that would straighten it.
    reach: longest distance from hip to ankle while the foot stands, as a share of a straight leg.
    lean: forward lean of the trunk, degrees.
    swing: swing of the arms, degrees.
    elbows: bend of the elbows, degrees.
  """

  stride: float
  duty: float
  strike: float
  push: float
  lift: float
  bob: float
  reach: float
  lean: float
  swing: float
  elbows: float

  @classmethod
  def walking(cls, rng: np.random.Generator) -> "Gait":
    """Draws a random walk."""
    stride = rng.uniform(0.54, 0.80)
    return cls(
      stride,
      duty=rng.uniform(0.60, 0.64),
      strike=rng.uniform(10, 20),
      push=-rng.uniform(38, 52),
      lift=rng.uniform(0.018, 0.032),
      bob=rng.uniform(0.75, 1.0),
      reach=rng.uniform(0.990, 0.999),
      lean=rng.uniform(-1, 8),
      swing=rng.uniform(10, 36) * stride,
      elbows=rng.uniform(15, 35),
    )

  @classmethod
  def running(cls, rng: np.random.Generator) -> "Gait":
    """Draws a random run."""
    return cls(
      rng.uniform(1.1, 1.5),
      duty=rng.uniform(0.32, 0.38),
      strike=rng.uniform(0, 8),
      push=-rng.uniform(50, 65),
      lift=rng.uniform(0.06, 0.13),
      bob=0.0,
      reach=rng.uniform(0.97, 0.99),
      lean=rng.uniform(8, 18),
      swing=rng.uniform(28, 45),
      elbows=rng.uniform(75, 105),
    )


def eased(phase: np.ndarray, knots: tuple[tuple[float, float], ...]) -> np.ndarray:
  """Returns a curve through (phase, value) knots whose slope is zero at each knot."""
  places, values = np.array(knots, float).T
  i = np.clip(np.searchsorted(places, phase, side="right") - 1, 0, len(knots) - 2)
  share = np.clip((phase - places[i]) / (places[i + 1] - places[i]), 0, 1)
  return values[i] + share**2 * (3 - 2 * share) * (values[i + 1] - values[i])


def bent_leg(ahead: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the angles of thigh (against the vertical) and knee that place the ankle, in degrees.

  Args:
    ahead: how far the ankle is in front of the hip, in statures.
    below: how far the ankle is below the hip, in statures.
  """
  length = np.clip(np.hypot(below, ahead), 0.1, 0.998 * (THIGH + SHIN))
  thigh = np.arctan2(ahead, below) + np.arccos((THIGH**2 + length**2 - SHIN**2) / (2 * THIGH * length))
  knee = np.arccos((THIGH**2 + SHIN**2 - length**2) / (2 * THIGH * SHIN)) - np.pi
  return np.rad2deg(thigh), np.rad2deg(knee)


def _leg_angles(gait: Gait) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns thigh (against the vertical), knee and ankle: three (keys,) in degrees; the foot lands at phase 0."""
  phase, duty = PHASE, gait.duty
  swing = np.clip((phase - duty) / (1 - duty), 0, 1)
  landing = eased(phase, ((0.0, gait.strike), (0.14 * duty, 0.0)))
  pushing = gait.push * np.clip(2 * phase / duty - 1, 0, 1) ** 2.2
  flying = eased(swing, ((0.0, gait.push), (0.8, 0.0), (1.0, gait.strike)))
  stands = phase < duty
  pitch = np.deg2rad(np.where(stands, landing + pushing, flying))
  end, slope = gait.stride * duty / 2, 0.6 * min(gait.stride * (1 - duty), 0.4)
  through = end * (2 * swing**2 * (3 - 2 * swing) - 1) - slope * swing * (1 - swing) * (1 - 2 * swing)
  forward = np.where(stands, end - gait.stride * phase, through) - 0.075 * gait.stride
  # The foot rolls over its heel while the toes are up and over its toes while the heel is up.
  (_, low, back), (_, _, front) = HEEL, JOINTS["left_toes"].offset
  pivot = np.where(pitch > 0, back, front)
  ankle_z = forward + pivot - (pivot * np.cos(pitch) - low * np.sin(pitch))
  ankle_y = SOLE - (low * np.cos(pitch) + pivot * np.sin(pitch)) + gait.lift * (1 - (2 * swing - 1) ** 4)
  highest = np.sqrt(np.maximum((gait.reach * (THIGH + SHIN)) ** 2 - ankle_z**2, 0)) + ankle_y  # of the hips
  wave = -np.cos(4 * np.pi * (phase - duty / 2 + 0.27))  # up over the standing leg, down just after a landing
  hips = gait.bob * (highest[np.argmax(wave[stands])] - highest[0]) / 2 * wave
  hips += np.min((highest - hips)[stands])
  thigh, knee = bent_leg(ankle_z, hips - ankle_y)
  return thigh, knee, np.rad2deg(pitch) - thigh - knee


def gait_keys(rng: np.random.Generator, gait: Gait) -> dict[str, np.ndarray]:
  """Returns a cycle as joint -> (keys, 3) degrees; the left foot lands at phase 0, the right foot at 0.5."""
  thigh, knee, ankle = _leg_angles(gait)
  zero, landing = np.zeros(KEYS), np.cos(2 * np.pi * PHASE)
  turn = -rng.uniform(2, 6) * landing  # the pelvis turns with the front leg, the shoulders against it
  drop = rng.uniform(1, 3) * np.cos(
    2 * np.pi * (PHASE - gait.duty / 2)
  )  # the pelvis sinks on the side of the lifted foot
  tilt, toes_out, spread = rng.uniform(-5, 0), rng.uniform(-1, 4), rng.uniform(-2, 2)
  nod, glance = rng.normal(-2, 5), rng.normal(0, 12)
  keys = {
    "pelvis": (tilt + zero, drop, turn),
    "spine": (-tilt - gait.lean * 0.6 + zero, -drop * 0.8, -turn * 0.8),
    "chest": (-gait.lean * 0.4 + zero, -drop * 0.2, -turn),
    "neck": (gait.lean * 0.5 + nod + zero, zero, turn * 0.4 + glance),
    "head": (gait.lean * 0.3 + nod + zero, zero, turn * 0.4 + glance * 0.6),
  }
  ahead = -landing  # of the left arm
  hang = rng.uniform(3, 10)
  left = {
    "hip": (thigh - tilt, spread - drop, toes_out - turn),
    "knee": (knee, zero, zero),
    "ankle": (ankle, zero, zero),
    "shoulder": (gait.lean * 0.8 - 4 + gait.swing * ahead, hang + zero, rng.uniform(-18, 5) + zero),
    "elbow": (gait.elbows + gait.swing * 0.5 * ahead, zero, rng.uniform(-30, 0) + zero),
    "wrist": (rng.uniform(-5, 20) + zero, zero, zero),
  }
  keys = {name: np.stack(angles, 1) for name, angles in keys.items()}
  for name, angles in left.items():
    keys[f"left_{name}"] = np.stack(angles, 1)
    keys[f"right_{name}"] = np.roll(keys[f"left_{name}"], KEYS // 2, axis=0) * (1, 1, -1)
  return keys
