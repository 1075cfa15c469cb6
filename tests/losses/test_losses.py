"""Objectives against direct, slow writings of their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.losses import matching, reconstruction, search


def test_matching_is_the_mean_cross_entropy_over_other_views():
  rng = np.random.default_rng(0)
  logits, targets = rng.normal(size=(3, 5, 11)), rng.normal(size=(3, 2, 11))
  center = rng.normal(size=11)
  probabilities = matching.teacher_probabilities(jnp.asarray(targets), jnp.asarray(center), 0.04)
  ours = matching.matching_loss(jnp.asarray(logits), probabilities, 0.1)
  terms = []
  for i in range(2):
    z = (targets[:, i] - center) / 0.04
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    for v in range(5):
      if v != i:
        log_q = logits[:, v] / 0.1 - np.log(np.exp(logits[:, v] / 0.1).sum(-1, keepdims=True))
        terms.append(-(p * log_q).sum(-1).mean())
  assert float(ours) == pytest.approx(np.mean(terms), rel=1e-5)


def test_no_gradient_flows_into_the_teacher():
  rng = np.random.default_rng(1)
  logits = jnp.asarray(rng.normal(size=(2, 3, 7)), jnp.float32)
  teacher = jax.nn.softmax(jnp.asarray(rng.normal(size=(2, 2, 7)), jnp.float32))
  assert not np.any(jax.grad(lambda t: matching.matching_loss(logits, t, 0.1))(teacher))
  maps = jax.nn.softmax(jnp.asarray(rng.normal(size=(2, 2, 4, 4)), jnp.float32))
  assert not np.any(jax.grad(lambda t: matching.attention_loss((maps, maps), (t, t)))(maps[::-1]))


def test_attention_loss_is_zero_only_for_equal_maps():
  rng = np.random.default_rng(2)
  a, b = (jax.nn.softmax(jnp.asarray(rng.normal(size=(2, 3, 5, 5)), jnp.float32)) for _ in range(2))
  assert float(matching.attention_loss((a, a), (a, a))) == pytest.approx(0, abs=1e-6)
  expected = np.mean(np.sum(np.asarray(b) * (np.log(b) - np.log(a)), -1))
  assert float(matching.attention_loss((a, a), (b, b))) == pytest.approx(2 * expected, rel=1e-4)


def test_patches_are_normalized_with_the_unbiased_variance():
  patches = np.random.default_rng(3).normal(3, 2, size=(2, 4, 12)).astype(np.float32)
  expected = (patches - patches.mean(-1, keepdims=True)) / np.sqrt(patches.var(-1, ddof=1, keepdims=True) + 1e-6)
  np.testing.assert_allclose(reconstruction.normalize_patches(jnp.asarray(patches)), expected, rtol=1e-4, atol=1e-5)


def test_reconstruction_is_one_ratio_over_the_batch():
  prediction, target = jnp.zeros((2, 3, 4)), jnp.stack([jnp.ones((3, 4)), 3 * jnp.ones((3, 4))])
  hidden = jnp.asarray([[1.0, 0, 0], [1, 1, 1]])
  assert float(reconstruction.masked_mse(prediction, target, hidden)) == pytest.approx((1 + 27) / 4)


def test_search_of_a_constant_prior_has_the_entropy_of_the_mask():
  mask = jnp.zeros((1, 14, 14)).at[:, 2:10, 3:7].set(1.0)
  share = 32 / 196
  logits = jnp.full(mask.shape, np.log(share / (1 - share)))
  assert float(search.search_loss(logits, mask)) == pytest.approx(0.445, abs=1e-3)


def test_collapse_monitors():
  uniform, sharp = jnp.full((4, 8), 1 / 8), jax.nn.one_hot(jnp.zeros(4, int), 8)
  assert float(matching.entropy(uniform)) == pytest.approx(np.log(8), rel=1e-6)
  assert float(matching.entropy(sharp)) == 0
  same, spread = jnp.ones((64, 16)), jax.random.normal(jax.random.key(0), (64, 16))
  assert float(matching.spread(same)) == pytest.approx(0, abs=1e-6)
  assert 0.9 < float(matching.spread(spread)) < 1.1
