"""HCMoCo's losses against the formulas in float64, and the laws that they obey."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.losses.dense import dense_contrast, soft_targets
from saip_jax.losses.infonce import bank_contrast, batch_contrast, moved_bank, unit
from saip_jax.losses.joints import joint_contrast, node_contrast

T = 0.07
RNG = np.random.default_rng(0)


def units(*shape, seed=0):
  """Unit vectors that float32 holds exactly enough: the references start from the same numbers."""
  x = np.random.default_rng(seed).normal(size=shape)
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def f64(x):
  return np.asarray(x, np.float64)


def softmax_loss(logits, target):
  return np.log(np.exp(logits).sum()) - logits[target]


def test_batch_contrast_is_the_formula():
  q, k, known = units(6, 9), units(6, 9, seed=1), np.array([1, 1, 0, 1, 0, 1], bool)
  rows = np.flatnonzero(known)
  logits = f64(q[rows]) @ f64(k[rows]).T / T
  expected = np.mean([softmax_loss(row, i) for i, row in enumerate(logits)])
  assert float(batch_contrast(q, k, T, known)) == pytest.approx(expected, rel=1e-6)
  assert float(batch_contrast(q[rows], k[rows], T)) == pytest.approx(expected, rel=1e-6)


def test_bank_contrast_is_the_formula():
  q, bank, index = units(5, 9), units(20, 9, seed=1), np.array([3, 19, 0, 7, 5])
  drawn, known = np.array([0, 4, 4, 12, 7, 18]), np.array([1, 1, 1, 0, 1], bool)
  losses = []
  for i in np.flatnonzero(known):
    rows = [index[i], *(n for n in drawn if n != index[i])]  # twice drawn counts twice, its own never as a negative
    losses.append(softmax_loss(f64(bank[rows]) @ f64(q[i]) / T, 0))
  assert float(bank_contrast(q, bank, index, drawn, T, known)) == pytest.approx(np.mean(losses), rel=1e-6)


def test_bank_contrast_as_released_may_draw_a_samples_own_row():
  q, bank, index = units(3, 9), units(20, 9, seed=1), np.array([3, 19, 0])
  drawn, known = np.array([[3, 4, 3, 8], [1, 2, 19, 2], [5, 6, 7, 8]]), np.array([1, 1, 0], bool)
  losses = [softmax_loss(f64(bank[[index[i], *drawn[i]]]) @ f64(q[i]) / T, 0) for i in range(2)]
  assert float(bank_contrast(q, bank, index, drawn, T, known)) == pytest.approx(np.mean(losses), rel=1e-6)


def test_dense_contrast_is_the_formula():
  u, v = units(3, 7, 9), units(3, 7, 9, seed=1)
  places, known = RNG.integers(0, 12, (3, 7, 2)).astype(np.float32), np.array([1, 0, 1], bool)
  losses = ([], [])
  for b in np.flatnonzero(known):
    distance = np.linalg.norm(f64(places[b])[:, None] - f64(places[b]), axis=-1)
    q = np.exp(-distance) / np.exp(-distance).sum(1, keepdims=True)
    for way, (first, second) in enumerate(((u[b], v[b]), (v[b], u[b]))):
      logits = f64(first) @ f64(second).T / T
      logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
      losses[way].append(-(q * logs).sum(1).mean())
  expected = [np.mean(way) for way in losses]
  assert [float(way) for way in dense_contrast(u, v, places, T, known)] == pytest.approx(expected, rel=1e-6)


def test_node_contrast_is_the_formula():
  r, g = units(3, 5, 9), units(3, 5, 9, seed=1)
  visible = RNG.random((3, 5)) < 0.6
  losses = [softmax_loss(f64(g[b]) @ f64(r[b, j]) / T, j) for b, j in zip(*np.nonzero(visible))]
  assert 0 < len(losses) < 15
  assert float(node_contrast(r, g, visible, T)) == pytest.approx(np.mean(losses), rel=1e-6)


def test_joint_contrast_is_the_formula():
  z, visible = units(4, 2, 3, 9), RNG.random((4, 2, 3)) < 0.6
  visible[:, :, 2], visible[1, 0, 2] = False, True  # a joint that is seen once has no positive
  there = list(zip(*np.nonzero(visible)))
  losses = []
  for a in there:
    others = [n for n in there if n != a]
    normalizer = np.log(sum(np.exp(f64(z[a]) @ f64(z[n]) / T) for n in others))
    positives = [f64(z[a]) @ f64(z[p]) / T for p in others if p[2] == a[2]]
    if positives:
      losses.append(normalizer - np.mean(positives))
  assert len(losses) == len(there) - 1
  assert float(joint_contrast(z, visible, T)) == pytest.approx(np.mean(losses), rel=1e-6)


def test_joint_contrast_as_released_is_its_formula():
  """Itself and what is missing are in the normalizer, invisible joints are positives, rows without one count as 0."""
  z, visible = units(3, 2, 4, 9), RNG.random((3, 2, 4)) < 0.5
  known = np.array([[1, 1], [1, 0], [1, 1]], bool)
  every = list(np.ndindex(3, 2, 4))
  losses = []
  for a in every:
    normalizer = np.log(sum(np.exp(f64(z[a]) @ f64(z[n]) / T) for n in every))
    positives = [f64(z[a]) @ f64(z[p]) / T for p in every if p != a and p[2] == a[2] and known[p[:2]] and known[a[:2]]]
    losses.append(normalizer - np.mean(positives) if positives else 0.0)
  assert losses.count(0.0) == 4
  found = joint_contrast(z, visible, T, known)
  assert float(found) == pytest.approx(np.mean(losses), rel=1e-6)
  assert float(joint_contrast(z, visible, T, known & np.array([True, False]))) == 0  # no sample has depth


def test_soft_targets_sum_to_one_and_become_the_identity_far_apart():
  places = RNG.permutation(64)[:20]
  places = np.stack([places // 8, places % 8], axis=-1).astype(np.float32)  # all different
  np.testing.assert_allclose(np.sum(soft_targets(places), axis=-1), 1, atol=1e-6)
  assert float(jnp.max(jnp.abs(soft_targets(places * 1000) - jnp.eye(20)))) < 1e-6


def test_dense_contrast_is_never_below_the_entropy_of_its_targets():
  places, matched = RNG.integers(0, 12, (1, 30, 2)).astype(np.float32), jnp.eye(30)[None]
  q = f64(soft_targets(places))[0]
  entropy = -np.mean(np.sum(q * np.log(q), axis=1))
  losses = [float(sum(dense_contrast(matched, matched, places, t, np.ones(1, bool)))) for t in (10.0, 1.0, 0.3, 0.07)]
  assert min(losses) >= 2 * entropy > 0
  assert losses[-1] > losses[-2]  # certain of the very place is not what is asked for


@pytest.mark.parametrize("loss", ["batch", "bank", "dense", "node", "joint"])
def test_what_is_missing_has_no_influence_and_no_gradient(loss):
  known = np.array([1, 0, 1, 1], bool)
  places, index, drawn = np.zeros((4, 5, 2), np.float32), np.arange(4), np.array([8, 9, 7])
  bank = units(10, 6, seed=3)
  run, shape = {
    "batch": (lambda a, b, known: batch_contrast(a, b, T, known), (4, 6)),
    "bank": (lambda a, b, known: bank_contrast(a, bank, index, drawn, T, known), (4, 6)),
    "dense": (lambda a, b, known: sum(dense_contrast(a, b, places, T, known)), (4, 5, 6)),
    "node": (lambda a, b, known: node_contrast(a, b, jnp.tile(known[:, None], (1, 5)), T), (4, 5, 6)),
    "joint": (
      lambda a, b, known: joint_contrast(jnp.stack([a, b], 1), jnp.tile(known[:, None, None], (1, 2, 5)), T),
      (4, 5, 6),
    ),
  }[loss]
  both = units(2, *shape)
  noise = np.where(known.reshape(-1, *[1] * (len(shape) - 1)), both, units(2, *shape, seed=5))
  grad = jax.jit(jax.value_and_grad(lambda both, known: run(*both, known)))
  value, gradient = grad(both, known)
  assert float(value) > 0 and not gradient[:, 1].any() and np.all(np.any(gradient[0][known], axis=-1))
  assert float(grad(noise, known)[0]) == float(value)
  nothing, gradient = grad(both, np.zeros(4, bool))
  assert float(nothing) == 0 and not np.any(gradient)


def test_invisible_joints_may_change_places():
  r, g, visible = units(2, 6, 9), units(2, 6, 9, seed=1), np.array([[1, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 1]], bool)
  order = np.array([0, 3, 2, 4, 1, 5])
  before, after = node_contrast(r, g, visible, T), node_contrast(r[:, order], g[:, order], visible, T)
  assert float(before) == pytest.approx(float(after), rel=1e-6)


def test_only_visited_rows_of_a_bank_move_and_all_stay_unit():
  bank, features = units(12, 6), units(4, 6, seed=1)
  index, known = np.array([7, 2, 7, 5]), np.array([1, 1, 1, 0], bool)  # one sample twice, one without this modality
  assert_last_one_counts(bank, index, features, np.array([1, 1, 0, 0], bool), 0)
  after = jax.jit(moved_bank)(bank, index, features, known, 0.5)
  moved = np.flatnonzero((np.asarray(after) != bank).any(1))
  np.testing.assert_array_equal(moved, [2, 7])
  np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, rtol=1e-6)
  assert_last_one_counts(bank, index, features, known, 2)


def assert_last_one_counts(bank, index, features, known, sample):
  """Row 7 gets what `sample`, the last of its samples that is known, gives."""
  after = jax.jit(moved_bank)(bank, index, features, known, 0.5)
  for row, sample in ((2, 1), (7, sample)):
    half = f64(bank[row]) + f64(features[sample])
    np.testing.assert_allclose(after[row], half / np.linalg.norm(half), rtol=1e-5)


def test_banks_teach_two_modalities_to_find_each_other():
  """64 samples, seen in turn, two linear encoders of what both modalities show."""
  rng, epochs, batch = np.random.default_rng(0), 25, 8
  shown = rng.normal(size=(64, 8))
  inputs = [jnp.asarray(f(shown @ rng.normal(size=(8, 20))), jnp.float32) for f in (np.asarray, np.tanh)]
  weights = [np.float32(0.2 * rng.normal(size=(20, 16))) for _ in inputs]
  banks = [units(64, 16, seed=seed) for seed in (1, 2)]
  known = jnp.ones(batch, bool)

  @jax.jit
  def step(weights, banks, index, drawn, rate):
    def loss(weights):
      both = [unit(x[index] @ w) for x, w in zip(inputs, weights)]
      return sum(bank_contrast(q, bank, index, drawn, T, known) for q, bank in zip(both, banks[::-1])), both

    gradients, both = jax.grad(loss, has_aux=True)(weights)
    weights = [w - rate * g for w, g in zip(weights, gradients)]
    return weights, [moved_bank(bank, index, f, known, 0.5) for bank, f in zip(banks, both)]

  for epoch in range(epochs):
    for index in rng.permutation(64).reshape(-1, batch):
      weights, banks = step(weights, banks, index, rng.integers(0, 64, 32), 0.03 * (1 - epoch / epochs))
  first, second = (unit(x @ w) for x, w in zip(inputs, weights))
  assert np.mean(np.argmax(first @ second.T, axis=1) == np.arange(64)) > 0.9  # by chance 0.016


def test_zeros_have_no_direction_and_a_gradient_of_zero():
  value, gradient = jax.value_and_grad(lambda x: jnp.sum(unit(x)))(jnp.zeros((2, 3)))
  assert float(value) == 0 and np.isfinite(gradient).all()
