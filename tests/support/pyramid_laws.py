"""timm's models of networks of stages, and checks that all of these networks must pass."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones.features import PaddedSizes, Views
from saip_jax.backbones.statistics import split_statistics
from saip_jax.interop import torch_model
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.tables import flatten, from_torch, to_torch, unflatten

# Scales of batch norms before residual additions; with scales of 1, features would explode.
_ADDED = r"bn[23]\.weight$|conv[23]/bn/scale$|fuse_layers.*\.1\.weight$|from_\d_to_\d.*/scale$"


def values_of_training(rng, name: str, shape) -> np.ndarray:
  """Returns values of the magnitude of trained ones, for leaves of both libraries: every block has some effect."""
  leaf = name.split("/")[-1].split(".")[-1]
  noise = rng.standard_normal(shape, np.float32)
  if leaf in ("gamma", "relative_position_bias_table", "attention_biases"):
    return 0.5 * noise
  if re.search(_ADDED, name):
    return 0.3 + 0.1 * noise
  if leaf in ("var", "running_var"):
    return np.exp(0.3 * noise)
  if len(shape) == 1 or leaf in ("scale", "bias", "mean"):
    return (leaf in ("weight", "scale")) + 0.2 * noise
  fan_in = np.prod(shape[1:]) if leaf == "weight" else np.prod(shape[-4:-1])  # leading axes are stacked
  return noise / np.sqrt(fan_in, dtype=np.float32)


@functools.cache
def trained(backbone, seed: int = 5) -> dict:
  """Returns parameters and running statistics of a backbone that resemble trained ones."""
  rng = np.random.default_rng(seed)
  return unflatten({p: values_of_training(rng, p, shape) for p, shape in parameter_shapes(backbone).items()})


def images(seed: int, *shape) -> np.ndarray:
  return np.random.default_rng(seed).standard_normal((*shape, 3), np.float32)


def assert_close(ours, theirs, limit):
  np.testing.assert_allclose(np.asarray(ours, np.float32), np.asarray(theirs, np.float32), rtol=0, atol=limit)


def timms_model(name: str, backbone, names, **options) -> types.SimpleNamespace:
  """Returns timm's model with random weights and the same weights as our tree; skips the test without timm."""
  missing = torch_model.why_missing(("torch", "timm"))
  if missing:
    pytest.skip(missing)
  import timm
  import torch

  model = timm.create_model(name, num_classes=0, **options).eval()
  rng = np.random.default_rng(2)
  shapes = {n: tuple(t.shape) for n, t in model.state_dict().items() if t.is_floating_point()}  # others are counters
  state = {n: values_of_training(rng, n, shape) for n, shape in shapes.items()}
  model.load_state_dict(model.state_dict() | {n: torch.tensor(a) for n, a in state.items()})
  norm = {row.torch: values_of_training(rng, row.torch, (backbone.hidden_width,)) for row in names.extra}
  tree = from_torch(state | norm, [*names.timm, *names.extra], names.ignored, parameter_shapes(backbone))
  return types.SimpleNamespace(torch=torch, model=model, state=state, norm=norm, tree=tree, names=names)


def check_features(timms, backbone, image_hw: tuple[int, int], channels_last: bool):
  """Asserts that images give timm's last map, pooled feature and third stage, the last after our norm."""
  torch, x = timms.torch, images(0, 2, *image_hw)
  with torch.inference_mode():
    pixels = torch.tensor(x.transpose(0, 3, 1, 2))
    tokens = timms.model.forward_features(pixels)
    cls = timms.model.forward_head(tokens, pre_logits=True)
    tokens = tokens if channels_last else tokens.permute(0, 2, 3, 1)
    (stage,) = timms.model.forward_intermediates(pixels, indices=[2], intermediates_only=True)
    norm = [torch.tensor(timms.norm[f"inter_norm.{part}"]) for part in ("weight", "bias")]
    stage = torch.nn.functional.layer_norm(stage.permute(0, 2, 3, 1), (backbone.hidden_width,), *norm, 1e-6)
    hidden = torch.cat([stage.mean((1, 2))[:, None], stage.flatten(1, 2)], dim=1)
  ours = jax.jit(lambda p, x: backbone.apply({"params": p}, x, ("cls", "tokens", "hidden")))(timms.tree, x)
  assert float(tokens.std()) > 0.3 and float(stage.std(1).mean()) > 0.1  # not all nearly constant
  assert_close(ours.cls, cls, 1e-4)
  assert_close(ours.tokens, tokens.flatten(1, 2), 1e-4)
  assert_close(ours.hidden, hidden, 1e-4)
  assert ours.hidden_mask is None and ours.attention is None
  assert ours.grid == tuple(tokens.shape[1:3])
  assert ours.hidden_grid == backbone.hidden_grid(image_hw) == tuple(stage.shape[1:3])


def check_round_trip(timms, count: int, classifier: str = "head.fc"):
  """Asserts that timm's tensors round-trip bit for bit, and the number of parameters without a classifier."""
  assert sum(p.numel() for p in timms.model.parameters()) == count
  paths = {row.path for row in timms.names.timm}
  flat = {path: a for path, a in flatten(timms.tree).items() if path in paths}
  assert sum(a.size for a in flatten(split_statistics(unflatten(flat))["params"]).values()) == count
  back = to_torch(unflatten(flat), timms.names.timm, 16)
  assert back.keys() == timms.state.keys()
  for name, array in timms.state.items():
    np.testing.assert_array_equal(back[name], array)
  other = {f"{classifier}.weight": np.zeros((10, 4), np.float32)}
  assert from_torch(timms.state | other, timms.names.timm, timms.names.ignored).keys() == unflatten(flat).keys()


