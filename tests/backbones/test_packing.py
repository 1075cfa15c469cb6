"""Rows of several sequences: every sequence is in one row, comes back, and attends to itself alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones import vit as vit_module
from saip_jax.backbones.attention import allowed_keys, attend, attention_map, mix
from saip_jax.backbones.features import PaddedSizes, Views
from saip_jax.backbones.packing import LANES, Packing, row_capacity
from saip_jax.backbones.vit import ViT

RECIPE = ((2, 129), (6, 33), (2, 51), (1, 51))  # of `saip_vit_tiny`: global, local, rescaled and masked views
LAYOUTS = [
  (RECIPE, LANES),
  (RECIPE, 0),
  (((1, 17), (3, 5), (2, 5), (7, 2)), 20),
  (((5, 9), (3, 4)), 16),  # no number of rows divides both
  (((1, 60), (1, 50), (1, 40)), LANES),  # one of each does not fit into a row
]


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_short_sequences_of_the_recipe_share_rows():
  rows = Packing(RECIPE, row_capacity(jnp.bfloat16)).rows
  assert [(row.count, sorted(row.lengths)) for row in rows] == [(2, [129]), (3, [33, 33, 51])]
  apart = Packing(RECIPE, row_capacity(jnp.float32)).rows
  assert [(row.count, row.lengths) for row in apart] == [(2, (129,)), (3, (51,)), (6, (33,))]


@pytest.mark.parametrize("groups, capacity", LAYOUTS)
def test_sequences_come_back(groups, capacity):
  packing, batch = Packing(groups, capacity), 2
  parts = [normal(i, batch * count, tokens, 3) for i, (count, tokens) in enumerate(groups)]
  rows = packing.join(parts)
  assert [(row.shape[0], row.shape[1]) for row in rows] == [(batch * r.count, sum(r.lengths)) for r in packing.rows]
  for part, back in zip(parts, packing.split(rows), strict=True):
    np.testing.assert_array_equal(back, part)
  starts = [np.cumsum((0, *r.lengths[:-1])) for r in packing.rows]
  firsts = packing.split_firsts([row[:, place] for row, place in zip(rows, starts)])
  for part, first in zip(parts, firsts, strict=True):
    np.testing.assert_array_equal(first, part[:, 0])
  # an image's tokens stay in its own rows, so that a batch can be split over devices
  for row in packing.join([np.repeat([0.0, 1.0], count)[:, None] + np.ones((1, tokens)) for count, tokens in groups]):
    halves = np.split(np.asarray(row), batch)
    assert all(set(np.unique(half)) <= {0.0, image} for image, half in zip((1.0, 2.0), halves))


def test_masks_stand_where_their_tokens_do():
  groups, mask = ((1, 4), (2, 3)), np.array([[True, True, False], [True, False, False]] * 2)
  apart, shared = Packing(groups, 0), Packing(groups, 12)
  assert apart.join_masks(None, 2) == (None, None)
  whole, padded = apart.join_masks([None, mask], 2)
  assert whole is None
  np.testing.assert_array_equal(padded, mask)
  (row,) = shared.join_masks([None, mask], 2)
  np.testing.assert_array_equal(row, np.concatenate([np.ones((2, 4), bool), mask.reshape(2, 6)], axis=1))


@pytest.mark.parametrize("lengths", [(), (4, 2, 5)])
@pytest.mark.parametrize("dtype, error", [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
def test_attention_and_its_gradients_are_the_formula(lengths, dtype, error):
  """The formula is differentiated by JAX in float64."""
  shape, heads = (3, 11, 12), 3
  q, k, v, gradient = (normal(i, *shape) for i in range(4))
  key_mask = np.arange(11) < np.array([11, 8, 7])[:, None]
  key_mask[:, [0, 4, 6]] = True  # of each sequence one key is no padding

  def formula(q, k, v):
    split = lambda x: x.reshape(*x.shape[:2], heads, -1)
    logits = jnp.einsum("bqhd,bkhd->bhqk", split(q), split(k)) / jnp.sqrt(4.0)
    weights = jnp.exp(logits) * allowed_keys(lengths, key_mask)
    weights /= weights.sum(-1, keepdims=True)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, split(v)).reshape(q.shape)

  with jax.enable_x64(True):
    out, pull = jax.vjp(formula, *(x.astype(np.float64) for x in (q, k, v)))
    exact = [np.asarray(x) for x in (out, *pull(gradient.astype(np.float64)))]
  ours = lambda q, k, v: attend(q, k, v, key_mask, heads, lengths)
  out, pull = jax.vjp(ours, *(jnp.asarray(x, dtype) for x in (q, k, v)))
  for mine, true in zip((out, *pull(jnp.asarray(gradient, dtype))), exact, strict=True):
    assert mine.dtype == dtype
    np.testing.assert_allclose(mine.astype(jnp.float32), true, atol=error * np.abs(true).max())


def test_attention_is_its_map_times_the_values():
  q, k, v = (normal(i, 2, 7, 8) for i in range(3))
  split = lambda x: x.reshape(2, 7, 2, 4)
  mixed = mix(attention_map(split(q), split(k)), split(v)).reshape(q.shape)
  np.testing.assert_allclose(attend(q, k, v, None, 2), mixed, atol=1e-6)


@pytest.mark.parametrize("rope", [False, True])
def test_an_encoder_of_shared_rows_is_the_encoder(monkeypatch, rope):
  """Features and gradients, of views that are padded, masked, and read in part."""
  vit = ViT(width=24, depth=4, heads=3, image_hw=(64, 32), tapped_block=1, rope=rope)
  padded = PaddedSizes(((48, 32), (64, 32)), jnp.array([0, 1, 1, 0, 0, 1]))
  views = [
    Views(normal(0, 3, 2, 80, 32, 3), ("cls", "hidden", "attention")),
    Views(normal(1, 3, 4, 32, 16, 3), ("cls",)),
    Views(normal(2, 3, 2, 64, 32, 3), ("cls", "hidden"), padded=padded),
    Views(normal(3, 3, 1, 80, 48, 3), ("hidden",), keep_ids=jnp.tile(jnp.arange(3, 11), (3, 1))),
  ]
  shapes = jax.eval_shape(lambda key: vit.init(key, views[0].images[:, 0], ("cls", "hidden")), jax.random.key(0))
  leaves, structure = jax.tree.flatten(shapes)
  params = structure.unflatten([0.3 * normal(i, *a.shape) for i, a in enumerate(leaves)])
  rows_of = []

  def loss(params):
    features = vit.apply(params, views, method=ViT.encode)
    seen = [
      f.hidden * (1 if f.hidden_mask is None else f.hidden_mask[..., None]) for f in features if f.hidden is not None
    ]
    return sum(jnp.sum(jnp.sin(x)) for x in [*seen, *(f.cls for f in features[:3]), *features[0].attention])

  def capacity(tokens, dtype):
    rows_of.append(tokens)
    return tokens

  results = []
  for tokens in (0, 40):
    monkeypatch.setattr(vit_module, "row_capacity", functools.partial(capacity, tokens))
    results.append(jax.jit(jax.value_and_grad(loss))(params))
  assert {0, 40} == set(rows_of)
  for path, apart in jax.tree_util.tree_leaves_with_path(results[0]):
    shared = functools.reduce(lambda tree, key: tree[getattr(key, "key", getattr(key, "idx", None))], path, results[1])
    np.testing.assert_allclose(shared, apart, atol=2e-5 * max(1, np.abs(apart).max()), err_msg=str(path))
