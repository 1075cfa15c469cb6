"""Distances, relations and attention maps of distillation: formulas in float64, and the laws that they obey."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from saip_jax.losses.distillation import (
  DISTANCES,
  comparable_maps,
  feature_distance,
  image_distance,
  moments_of,
  relation_loss,
  standardize,
)

RNG = np.random.default_rng(0)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def expected_distance(a, b, distance):
  a, b = np.float64(a), np.float64(b)
  match distance:
    case "mse":
      return ((a - b) ** 2).mean(-1)
    case "huber":
      d = np.abs(a - b)
      return np.where(d <= 1, d**2 / 2, d - 0.5).mean(-1)
    case "cosine":
      return 1 - (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("pairs", ["cross", "all"])
def test_image_distance_averages_the_pairs(distance, pairs):
  student, expert = normal(3, 5, 7), normal(3, 2, 7, seed=1)
  wanted = [
    expected_distance(student[:, v], expert[:, i], distance).mean()
    for i in range(2)
    for v in range(5)
    if pairs == "all" or v != i
  ]
  assert len(wanted) == (10 if pairs == "all" else 8)  # 2 V or 2 V - 2
  np.testing.assert_allclose(image_distance(student, expert, distance, pairs), np.mean(wanted), rtol=1e-5)
  shuffled = student[:, [0, 1, 4, 2, 3]]
  np.testing.assert_allclose(image_distance(shuffled, expert, distance, pairs), np.mean(wanted), rtol=1e-5)
  twice = image_distance(np.tile(student, (2, 1, 1)), np.tile(expert, (2, 1, 1)), distance, pairs)
  np.testing.assert_allclose(twice, np.mean(wanted), rtol=1e-5)


@pytest.mark.parametrize("distance", DISTANCES)
def test_feature_distance_and_no_gradient_to_the_expert(distance):
  student, expert = normal(4, 6, 8), normal(4, 6, 8, seed=1)
  found = feature_distance(student, expert, distance)
  np.testing.assert_allclose(found, expected_distance(student, expert, distance).mean(), rtol=1e-5)
  of_student, of_expert = jax.grad(feature_distance, (0, 1))(student, expert, distance)
  assert np.abs(of_student).max() > 0 and not np.any(of_expert)
  assert float(feature_distance(student, student, distance)) == pytest.approx(0, abs=1e-6)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
@settings(deadline=None, max_examples=20)
def test_cosine_ignores_scale(a, b):
  student, expert = normal(3, 4), normal(3, 4, seed=1)
  scaled = feature_distance(np.float32(a) * student, np.float32(b) * expert, "cosine")
  np.testing.assert_allclose(scaled, feature_distance(student, expert, "cosine"), rtol=1e-4)


@given(st.floats(0.05, 20), st.floats(-5, 5))
@settings(deadline=None, max_examples=20)
def test_standardized_targets_ignore_affine_maps_of_channels(scale, shift):
  features = normal(64, 5)
  scales = np.float32(scale) * np.float32([1, 2, 3, 4, 5])
  mapped = features * scales + np.float32(shift) * np.arange(5, dtype=np.float32)
  np.testing.assert_allclose(
    standardize(mapped, moments_of(mapped)), standardize(features, moments_of(features)), atol=2e-3
  )


def test_the_zero_predictor_of_standardized_targets_has_an_error_of_one():
  features = np.float32([0.1, 3, 50]) * normal(500, 3) + 7
  targets = standardize(features, moments_of(features))
  assert float(feature_distance(np.zeros_like(targets), targets, "mse")) == pytest.approx(1, abs=0.02)


def expected_relation(tokens, temperature):
  x = np.float64(tokens) - np.float64(tokens).mean(0)
  x /= np.linalg.norm(x, axis=-1, keepdims=True)
  logits = x @ x.T / temperature
  np.fill_diagonal(logits, -np.inf)
  e = np.exp(logits - logits.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def test_relation_loss_is_the_divergence_of_relations():
  student, expert = normal(2, 6, 4), normal(2, 6, 9, seed=1)
  wanted = []
  for s, t in zip(student, expert):
    p, q = expected_relation(t, 0.1), expected_relation(s, 0.1)
    other = ~np.eye(6, dtype=bool)
    wanted.append((p[other] * np.log(p[other] / q[other])).sum() / 6)
  np.testing.assert_allclose(relation_loss(student, expert, 0.1), np.mean(wanted), rtol=1e-4)


def test_relation_loss_compares_gram_matrices_alone():
  student, expert = normal(2, 8, 5), normal(2, 8, 5, seed=1)
  loss = float(relation_loss(student, expert, 0.1))
  rotation = np.linalg.qr(normal(5, 5, seed=2))[0]
  order = RNG.permutation(8)
  same = lambda a, b: np.testing.assert_allclose(relation_loss(a, b, 0.1), loss, rtol=2e-4)
  same(student @ rotation, expert)
  same(student + normal(5, seed=3), expert - 2)
  same(student[:, order], expert[:, order])
  assert float(relation_loss(3 * student @ rotation + 1, student, 0.1)) == pytest.approx(0, abs=1e-5)
  assert loss > 0.1


def test_relation_loss_is_bounded_and_finite():
  expert, equal = normal(2, 9, 5), np.ones((2, 9, 5), np.float32)
  assert 0 < float(relation_loss(equal, expert, 0.01)) <= np.log(8)  # a uniform student
  loss, gradient = jax.value_and_grad(relation_loss)(equal, expert, 0.1)
  assert np.isfinite(loss) and np.all(np.isfinite(gradient))
  _, of_expert = jax.grad(relation_loss, (0, 1))(normal(2, 9, 5, seed=1), expert, 0.1)
  assert not np.any(of_expert)


def test_maps_are_compared_by_head_or_on_average():
  maps = lambda heads, seed: tuple(np.asarray(jax.nn.softmax(normal(2, heads, 4, 4, seed=seed + i))) for i in range(2))
  student, expert = maps(3, 0), maps(3, 10)
  for a, b in zip(comparable_maps(student, expert), (student, expert)):
    assert a is b
  more = maps(4, 20)
  found, target = comparable_maps(student, more)
  assert found[0].shape == target[0].shape == (2, 1, 4, 4)
  np.testing.assert_allclose(np.sum(target[1], -1), 1, rtol=1e-5)
  np.testing.assert_allclose(target[0][:, 0], more[0].mean(1), rtol=1e-5)
  permuted = tuple(m[:, [2, 0, 3, 1]] for m in more)
  np.testing.assert_allclose(comparable_maps(student, permuted)[1][0], target[0], rtol=1e-5)
