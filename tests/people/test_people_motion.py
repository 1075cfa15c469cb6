"""Bodies, poses and cycles: within the joints' limits, standing feet that do not slide, children as declared."""

import numpy as np
from hypothesis import given, settings, strategies as st

from input_pipeline.people.motion import Motion, sample_pose
from input_pipeline.people.skeleton import HEEL, JOINTS, SOLE, Body, place_joints

SIDES = ("left", "right")
TYPICAL = Body(1.7, shoulders=1.0, hips=1.0, legs=1.0, build=1.0, head=1.0)

seeds = st.integers(0, 100_000)


def _cycle(seed, kind):
  rng = np.random.default_rng(seed)
  while True:
    motion = Motion.sample(rng)
    if motion.kind == kind:
      return motion


def _soles(body, pose, ground_xz=(0.0, 0.0)):
  """Heel and toes of the left, then of the right foot: (4, 3) meters, the sole's lower face."""
  positions, rotations = place_joints(body, pose, 0.0, ground_xz)
  down = np.array([0, SOLE * body.stature, 0])
  return np.stack(
    [
      point - down
      for side in SIDES
      for point in (
        positions[f"{side}_ankle"] + rotations[f"{side}_ankle"] @ np.multiply(HEEL, body.stature),
        positions[f"{side}_toes"],
      )
    ]
  )


def _assert_within_limits(pose):
  for name, angles in pose.items():
    for angle, (low, high) in zip(angles, JOINTS[name][2:]):
      assert low <= angle <= high, name


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_still_poses_keep_to_the_limits_and_stand_on_the_ground(seed):
  rng = np.random.default_rng(seed)
  body, pose = Body.sample(rng), sample_pose(rng)
  _assert_within_limits(pose)
  assert abs(_soles(body, pose)[:, 1].min()) < 1e-9
  again = np.random.default_rng(seed)
  assert Body.sample(again) == body and sample_pose(again) == pose


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(-5, 50))
def test_cycles_keep_to_the_limits_are_continuous_and_repeat(seed, time):
  motion = Motion.sample(np.random.default_rng(seed))
  pose, soon, later = (motion.pose(t) for t in (time, time + 1e-4, time + 3 * motion.period))
  _assert_within_limits(pose)
  for name, angles in pose.items():
    np.testing.assert_allclose(angles, later[name], atol=1e-6)
    np.testing.assert_allclose(angles, soon[name], atol=0.3)  # no joint turns faster than 3000 degrees per second


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_the_standing_foot_of_a_walk_does_not_slide(seed):
  """The lowest point of the soles stays in place while the pelvis moves at the declared speed."""
  motion, step = _cycle(seed, "walk"), 0.01
  assert 0.5 < motion.speed < 2 and 0.8 < motion.period < 1.5
  times = np.arange(0, motion.period, step)
  soles = np.stack([_soles(TYPICAL, motion.pose(t), (0.0, motion.speed * t)) for t in times])
  rows, lowest = np.arange(len(times) - 1), soles[:-1, :, 1].argmin(1)
  slid = (soles[rows + 1, lowest] - soles[rows, lowest])[:, [0, 2]]
  assert np.linalg.norm(slid, axis=1).mean() / step < 0.15 * motion.speed


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_a_walk_takes_two_steps_with_bent_knees_and_swings(seed):
  motion = _cycle(seed, "walk")
  poses = [motion.pose(t) for t in np.linspace(0, motion.period, 60, endpoint=False)]
  ahead = [place_joints(TYPICAL, pose)[0] for pose in poses]
  gap = np.array([positions["left_ankle"][2] - positions["right_ankle"][2] for positions in ahead])
  assert 0.25 < gap.max() < 0.9 and 0.25 < -gap.min() < 0.9
  np.testing.assert_allclose(gap, -np.roll(gap, 30), atol=0.02)  # the right leg does the same half a period later
  knees = np.array([pose["left_knee"][0] for pose in poses])
  assert knees.max() > -30 and knees.min() < -35
  height = np.array([positions["pelvis"][1] for positions in ahead])
  assert 0.003 < np.ptp(height) < 0.08


def test_arms_swing_against_the_legs():
  agreement = []
  for seed in range(30):
    poses = [_cycle(seed, "walk").pose(t) for t in np.linspace(0, 1, 20)]
    arm, leg = (np.array([pose[name][0] for pose in poses]) for name in ("left_shoulder", "left_hip"))
    if np.ptp(arm) > 1:  # else the hand is busy
      agreement.append(np.corrcoef(arm, leg)[0, 1])
  assert len(agreement) > 15 and max(agreement) < -0.5


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_a_reach_goes_out_and_back_on_still_feet(seed):
  motion = _cycle(seed, "reach")
  assert motion.speed == 0
  placed = [place_joints(TYPICAL, motion.pose(t))[0] for t in np.linspace(0, motion.period, 24, endpoint=False)]
  way = {name: max(np.linalg.norm(positions[name] - placed[0][name]) for positions in placed) for name in JOINTS}
  assert max(way["left_wrist"], way["right_wrist"]) > 0.2
  assert way["left_toes"] < 0.03 and way["right_toes"] < 0.03
  there, back = (np.abs(placed[i]["head"] - placed[0]["head"]).max() for i in (11, 23))
  assert back <= there


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(-7, 7), st.floats(-30, 30), st.floats(-30, 30))
def test_heading_and_place_move_the_body_as_a_whole(seed, heading, x, z):
  rng = np.random.default_rng(seed)
  body, pose = Body.sample(rng), sample_pose(rng)
  positions, rotations = place_joints(body, pose)
  moved, turned = place_joints(body, pose, heading, (x, z))
  cos, sin = np.cos(heading), np.sin(heading)
  turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])  # takes +z, where the body looks, to its left, +x
  for name in JOINTS:
    np.testing.assert_allclose(moved[name], turn @ positions[name] + (x, 0, z), atol=1e-9)
    np.testing.assert_allclose(turned[name], turn @ rotations[name], atol=1e-9)
  np.testing.assert_allclose(moved["pelvis"][[0, 2]], (x, z), atol=1e-12)


def test_some_bodies_are_children():
  rng = np.random.default_rng(0)
  bodies = [Body.sample(rng) for _ in range(3000)]
  children, adults = ([body for body in bodies if body.child == child] for child in (True, False))
  assert 0.06 < len(children) / len(bodies) < 0.10
  assert all(1.05 <= body.stature <= 1.40 for body in children) and min(b.stature for b in adults) >= 1.45
  assert np.mean([b.head for b in children]) > 1.1 > np.mean([b.head for b in adults])
  assert max(b.legs for b in children) < np.mean([b.legs for b in adults])
