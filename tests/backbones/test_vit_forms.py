"""ViTs with prefix tokens, without a class token, with LayerScale, padded patches and keys without bias."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones import BACKBONES, build_backbone, check_attributes
from saip_jax.backbones.block import Block
from saip_jax.backbones.features import PaddedSizes, Views
from saip_jax.backbones.linear import NORM_EPSILON
from saip_jax.backbones.pallas_block import fits
from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.backbones.rope import grid_angles
from saip_jax.backbones.vit import ViT
from saip_jax.interop.shapes import parameter_shapes
from tests.support.toy_weights import random_backbone

PLAIN = ViT(width=24, depth=3, heads=3, tapped_block=1, image_hw=(64, 32), pos_interpolation="grid2d")
FORMS = {
  "registers": {"prefix_tokens": 2},
  "parts": {"prefix_tokens": 3, "prefix_positions": False},
  "gap": {"class_token": False},
  "dinov3": {
    "prefix_tokens": 4,
    "rope": True,
    "rope_coordinates": "centered",
    "layer_scale": True,
    "k_bias": False,
    "norm_eps": 1e-5,
  },
}


@functools.partial(jax.jit, static_argnames=("vit", "reads"))
def encode(params, images, reads, vit, keep_ids=None, padded=None):
  return vit.apply({"params": params}, images, reads, keep_ids=keep_ids, padded=padded)


def images(*shape):
  return jax.random.normal(jax.random.key(1), (*shape, 3))


@pytest.mark.parametrize("name", list(FORMS))
def test_features_have_one_meaning(name):
  """The image feature first, then patches alone; by every way the same; attention of all tokens."""
  vit = PLAIN.clone(**FORMS[name])
  params, x = random_backbone(vit), images(2, 64, 32)
  whole = encode(params, x, ("cls", "tokens", "hidden", "maps"), vit)
  assert whole.tokens.shape == (2, 8, 24) and whole.hidden.shape == (2, 9, 24)
  np.testing.assert_allclose(whole.maps[0].reshape(2, 8, 24), whole.tokens)
  mapped = encode(params, x, ("cls", "attention"), vit)
  np.testing.assert_allclose(mapped.cls, whole.cls, atol=1e-5)
  assert mapped.attention[0].shape == (2, 3, 8 + vit.before_patches, 8 + vit.before_patches)
  means = np.mean(whole.tokens, 1), np.mean(whole.hidden[:, 1:], 1)
  for feature, mean in zip((whole.cls, whole.hidden[:, 0]), means):
    assert np.allclose(feature, mean, atol=1e-5) != vit.class_token


@pytest.mark.parametrize("name", list(FORMS))
def test_padding_and_hidden_patches_have_no_influence(name):
  vit = PLAIN.clone(**FORMS[name])
  params, x = random_backbone(vit), images(2, 64, 48)
  padded = PaddedSizes(((64, 48), (64, 32)), jnp.array([1, 1]))
  other = x.at[:, :, 32:].set(9.0)
  for reads in (("cls", "tokens", "hidden"), ("cls", "attention")):
    found, same = (encode(params, y, reads, vit, padded=padded) for y in (x, other))
    np.testing.assert_allclose(found.cls, same.cls, atol=1e-6)
  alone = encode(params, x[:, :, :32], ("cls",), vit)
  np.testing.assert_allclose(found.cls, alone.cls, atol=1e-5)
  assert encode(params, x, ("hidden",), vit, padded=padded).hidden_mask.shape == (2, 13)
  ids = jnp.tile(jnp.arange(5), (2, 1))
  seen = x.at[:, 32:, :].set(7.0)  # the lower rows of a grid of 4 x 3
  kept = [encode(params, y, ("cls", "tokens"), vit, keep_ids=ids) for y in (x, seen)]
  assert kept[0].tokens.shape == (2, 5, 24)
  np.testing.assert_allclose(kept[0].cls, kept[1].cls, atol=1e-6)


@pytest.mark.parametrize("name", list(FORMS))
def test_views_encoded_together_are_as_encoded_alone(name):
  vit = PLAIN.clone(**FORMS[name])
  params = random_backbone(vit)
  views = [Views(images(2, 2, 64, 32), ("cls", "tokens")), Views(images(2, 3, 32, 16), ("cls", "hidden"))]
  together = jax.jit(lambda p: vit.apply({"params": p}, views, method=ViT.encode))(params)
  for view, found in zip(views, together, strict=True):
    alone = encode(params, view.images.reshape(-1, *view.images.shape[2:]), tuple(view.reads), vit)
    for part in view.reads:
      np.testing.assert_allclose(getattr(found, part), getattr(alone, part), atol=1e-5)


def test_layer_scale_of_one_and_registers_of_no_weight_change_nothing():
  params, x = random_backbone(PLAIN), images(2, 64, 32)
  ones = np.ones((3, 24), np.float32)
  scaled = params | {"blocks": params["blocks"] | {f"ls{i}": {"gamma": ones} for i in (1, 2)}}
  plain = encode(params, x, ("cls", "tokens"), PLAIN)
  found = encode(scaled, x, ("cls", "tokens"), PLAIN.clone(layer_scale=True))
  np.testing.assert_allclose(found.tokens, plain.tokens, atol=1e-6)
  half = jax.tree.map(lambda a: a, scaled)
  half["blocks"]["ls1"] = {"gamma": 0.5 * ones}
  folded = jax.tree.map(lambda a: a, params)
  folded["blocks"]["proj"] = jax.tree.map(lambda a: 0.5 * a, params["blocks"]["proj"])
  found = encode(half, x, ("cls", "tokens"), PLAIN.clone(layer_scale=True))
  np.testing.assert_allclose(found.tokens, encode(folded, x, ("cls", "tokens"), PLAIN).tokens, atol=1e-6)


def test_keys_without_bias():
  """Without rotary positions a bias of keys cancels in the softmax, and that of queries does not."""
  params, x = random_backbone(PLAIN), images(2, 64, 32)
  q, _, v = np.split(params["blocks"]["qkv"]["bias"], 3, axis=1)
  split = {"qkv": {"kernel": params["blocks"]["qkv"]["kernel"]}, "q_bias": q, "v_bias": v}
  found = encode(params | {"blocks": params["blocks"] | split}, x, ("tokens",), PLAIN.clone(k_bias=False))
  np.testing.assert_allclose(found.tokens, encode(params, x, ("tokens",), PLAIN).tokens, atol=1e-5)
  none = encode(
    params | {"blocks": params["blocks"] | split | {"q_bias": 0 * q}}, x, ("tokens",), PLAIN.clone(k_bias=False)
  )
  assert np.abs(none.tokens - found.tokens).max() > 1e-3


def test_padded_patches_lie_further_up_and_left():
  params, x = random_backbone(PLAIN), images(1, 64, 32)
  moved = jnp.pad(x, ((0, 0), (2, 0), (2, 0), (0, 0)))[:, :64, :32]
  found = encode(params, x, ("tokens",), PLAIN.clone(patch_padding=2))
  np.testing.assert_allclose(found.tokens, encode(params, moved, ("tokens",), PLAIN).tokens, atol=1e-5)


def test_centered_coordinates_do_not_know_the_size():
  """The middle has angle zero, ends mirror each other, and finer grids have the same ends within a cell."""
  angles = np.asarray(grid_angles((3, 5), 8, "centered")).reshape(3, 5, 2, 2)
  np.testing.assert_allclose(angles[1, 2], 0, atol=1e-6)
  np.testing.assert_allclose(angles[0, 0], -angles[2, 4], rtol=1e-6)
  np.testing.assert_allclose(angles[0, 0, 0], -2 * np.pi * (2 / 3) / 100 ** np.array([0, 0.5]), rtol=1e-5)
  np.testing.assert_allclose(angles[0, 0, 1], -2 * np.pi * (4 / 5) / 100 ** np.array([0, 0.5]), rtol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("wanted", [(16, 8), (37, 37), (18, 9), (50, 40)])
def test_antialiased_positions_are_those_of_pytorch(torch, wanted):
  table = np.random.default_rng(0).standard_normal((37 * 37, 6), np.float32)
  grid = torch.tensor(table.reshape(1, 37, 37, 6)).permute(0, 3, 1, 2)
  theirs = torch.nn.functional.interpolate(grid, size=wanted, mode="bicubic", antialias=True)
  ours = interpolate_positions(jnp.asarray(table), (37, 37), wanted, "grid2d_antialiased")
  np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).reshape(-1, 6).numpy(), atol=3e-5)


def test_kernels_refuse_blocks_that_they_do_not_compute():
  assert fits(192) and not fits(192, 1e-5) and not fits(768)
  plain = Block(192, 3, attention="pallas")
  assert plain.is_kernel(None)
  for change in ({"norm_eps": 1e-5}, {"layer_scale": True}, {"k_bias": False}, {"attention": "xla"}):
    assert not plain.clone(**change).is_kernel(None), change
  assert not plain.is_kernel(jnp.zeros((1, 2, 32)))


def test_plain_vits_are_as_they_were():
  shapes = parameter_shapes(BACKBONES["vit_tiny"](image_hw=(256, 128)))
  assert sum(map(np.prod, shapes.values())) == 5_511_360 + 2 * 192 and "reg_token" not in shapes
  assert not any("ls1" in path or "q_bias" in path for path in shapes)
  assert build_backbone("vit_tiny").norm_eps == NORM_EPSILON


@pytest.mark.parametrize(
  "name, attributes, words",
  [
    ("vit_tiny", {"norm_eps": 0.0}, "config.model.norm_eps is 0.0: expected a small positive number"),
    ("vit_tiny", {"patch_padding": 8}, "config.model.patch_padding is 8: expected 0 to 7 pixels"),
    ("dinov2_small", {"patch_padding": -1}, "expected 0 to 6 pixels"),
    ("swin_tiny", {"norm_eps": 1e-5}, "config.model.norm_eps is 1e-05: swin_tiny is no ViT; remove the setting"),
  ],
)
def test_attributes_are_checked(name, attributes, words):
  with pytest.raises(ValueError, match=words):
    check_attributes(name, "config.model.", **attributes)
