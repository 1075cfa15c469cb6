"""A ViT with another number of heads in its last block: outputs, export and import."""

import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax import cli
from saip_jax.backbones.features import Views
from saip_jax.backbones.patches import patchify
from saip_jax.backbones.vit import ViT
from saip_jax.interop import export, export_request
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.spec import BackboneSpec
from saip_jax.interop.weights import open_weights
from tests.support.toy_weights import add_toy_backbone, assert_same, random_backbone, random_weights

VIT = ViT(width=24, depth=3, heads=2, last_heads=6, tapped_block=1, image_hw=(64, 32), pos_interpolation="grid2d")


@pytest.fixture(autouse=True)
def toy_backbone(monkeypatch):
  add_toy_backbone(monkeypatch)


def reference(params: dict, images: np.ndarray, heads: tuple[int, ...]) -> np.ndarray:
  """The tokens of a ViT by its definition, float64, one head after the other."""
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
  centered = lambda x: x - x.mean(-1, keepdims=True)
  norm = lambda x, q: centered(x) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * q["scale"] + q["bias"]
  linear = lambda x, q: x @ q["kernel"] + q["bias"]
  gelu = np.vectorize(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))))
  x = linear(np.asarray(patchify(jnp.asarray(images), 16), np.float64), p["patch_embed"]) + p["pos_embed"][:, 1:]
  first = np.broadcast_to(p["cls_token"] + p["pos_embed"][:, :1], (len(x), 1, x.shape[-1]))
  x = np.concatenate([first, x], axis=1)
  for i, count in enumerate(heads):
    b = jax.tree.map(lambda a: a[i], p["blocks"])
    q, k, v = np.split(linear(norm(x, b["norm1"]), b["qkv"]), 3, axis=-1)
    mixed, d = np.zeros_like(x), x.shape[-1] // count
    for h in range(count):
      part = slice(h * d, (h + 1) * d)
      logits = np.einsum("bqd,bkd->bqk", q[..., part], k[..., part]) / math.sqrt(d)
      weights = np.exp(logits - logits.max(-1, keepdims=True))
      mixed[..., part] = np.einsum("bqk,bkd->bqd", weights / weights.sum(-1, keepdims=True), v[..., part])
    x = x + linear(mixed, b["proj"])
    x = x + linear(gelu(linear(norm(x, b["norm2"]), b["mlp"]["fc1"])), b["mlp"]["fc2"])
  return norm(x, p["norm"])


def test_only_the_last_block_has_them():
  images = np.random.default_rng(0).standard_normal((2, 64, 32, 3)).astype(np.float32)
  plain = VIT.clone(last_heads=None)
  assert parameter_shapes(VIT) == parameter_shapes(plain)
  params = random_backbone(VIT)
  wanted, other = (reference(params, images, heads) for heads in ((2, 2, 6), (2, 2, 2)))
  assert np.abs(wanted - other).max() > 0.01
  encode = lambda module, *reads: jax.jit(lambda p, x: module.apply({"params": p}, x, reads))(params, images)
  both = encode(VIT, "cls", "tokens", "hidden")
  np.testing.assert_allclose(both.cls, wanted[:, 0], atol=1e-5)
  np.testing.assert_allclose(both.tokens, wanted[:, 1:], atol=1e-5)
  np.testing.assert_allclose(both.hidden, encode(plain, "hidden").hidden, atol=1e-6)
  np.testing.assert_allclose(encode(VIT.clone(unroll=True, remat="full"), "tokens").tokens, both.tokens, atol=1e-5)
  mapped = encode(VIT, "cls", "attention")  # the way that computes the class token alone
  np.testing.assert_allclose(mapped.cls, wanted[:, 0], atol=1e-5)
  assert mapped.attention[0].shape == (2, 6, 9, 9)
  np.testing.assert_allclose(encode(plain, "tokens").tokens, other[:, 1:], atol=1e-5)


