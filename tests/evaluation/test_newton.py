"""Many small problems at once, against scikit-learn's solutions in float64 of each alone."""

import numpy as np
import pytest

from saip_jax.evaluation.logistic import _of_classes, _of_labels
from saip_jax.evaluation.newton import minimize_all, principal_directions


def _features(rows, width, seed=0):
  """Returns features with directions of very different extent, as those of networks."""
  rng = np.random.default_rng(seed)
  mixed = rng.normal(size=(rows, width)) * np.geomspace(1, 1e-3, width) @ rng.normal(size=(width, width))
  return ((mixed - mixed.mean(0)) / mixed.std(0)).astype(np.float32)


def _along_directions(features):
  directions = principal_directions(features)
  return directions, np.concatenate([features @ directions, np.ones((len(features), 1), np.float32)], axis=1)


def _peer(strength, features, labels, weights):
  linear_model = pytest.importorskip("sklearn.linear_model")
  used = weights > 0
  probe = linear_model.LogisticRegression(C=1 / strength, solver="newton-cholesky", tol=1e-10, max_iter=500)
  return probe.fit(features[used].astype(np.float64), labels[used], sample_weight=weights[used].astype(np.float64))


@pytest.mark.parametrize("rows, width", [(400, 30), (60, 90)])
def test_labels_with_their_own_rows_weights_and_strengths_are_those_of_scikit_learn(rows, width):
  rng, features = np.random.default_rng(1), _features(rows, width)
  labels = (features[:, :6] + rng.normal(size=(rows, 6)) > [0, 0, 0, 1, 1, 2]).astype(int)
  weights = rng.uniform(0.2, 5, labels.shape) * (rng.random(labels.shape) < 0.8)
  strengths = np.array([0.1, 1, 10, 100, 1000, 3])
  directions, x = _along_directions(features)
  signs = ((2 * labels - 1) * weights).astype(np.float32)[:, :, None]
  found, logits = minimize_all(x, signs, _of_labels, strengths, np.zeros((x.shape[1], 6, 1), np.float32))
  np.testing.assert_allclose(logits[:, :, 0], x @ found[:, :, 0], atol=1e-3)
  for a, strength in enumerate(strengths):
    peer = _peer(strength, features, labels[:, a], weights[:, a])
    np.testing.assert_allclose(logits[:, a, 0], peer.decision_function(features), atol=5e-3)
    np.testing.assert_allclose(directions @ found[:-1, a, 0], peer.coef_[0], rtol=2e-3, atol=5e-3)


@pytest.mark.parametrize("strength", [0.3, 30.0])
def test_classes_of_very_different_frequency_are_those_of_scikit_learn(strength):
  rng, features = np.random.default_rng(2), _features(600, 24)
  scores = 3 * features[:, :5] + rng.gumbel(size=(600, 5)) + [4, 2, 0, 0, -4]
  labels = scores.argmax(1)
  assert np.bincount(labels)[4] < 10
  _, x = _along_directions(features)
  shares = np.eye(5, dtype=np.float32)[labels][:, None]
  halves = np.concatenate([shares, shares / 2], axis=1)  # the second problem: half the loss, so twice the penalty
  start = np.zeros((x.shape[1], 2, 5), np.float32)
  _, logits = minimize_all(x, halves, _of_classes, np.array([strength, strength]), start)
  for problem, share in enumerate((1, 2)):
    peer = _peer(strength * share, features, labels, np.ones(600))
    likely = np.exp(logits[:, problem] - logits[:, problem].max(1, keepdims=True))
    np.testing.assert_allclose(
      likely / likely.sum(1, keepdims=True), peer.predict_proba(features.astype(np.float64)), atol=1e-3
    )


def test_the_start_does_not_matter_and_a_solution_stays():
  rng, features = np.random.default_rng(3), _features(300, 20)
  signs = np.sign(features[:, :3] + rng.normal(size=(300, 3))).astype(np.float32)[:, :, None]
  _, x = _along_directions(features)
  solve = lambda start: minimize_all(x, signs, _of_labels, np.ones(3), start)
  (near, _), (far, far_logits) = (
    solve(scale * rng.normal(size=(x.shape[1], 3, 1)).astype(np.float32)) for scale in (0.01, 3)
  )
  np.testing.assert_allclose(x @ near[:, :, 0], far_logits[:, :, 0], atol=5e-3)
  again, _ = solve(near)
  np.testing.assert_array_equal(again, near)


def test_a_label_that_never_occurs_is_improbable_and_one_that_is_unknown_is_even():
  features = _features(100, 10)
  _, x = _along_directions(features)
  signs = np.stack([-np.ones(100), np.zeros(100)], axis=1).astype(np.float32)[:, :, None]
  _, logits = minimize_all(x, signs, _of_labels, np.ones(2), np.zeros((x.shape[1], 2, 1), np.float32))
  assert np.isfinite(logits).all() and logits[:, 0].max() < -5
  np.testing.assert_array_equal(logits[:, 1], 0)


def test_directions_are_orthonormal_and_lose_nothing():
  for rows, width in ((80, 12), (12, 80)):
    features = _features(rows, width)
    features[:, 3] = 0
    directions = principal_directions(features)
    np.testing.assert_allclose(directions.T @ directions, np.eye(directions.shape[1]), atol=1e-5)
    np.testing.assert_allclose(features @ directions @ directions.T, features, atol=1e-4)
    assert directions.shape[1] <= min(rows, width - 1)
  assert principal_directions(np.zeros((9, 3), np.float32)).shape == (3, 0)  # an encoder with equal features
