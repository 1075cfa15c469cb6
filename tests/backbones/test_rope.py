"""Positions that are not learned, waves and turned queries and keys, against the published formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones.features import PaddedSizes
from saip_jax.backbones.pos_embed import wave_positions
from saip_jax.backbones.rope import grid_angles, turn
from saip_jax.backbones.vit import ViT

VIT = ViT(width=24, depth=3, heads=3, tapped_block=1, image_hw=(64, 32), rope=True)  # heads of 8 features
HEAD = 16
OURS = np.r_[0:4, 8:12, 4:8, 12:16]  # CroCo's feature -> the place that it has here


def start(vit):
  return jax.jit(lambda key: vit.init(key, jnp.zeros((1, 64, 32, 3)), ("cls", "hidden")))(jax.random.key(0))


@pytest.fixture(scope="module")
def params():
  params = start(VIT)
  return jax.jit(lambda p: jax.tree.map(lambda a: a + 0.1 * jax.random.normal(jax.random.key(1), a.shape), p))(params)


def encode(params, images, *args, **kwargs):
  return jax.jit(lambda p, x: VIT.apply(p, x, *args, **kwargs))(params, images)


def images(*shape):
  return jax.random.normal(jax.random.key(1), (*shape, 3))


def croco_rope(x, row, column):
  """RoPE of one token (heads, d) as published: half of a head by the row, half by the column, frequency 100."""

  def half(x, place):
    frequencies = 1 / 100 ** (np.arange(0, x.shape[-1], 2) / x.shape[-1])
    angle = np.concatenate([place * frequencies] * 2)
    first, second = np.split(x, 2, axis=-1)
    return x * np.cos(angle) + np.concatenate([-second, first], -1) * np.sin(angle)

  by_row, by_column = np.split(x, 2, axis=-1)
  return np.concatenate([half(by_row, row), half(by_column, column)], -1)


def test_queries_are_turned_as_published():
  x = np.random.default_rng(0).normal(size=(1, 5 * 3, 2, HEAD))
  expected = np.stack([croco_rope(token, i // 3, i % 3) for i, token in enumerate(x[0])])
  here = np.zeros_like(x)
  here[..., OURS] = x
  turned = np.asarray(turn(jnp.asarray(here, jnp.float32), grid_angles((5, 3), HEAD)[None]))
  np.testing.assert_allclose(turned[0][..., OURS], expected, atol=1e-6)


def test_only_distances_matter_and_lengths_stay():
  q, k = np.random.default_rng(0).normal(size=(2, 1, 12, 2, HEAD)).astype(np.float32)
  angles = np.asarray(grid_angles((9, 8), HEAD)).reshape(9, 8, -1)
  logits = lambda part: np.einsum("bqhd,bkhd->bhqk", *(turn(a, part.reshape(1, 12, -1)) for a in (q, k)))
  here, there = logits(angles[:4, :3]), logits(angles[5:9, 4:7])  # five rows down and four columns right
  np.testing.assert_allclose(there, here, atol=2e-5)
  assert np.abs(here - np.einsum("bqhd,bkhd->bhqk", q, k)).max() > 1
  turned = turn(q, angles[:4, :3].reshape(1, 12, -1))
  np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(q, axis=-1), rtol=1e-6)


def test_waves_are_the_published_ones():
  width, (h, w) = 16, (3, 5)
  frequencies = 1 / 10000 ** (np.arange(4) / 4)
  expected = [
    np.concatenate([f(place * frequencies) for place in (column, row) for f in (np.sin, np.cos)])
    for row in range(h)
    for column in range(w)
  ]
  np.testing.assert_allclose(wave_positions((h, w), width), expected, atol=1e-6)


def test_fixed_waves_are_stored_and_get_no_gradient():
  vit = VIT.clone(rope=False, positions="cosine")
  params = start(vit)
  table = params["params"]["pos_embed"]
  np.testing.assert_array_equal(table[0, 1:], wave_positions((4, 2), 24))
  assert not table[0, 0].any()
  loss = lambda p: jnp.sum(vit.apply(p, images(1, 64, 32), ("cls", "tokens")).tokens ** 2)
  gradient = jax.jit(jax.grad(loss))(params)
  assert not gradient["params"]["pos_embed"].any() and gradient["params"]["cls_token"].any()


def test_turning_encoder_has_no_table_and_knows_places(params):
  assert "pos_embed" not in params["params"]
  x = images(2, 64, 32)
  whole = encode(params, x, ("cls", "tokens"))
  swapped = jnp.concatenate([x[:, 32:], x[:, :32]], axis=1)  # the same patches elsewhere
  moved = jnp.roll(encode(params, swapped, ("cls", "tokens")).tokens, 4, axis=1)
  assert np.abs(moved - whole.tokens).max() > 1e-2


def test_class_token_is_the_same_by_every_way(params):
  x = images(2, 64, 32)
  full = encode(params, x, ("cls", "tokens"))
  for reads in (("cls", "hidden"), ("cls", "attention"), ("cls",)):
    np.testing.assert_allclose(encode(params, x, reads).cls, full.cls, atol=2e-5)


def test_seen_patches_keep_their_places(params):
  x = images(2, 64, 32)
  backwards = encode(params, x, ("cls", "tokens"), keep_ids=jnp.tile(jnp.arange(8)[::-1], (2, 1)))
  full = encode(params, x, ("cls", "tokens"))
  np.testing.assert_allclose(backwards.tokens[:, ::-1], full.tokens, atol=2e-5)
  np.testing.assert_allclose(backwards.cls, full.cls, atol=2e-5)


def test_padding_changes_nothing(params):
  sizes = [(48, 16), (64, 48)]
  canvas = np.full((2, 64, 48, 3), 9.0, np.float32)
  singles = []
  for i, (h, w) in enumerate(sizes):
    x = np.asarray(images(1, h, w))
    canvas[i, :h, :w] = x[0]
    singles.append(encode(params, x, ("cls", "hidden")))
  mixed = encode(params, jnp.asarray(canvas), ("cls", "hidden"), padded=PaddedSizes(tuple(sizes), jnp.arange(2)))
  for i, (single, (h, w)) in enumerate(zip(singles, sizes)):
    np.testing.assert_allclose(mixed.cls[i], single.cls[0], atol=2e-5)
    hidden = mixed.hidden[i, 1:].reshape(4, 3, -1)[: h // 16, : w // 16].reshape(-1, 24)
    np.testing.assert_allclose(hidden, single.hidden[0, 1:], atol=2e-5)


def test_widths_that_cannot_be_turned_say_so():
  with pytest.raises(ValueError, match="multiple of 4 features.*6"):
    grid_angles((2, 2), 6)
  with pytest.raises(ValueError, match="multiple of 4.*6"):
    wave_positions((2, 2), 6)