def test_rotary_positions_turn_them_too():
  """Heads of six features and of two: several views packed together are as encoded alone."""
  vit = VIT.clone(rope=True, heads=2, last_heads=6)
  params = {"params": random_backbone(vit)}
  views = [Views(jax.random.normal(jax.random.key(1), (1, 2, *hw, 3)), ("cls",)) for hw in ((64, 32), (32, 48))]
  together = jax.jit(lambda p: vit.apply(p, views, method=ViT.encode))(params)
  for view, features in zip(views, together, strict=True):
    alone = jax.jit(lambda p: vit.apply(p, view.images[0], ("cls", "tokens")))(params)
    np.testing.assert_allclose(features.cls.reshape(2, -1), alone.cls, atol=1e-5)


def test_numbers_of_heads_are_checked_and_equal_networks_have_equal_specs():
  spec = BackboneSpec("vit_tiny", (256, 128), "grid2d")
  assert spec.attending(3, 3) == spec.attending(None, 3) == spec.attending(3, None) == spec
  assert spec.attending(6, 12).facts() | {"heads": 3, "last_heads": 3} == spec.facts()
  for heads, words in (((5, None), "heads is 5.*divisor.*192"), ((6, 7), "last_heads is 7"), ((0, 3), "heads is 0")):
    with pytest.raises(ValueError, match=words):
      spec.attending(*heads)
  with pytest.raises(ValueError, match="heads is 6: swin_tiny has the attention heads of its stages"):
    BackboneSpec("swin_tiny", (224, 224)).attending(6, None)


def distilled(name="vit_toy"):
  """Weights with 6 heads, 12 in the last block."""
  weights = random_weights(name, (64, 32))
  return type(weights)(weights.spec.attending(6, 12), weights.student, weights.teacher, "distilled")


@pytest.mark.torch
@pytest.mark.parametrize("dialect", ["safetensors", "saip", "torchscript"])
def test_exports_compute_the_same_and_come_back(tmp_path, monkeypatch, torch, dialect):
  weights, out = distilled("vit_tiny"), tmp_path / "out"
  monkeypatch.setattr(export, "open_weights", lambda path: weights)
  assert cli.main(["export", "--checkpoint=W", f"--dialect={dialect}", f"--out={out}"]) == 0
  model = json.loads((out / "parity.json").read_text())["model"]
  assert (model["heads"], model["last_heads"]) == (6, 12)
  card = (out / "README.md").read_text()
  assert "6 heads and 12 in the last block" in card
  if dialect == "torchscript":
    return
  back = open_weights(out)
  assert back.spec == weights.spec and not any("heads" in note for note in back.notes)
  assert_same(back.backbone(), weights.backbone())
  if dialect == "saip":  # the file states it by itself
    (out / "parity.json").unlink()
    assert open_weights(out / "model.pth").spec.last_heads == 12
    return
  monkeypatch.chdir(out)
  names = {}
  exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], names)  # the lines of the card, as they stand
  images = np.random.default_rng(0).standard_normal((2, 64, 32, 3)).astype(np.float32)
  ours = weights.spec.build().apply({"params": weights.backbone()}, images)
  with torch.no_grad():
    theirs = names["model"].eval().forward_features(torch.tensor(images.transpose(0, 3, 1, 2)))
  np.testing.assert_allclose(ours.cls, theirs[:, 0].numpy(), atol=2e-5)


@pytest.mark.parametrize("dialect", ["timm", "mae", "dino", "vitpose", "mmpose"])
def test_what_its_readers_cannot_express_is_refused(tmp_path, monkeypatch, capsys, dialect):
  monkeypatch.setattr(export_request, "why_missing", lambda packages: None)
  monkeypatch.setattr(export, "open_weights", lambda path: distilled())
  assert cli.main(["export", "--checkpoint=W", f"--dialect={dialect}", f"--out={tmp_path / 'out'}"]) == 2
  error = capsys.readouterr().err
  assert f"--dialect={dialect} " in error and "6 attention heads, 12 in the last block" in error
  assert "choose one of safetensors, saip, onnx, torchscript" in error and error.count("\n") == 1
  assert not list(tmp_path.iterdir())
