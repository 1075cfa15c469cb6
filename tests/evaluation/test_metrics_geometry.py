"""Joints in images and in space, and depths: known answers, peers of scipy, and invariances."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.spatial.transform import Rotation

from input_pipeline.body import MPII_ROWS
from saip_jax.evaluation.metrics.depth import evaluate_depth
from saip_jax.evaluation.metrics.pck import evaluate_mpii, keypoint_scores
from saip_jax.evaluation.metrics.pose3d import evaluate_pose3d, procrustes


def test_keypoints_count_where_they_are_visible_in_heights_of_their_crop():
  true = np.zeros((2, 3, 2))
  predicted = np.array([[[3.0, 4.0], [0.0, 10.0], [99.0, 99.0]], [[0.0, 0.0], [12.0, 16.0], [np.nan, 0.0]]])
  visible = np.array([[True, True, False], [True, True, False]])
  found = keypoint_scores(predicted, true, visible, np.array([100, 100]))  # 0.05, 0.1, 0, 0.2
  assert found.error == pytest.approx(0.0875) and found.pck == {0.05: 0.5, 0.1: 0.75} and found.joints == 4
  assert keypoint_scores(predicted, true, visible, np.array([100, 400])).error == pytest.approx(0.05)


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(predicted_xy=np.zeros((2, 3, 3))), "(2, 3, 3)"),
    (dict(visible=np.zeros((2, 3), bool)), "none of the 6 joints"),
    (dict(visible=np.ones((2, 3))), "float64 (2, 3)"),
    (dict(heights=np.ones(3)), "heights (3,)"),
    (dict(heights=np.zeros(2)), "positive heights"),
  ],
)
def test_wrong_keypoints_are_one_line(change, words):
  arguments = (
    dict(
      predicted_xy=np.ones((2, 3, 2)), true_xy=np.zeros((2, 3, 2)), visible=np.ones((2, 3), bool), heights=np.ones(2)
    )
    | change
  )
  with (
    pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")) as caught,
    np.errstate(divide="ignore"),
  ):
    keypoint_scores(**arguments)
  assert "\n" not in str(caught.value)


def _mpii(seed, n=30):
  rng = np.random.default_rng(seed)
  true = rng.uniform(0, 300, (n, 16, 2))
  corner = rng.uniform(0, 50, (n, 2))
  heads = np.concatenate([corner, corner + rng.uniform(20, 60, (n, 2))], 1)
  return true + rng.normal(scale=15, size=true.shape), true, rng.random((n, 16)) < 0.8, heads


@pytest.mark.parametrize("seed", range(3))
def test_mpii_is_counted_joint_by_joint(seed):
  predicted, true, visible, heads = _mpii(seed)
  hits, counts = np.zeros((2, 16)), np.zeros(16)
  for n in range(30):
    size = 0.6 * np.hypot(heads[n, 2] - heads[n, 0], heads[n, 3] - heads[n, 1])
    for j in range(16):
      if visible[n, j]:
        distance = np.hypot(*(predicted[n, j] - true[n, j])) / size
        counts[j] += 1
        hits[:, j] += distance <= 0.5, distance <= 0.1
  share, kept = hits / counts, [j for j in range(16) if j not in (6, 7)]
  found = evaluate_mpii(predicted, true, visible, heads)
  weights = counts[kept] / counts[kept].sum()  # the published mean: over joints, by how often they are visible
  assert found.PCKh == pytest.approx((share[0, kept] * weights).sum())
  assert found.PCKh01 == pytest.approx((share[1, kept] * weights).sum())
  assert found.by_joint["Head"] == pytest.approx(share[0, 9])
  assert found.by_joint["Elbow"] == pytest.approx((share[0, 11] + share[0, 14]) / 2)
  assert sorted(sum(MPII_ROWS.values(), ())) == sorted({*kept} - {8}) and found.joints == counts[kept].sum()


def test_mpii_leaves_hidden_joints_unread_and_says_what_nobody_shows():
  predicted, true, visible, heads = _mpii(0)
  visible[:, 9] = False
  before = evaluate_mpii(predicted, true, visible, heads)
  predicted[~visible] = np.nan
  assert evaluate_mpii(predicted, true, visible, heads).PCKh == before.PCKh and np.isnan(before.by_joint["Head"])
  assert evaluate_mpii(true, true, visible, heads).PCKh01 == 1
  point = np.where(np.arange(30)[:, None] == 7, 3.0, heads)
  with pytest.raises(ValueError, match=r"head_boxes_xyxy\[7\] is \[3.0, 3.0, 3.0, 3.0\]"):
    evaluate_mpii(true, true, visible, point)
  with pytest.raises(ValueError, match="neither the pelvis nor the thorax"):
    evaluate_mpii(true, true, np.arange(16) == np.full((30, 1), 6), heads)
  with pytest.raises(ValueError, match=r"\(30, 17, 2\).*joints of MPII"):
    evaluate_mpii(np.zeros((30, 17, 2)), np.zeros((30, 17, 2)), np.ones((30, 17), bool), heads)
  with pytest.raises(ValueError, match=r"head_boxes_xyxy has the shape \(3, 4\)"):
    evaluate_mpii(predicted, true, visible, heads[:3])


def test_errors_in_space_worked_out_by_hand():
  true = np.array([[[0.0, 0, 0], [100, 0, 0], [0, 100, 0]]])
  predicted = true + [5, 5, 5]  # a shift is the root's
  predicted[0, 1] += [0, 0, 30]
  found = evaluate_pose3d(predicted, true, root=(0,))
  assert found.MPJPE == pytest.approx(10) and found.by_joint == pytest.approx((0, 30, 0)) and found.PA_MPJPE < 10
  assert evaluate_pose3d(predicted, true, root=(0, 1)).by_joint == pytest.approx((15, 15, 15))
  turned = true @ Rotation.from_euler("xyz", [30, 40, 50], degrees=True).as_matrix().T * 2
  assert evaluate_pose3d(turned, true, root=(0,)).PA_MPJPE == pytest.approx(0, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 17), st.floats(0.1, 10))
def test_procrustes_is_the_best_similarity_without_mirroring(seed, joints, factor):
  rng = np.random.default_rng(seed)
  places, targets = rng.normal(size=(2, 4, joints, 3)) * 100
  found = procrustes(places, targets)
  for k in range(4):
    x, y = places[k] - places[k].mean(0), targets[k] - targets[k].mean(0)
    turned = Rotation.align_vectors(y, x)[0].apply(x)
    best = (turned * y).sum() / (x**2).sum() * turned + targets[k].mean(0)
    np.testing.assert_allclose(found[k], best, atol=1e-6)
  turns = Rotation.random(4, random_state=seed).as_matrix()
  similar = factor * places @ turns + rng.normal(size=(4, 1, 3))
  np.testing.assert_allclose(procrustes(similar, targets), found, atol=1e-6)
  mirrored = targets * [-1, 1, 1]
  if joints > 3:  # three points mirror themselves
    assert np.linalg.norm(procrustes(mirrored, targets) - targets) > 1


def test_persons_drawn_to_a_point_are_no_error():
  true = np.arange(12.0).reshape(1, 4, 3)
  np.testing.assert_allclose(procrustes(np.zeros((1, 4, 3)), true), true.mean(1, keepdims=True).repeat(4, 1))


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(predicted_mm=np.zeros((2, 4, 2))), r"\(2, 4, 2\) and \(2, 5, 3\)"),
    (dict(true_mm=np.full((2, 5, 3), np.nan)), r"true_mm\[0\] is not finite"),
    (dict(root=()), r"root is \[\]"),
    (dict(root=(5,)), r"root is \[5\]: expected at least one of the 5 joints"),
  ],
)
def test_wrong_places_are_one_line(change, words):
  arguments = dict(predicted_mm=np.ones((2, 5, 3)), true_mm=np.zeros((2, 5, 3)), root=(0,)) | change
  with pytest.raises(ValueError, match=words) as caught:
    evaluate_pose3d(**arguments)
  assert "\n" not in str(caught.value)


def test_depth_worked_out_by_hand():
  true, predicted = np.array([[1.0, 2.0], [4.0, 0.0]]), np.array([[1.2, 2.5], [-1.0, np.nan]])
  found = evaluate_depth(predicted, true, true > 0)
  assert found.abs_rel == pytest.approx((0.2 + 0.25 + 1.25) / 3) and found.pixels == 3
  assert found.rmse == pytest.approx(np.sqrt((0.04 + 0.25 + 25) / 3))
  assert found.delta1 == pytest.approx(1 / 3)  # 1.25 itself is outside
  exact = evaluate_depth(true, true, true > 0)
  assert (exact.abs_rel, exact.rmse, exact.delta1) == (0, 0, 1)


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(known=np.zeros(3, bool)), "none of the 3 depths is known"),
    (dict(known=np.ones(3)), "float64"),
    (dict(true=np.zeros(3)), "true ones above 0"),
    (dict(predicted=np.full(3, np.inf)), "finite predictions"),
  ],
)
def test_wrong_depths_are_one_line(change, words):
  with pytest.raises(ValueError, match=words):
    evaluate_depth(**dict(predicted=np.ones(3), true=np.ones(3), known=np.ones(3, bool)) | change)
