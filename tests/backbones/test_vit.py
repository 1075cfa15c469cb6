"""The backbone: what is not read is not computed, and never changes what is read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones import build_backbone
from saip_jax.backbones.features import PaddedSizes, Views
from saip_jax.backbones.linear import gelu
from saip_jax.backbones.patches import patchify, unpatchify
from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.backbones.vit import ViT

VIT = ViT(width=24, depth=8, heads=3, image_hw=(64, 32))


@pytest.fixture(scope="module")
def params():
  return jax.jit(lambda key: VIT.init(key, jnp.zeros((1, 64, 32, 3)), ("cls", "hidden")))(jax.random.key(0))


@functools.partial(jax.jit, static_argnames=("reads", "vit"))  # compiled once for all tests
def encode(params, images, reads, keep_ids=None, padded=None, vit=VIT):
  return vit.apply(params, images, reads, keep_ids=keep_ids, padded=padded)


def images(*shape):
  return jax.random.normal(jax.random.key(1), (*shape, 3))


def test_class_token_is_the_same_by_every_way(params):
  x = images(2, 64, 32)
  full = encode(params, x, ("cls", "tokens"))
  short = encode(params, x, ("cls", "hidden"))
  mapped = encode(params, x, ("cls", "attention"))
  np.testing.assert_allclose(short.cls, full.cls, atol=1e-5)
  np.testing.assert_allclose(mapped.cls, full.cls, atol=1e-5)
  assert full.tokens.shape == (2, 8, 24) and full.grid == (4, 2)
  dense = encode(params, x, ("maps",))
  assert dense.tokens is None and VIT.map_strides == (16,) and VIT.map_widths == (24,)
  np.testing.assert_allclose(dense.maps[0], full.tokens.reshape(2, 4, 2, 24), atol=1e-6)
  np.testing.assert_allclose(encode(params, x, ("hidden",)).hidden, short.hidden, atol=1e-6)
  for attention in mapped.attention:
    assert attention.shape == (2, 3, 9, 9)
    np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-5)


def test_unrolled_equals_scanned(params):
  x = images(1, 64, 32)
  unrolled = encode(params, x, ("cls", "tokens"), vit=VIT.clone(unroll=True))
  np.testing.assert_allclose(unrolled.tokens, encode(params, x, ("cls", "tokens")).tokens, atol=1e-5)


@pytest.mark.parametrize("pos_interpolation", ["flat1d", "grid2d"])
def test_padding_changes_nothing(params, pos_interpolation):
  """An image alone and the same image padded in a mixed batch have the same features."""
  vit = VIT.clone(pos_interpolation=pos_interpolation)
  sizes = [(48, 24), (80, 40), (64, 32)]  # 24 px: the right 8 are dropped
  canvas = np.full((3, 80, 40, 3), 9.0, np.float32)  # what pads must not matter
  singles = []
  for i, (h, w) in enumerate(sizes):
    x = np.asarray(images(1, h, w))
    canvas[i, :h, :w] = x[0]
    singles.append(encode(params, x, ("cls", "hidden"), vit=vit))
  padded = PaddedSizes(tuple(sizes), jnp.arange(3))
  mixed = encode(params, canvas, ("cls", "hidden"), padded=padded, vit=vit)
  for i, single in enumerate(singles):
    np.testing.assert_allclose(mixed.cls[i], single.cls[0], atol=1e-5)
    h, w = sizes[i][0] // 16, sizes[i][1] // 16
    assert mixed.hidden_mask[i].sum() == 1 + h * w
    hidden = mixed.hidden[i, 1:].reshape(5, 2, -1)[:h, :w].reshape(h * w, -1)
    np.testing.assert_allclose(hidden, single.hidden[0, 1:], atol=1e-5)


def test_selected_tokens_only(params):
  x = images(2, 64, 32)
  ids = jnp.tile(jnp.arange(8)[::-1], (2, 1))
  everything = encode(params, x, ("hidden",), keep_ids=ids)
  np.testing.assert_allclose(everything.hidden[:, 0], encode(params, x, ("hidden",)).hidden[:, 0], atol=1e-5)
  assert encode(params, x, ("hidden",), keep_ids=ids[:, :3]).hidden.shape == (2, 4, 24)


@pytest.mark.parametrize("of_globals", [("cls", "hidden", "attention"), ("cls", "tokens", "hidden", "attention")])
def test_views_encoded_together_are_as_encoded_alone(params, of_globals):
  padded = PaddedSizes(((48, 32), (64, 32)), jnp.array([0, 1, 1, 0, 0, 1]))
  views = [  # the last two have eight patches each: their attention is one operation
    Views(images(3, 2, 80, 32), of_globals),
    Views(images(3, 1, 32, 16), ("cls",)),
    Views(images(3, 2, 64, 32), ("cls", "hidden"), padded=padded),
    Views(images(3, 1, 80, 48), ("hidden",), keep_ids=jnp.tile(jnp.arange(3, 11), (3, 1))),
  ]
  together = jax.jit(lambda p: VIT.apply(p, views, method=ViT.encode))(params)
  for view, features in zip(views, together, strict=True):
    merged = view.images.reshape(-1, *view.images.shape[2:])
    alone = encode(params, merged, view.reads, keep_ids=view.keep_ids, padded=view.padded)
    assert jax.tree.structure(alone) == jax.tree.structure(features)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), features, alone)


@pytest.mark.parametrize("remat", ["light", "full"])
def test_computing_again_changes_no_gradient(params, remat):
  def gradient(vit):
    loss = lambda p: jnp.sum(vit.apply(p, images(1, 64, 32), ("cls", "hidden")).cls ** 2)
    return jax.jit(jax.grad(loss))(params)

  kept, again = gradient(VIT), gradient(VIT.clone(remat=remat))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * float(np.abs(a).max() + 1)), kept, again)


def test_gelu_and_its_gradient_are_exact():
  x = jnp.linspace(-6, 6, 101)
  np.testing.assert_allclose(gelu(x), jax.nn.gelu(x, approximate=False), atol=1e-6)
  slope = jax.vmap(jax.grad(lambda x: jax.nn.gelu(x, approximate=False)))(x)
  np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(x), slope, atol=1e-6)
  assert gelu(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_patches_go_round():
  x = images(2, 32, 48)
  np.testing.assert_array_equal(unpatchify(patchify(x, 16), (2, 3), 16), x)
  assert patchify(images(1, 40, 56), 16).shape == (1, 2 * 3, 768)  # the rest is dropped


def test_unknown_names_list_the_choices():
  with pytest.raises(ValueError, match="vit_tiny"):
    build_backbone("resnet")
  with pytest.raises(ValueError, match="flat1d, grid2d"):
    interpolate_positions(jnp.zeros((8, 3)), (4, 2), (2, 2), "3d")


@pytest.mark.torch
@pytest.mark.parametrize("grid", [(6, 3), (7, 3), (8, 4), (9, 4), (10, 5), (14, 14), (20, 10)])
def test_positions_are_resampled_as_torch_does(grid):
  torch = pytest.importorskip("torch")
  from torch.nn.functional import interpolate

  table = np.random.default_rng(0).random((128, 6), np.float32)
  line = torch.from_numpy(table).T[None, :, :, None]
  flat = interpolate(line, size=(grid[0] * grid[1], 1), mode="bicubic")[0, :, :, 0].T.numpy()
  ours = interpolate_positions(jnp.asarray(table), (16, 8), grid, "flat1d")
  np.testing.assert_allclose(ours, flat, atol=3e-5)
  image = torch.from_numpy(table).reshape(1, 16, 8, 6).permute(0, 3, 1, 2)
  plane = interpolate(image, size=grid, mode="bicubic")[0].permute(1, 2, 0).reshape(-1, 6).numpy()
  np.testing.assert_allclose(interpolate_positions(jnp.asarray(table), (16, 8), grid, "grid2d"), plane, atol=3e-5)


@pytest.mark.skipif(not hasattr(jax.image.ResizeMethod, "CUBIC_PYTORCH"), reason="JAX has the kernel from 0.10 on")
@pytest.mark.parametrize("grid", [(6, 3), (16, 7), (20, 10)])
@pytest.mark.parametrize("mode", ["flat1d", "grid2d", "grid2d_offset"])
def test_positions_are_resampled_as_jax_does(grid, mode):
  """JAX's weights are float32, ours are rounded from float64."""
  table, method = jnp.asarray(np.random.default_rng(0).random((128, 6), np.float32)), "cubic-pytorch"
  if mode == "flat1d":
    expected = jax.image.resize(table, (grid[0] * grid[1], 6), method, antialias=False)
  else:
    offset = 0.1 if mode == "grid2d_offset" else 0
    factors = jnp.array([(wanted + offset) / stored for wanted, stored in zip(grid, (16, 8))])
    expected = jax.image.scale_and_translate(
      table.reshape(16, 8, 6), (*grid, 6), (0, 1), factors, jnp.zeros(2), method, antialias=False
    ).reshape(-1, 6)
  ours = interpolate_positions(table, (16, 8), grid, mode)
  assert ours.dtype == table.dtype
  np.testing.assert_allclose(ours, expected, atol=3e-5 if mode == "flat1d" else 4e-6)