def encoded(backbone, params, x, reads, padded=None):
  return jax.jit(lambda p, x: backbone.apply(split_statistics(p), x, reads, padded=padded))(params, x)


def on_canvas(sizes: list[tuple[int, int]]) -> tuple[list[np.ndarray], np.ndarray, PaddedSizes]:
  """Returns images of these sizes, singly and together on one canvas padded with NaN."""
  alone = [images(20 + i, 1, *hw) for i, hw in enumerate(sizes)]
  canvas = np.full((len(sizes), *np.max(sizes, axis=0), 3), np.nan, np.float32)
  for i, (h, w) in enumerate(sizes):
    canvas[i, :h, :w] = alone[i][0]
  return alone, canvas, PaddedSizes(tuple(sizes[::-1]), jnp.arange(len(sizes))[::-1])


def check_padding(backbone, small: tuple[int, int], large: tuple[int, int]):
  """Asserts that an image alone and on a larger canvas has the same features."""
  params, (alone, canvas, padded) = trained(backbone), on_canvas([large, small])
  mixed = encoded(backbone, params, canvas, ("cls", "hidden", "maps"), padded)
  single = encoded(backbone, params, alone[1], ("cls", "hidden", "maps"))
  assert_close(mixed.cls[1], single.cls[0], 2e-5)
  for ours, theirs in zip(mixed.maps, single.maps, strict=True):
    assert_close(ours[1, : theirs.shape[1], : theirs.shape[2]], theirs[0], 1e-4)
  h, w = backbone.hidden_grid(small)
  cells = np.zeros(mixed.hidden_grid, bool)
  cells[:h, :w] = True
  assert mixed.hidden_mask[0].all() and not cells.all()
  np.testing.assert_array_equal(mixed.hidden_mask[1], np.r_[True, cells.ravel()])
  assert_close(mixed.hidden[1][mixed.hidden_mask[1]], single.hidden[0], 2e-5)


def check_reads(backbone, *deeper: str):
  """Asserts that reading only the tapped layer needs no deeper modules, and that bfloat16 gives similar features."""
  params, x = trained(backbone), images(8, 1, 2, 64, 48)
  views = lambda x: [Views(x, ("cls", "tokens", "hidden"))]
  encode = lambda x: backbone.apply(split_statistics(params), views(x), method="encode")
  (whole,) = jax.jit(encode)(x)
  shallow = {name: p for name, p in params.items() if name not in deeper}
  tapped = encoded(backbone, shallow, x[0], ("hidden",))
  assert tapped.cls is None and tapped.tokens is None
  assert_close(whole.hidden, tapped.hidden, 1e-5)
  assert whole.cls.shape == (2, backbone.feature_width)

  rough = encoded(backbone.clone(dtype=jnp.bfloat16), params, x[0], ("cls", "hidden"))
  assert rough.tokens is None
  for a, b in ((whole.cls, rough.cls), (whole.hidden, rough.hidden)):
    assert b.dtype == jnp.bfloat16
    assert np.abs(a - b.astype(jnp.float32)).mean() < 0.05 * np.abs(a).mean()


def check_maps(backbone):
  """Asserts that maps have the declared strides and widths, and can be read without the tapped layer."""
  params, x = trained(backbone), images(8, 2, 96, 48)
  features = encoded(backbone, {name: p for name, p in params.items() if name != "inter_norm"}, x, ("maps",))
  assert features.cls is None and features.tokens is None and features.hidden is None
  for cells, stride, width in zip(features.maps, backbone.map_strides, backbone.map_widths, strict=True):
    assert cells.shape[0] == 2 and cells.shape[3] == width and cells.shape[1] == 96 // stride
    assert cells.shape[2] in (48 // stride, -(-48 // stride))
  return features.maps


def check_stages_are_standardized(maps):
  for cells in maps[:-1]:
    assert_close(jnp.mean(cells, axis=-1), 0, 1e-5)
    assert_close(jnp.std(cells, axis=-1), 1, 1e-3)


def check_recomputing(backbone, blocks: int | None = None):
  """Asserts that rematerialization changes no gradient, and that NaN padding reaches none."""
  params, (_, canvas, padded) = trained(backbone), on_canvas([(48, 24), (40, 32)])

  def gradients(remat):
    def loss(params):
      features = backbone.clone(remat=remat).apply(split_statistics(params), canvas, ("hidden",), padded=padded)
      return jnp.sum(jnp.sin(features.hidden[:, 0]))

    program = jax.jit(jax.grad(loss)).trace(params)
    return program.lower().compile()(params), str(program.jaxpr).count("= remat2[")

  expected, recomputed = gradients("none")
  assert recomputed == 0 and all(np.isfinite(g).all() for g in jax.tree.leaves(expected))
  assert any(np.any(g) for g in jax.tree.leaves(expected))
  actual, recomputed = gradients("light")
  assert recomputed == (blocks or sum(backbone.depths[:3]))
  jax.tree.map(lambda a, b: assert_close(a, b, 1e-5 * max(1, np.abs(b).max())), actual, expected)
