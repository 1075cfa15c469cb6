"""HRNet: timm's numbers from timm's weights, and images of any size, alone or on a canvas."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones.convolution import convolve
from saip_jax.backbones.enlarge import ENLARGE_RULES
from saip_jax.backbones.hrnet import HRNet, HRNetStage
from saip_jax.backbones.statistics import split_statistics
from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.hrnet import HRNET_NAMES
from saip_jax.interop.torch_encoders import adapt, make_encoder, tapped_layer
from tests.support import pyramid_laws

TINY = HRNet(dims=(4, 6, 8, 10), depths=(1, 1, 2, 1), units=2)


@pytest.fixture(scope="module")
def timms():
  return pyramid_laws.timms_model("hrnet_w18", HRNet(), HRNET_NAMES, head="")


@pytest.mark.torch
@pytest.mark.parametrize(
  "image_hw,enlarging",
  [pytest.param((256, 128), "nearest", marks=pytest.mark.slow), ((96, 160), "nearest"), ((64, 96), "bilinear")],
)
def test_the_features_are_timms(timms, image_hw, enlarging):
  """With bilinear enlarging they equal those of timm's model with interpolating Upsample layers."""
  torch, x = timms.torch, pyramid_laws.images(0, 2, *image_hw)
  model, module = copy.deepcopy(timms.model), HRNet(enlarging=enlarging)
  if enlarging == "bilinear":
    adapt(ARCHITECTURES["hrnet_w18_bilinear"], model)
  norm = {name: torch.tensor(a) for name, a in timms.norm.items()}
  with torch.inference_mode():
    pixels = torch.tensor(x.transpose(0, 3, 1, 2))
    maps = [cells.permute(0, 2, 3, 1) for cells in model(pixels)]
    cls, tokens = make_encoder("hrnet", model, {})(pixels)
    hidden = tapped_layer("hrnet", model, norm, 2, pixels)
  read = ("cls", "tokens", "hidden", "maps")
  ours = jax.jit(lambda tree, x: module.apply(split_statistics(tree), x, read))(timms.tree, x)
  for a, b, stride in zip(ours.maps, maps, HRNet().map_strides, strict=True):
    assert a.shape[1:3] == tuple(side // stride for side in image_hw) and float(b.std()) > 0.3  # not all washed out
    pyramid_laws.assert_close(a, b, 1e-4)
  pyramid_laws.assert_close(ours.cls, cls, 1e-4)
  pyramid_laws.assert_close(ours.tokens, tokens, 1e-4)
  pyramid_laws.assert_close(ours.hidden, hidden, 1e-4)
  if enlarging == "nearest":
    np.testing.assert_allclose(ours.tokens.mean(1), ours.cls, atol=1e-4)  # both are the same four maps
  assert ours.grid == ours.maps[0].shape[1:3] and ours.hidden_grid == HRNet().hidden_grid(image_hw)


@pytest.mark.torch
def test_timms_state_returns_unchanged(timms):
  pyramid_laws.check_round_trip(timms, 9_562_260, "classifier")


@pytest.mark.parametrize("enlarging", ENLARGE_RULES)
def test_padding_changes_nothing(enlarging):
  """Both sizes round up at every stride."""
  pyramid_laws.check_padding(TINY.clone(enlarging=enlarging), (50, 23), (75, 42))


def test_only_what_is_read_is_needed_in_either_type():
  pyramid_laws.check_reads(TINY, "stage4")


def test_maps_are_those_of_the_branches():
  for cells in pyramid_laws.check_maps(TINY):
    assert cells.min() == 0 and cells.max() > 0.1  # from a ReLU, as they come


@pytest.mark.slow
def test_recomputing_changes_no_gradient():
  """Blocks are compiled once for all equal ones: one of the first stage, one for each map of the two others."""
  pyramid_laws.check_recomputing(TINY, blocks=1 + 2 + 3)


@pytest.mark.parametrize("side,stride,hw", [(3, 1, (7, 5)), (3, 2, (7, 6)), (3, 2, (8, 1)), (1, 1, (4, 3))])
def test_gradients_of_convolutions_are_xlas(side, stride, hw):
  """On CPU they are written by hand; on others they are XLA's own."""
  rng = np.random.default_rng(0)
  x, kernel = (rng.standard_normal(s, np.float32) for s in ((2, *hw, 3), (side, side, 3, 4)))
  pad = [(side // 2, side // 2)] * 2
  native = lambda x, kernel: jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  assert convolve(x, kernel, stride).shape == (2, *(-(-n // stride) for n in hw), 4)
  gradients = lambda f: jax.grad(lambda *inputs: jnp.sum(jnp.sin(f(*inputs))), (0, 1))
  ours = gradients(lambda *inputs: convolve(*inputs, stride))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours(x, kernel), gradients(native)(x, kernel))
  on_tpu = jax.jit(ours).trace(x, kernel).lower(lowering_platforms=("tpu",)).as_text()
  assert on_tpu.count("stablehlo.convolution") == 3 and "dot_general" not in on_tpu


@pytest.mark.slow
def test_everything_learns_from_the_real_pixels_of_a_batch():
  """Parameters and running statistics of every step of the scans move, and what pads an image has no part in it."""
  tree, (alone, canvas, padded) = pyramid_laws.trained(TINY), pyramid_laws.on_canvas([(48, 24), (48, 24), (64, 32)])
  sizes = padded.replace(index=padded.index[:2])

  def loss(params, x, padded):
    variables = split_statistics(tree) | {"params": params}
    features, after = TINY.apply(variables, x, ("cls", "hidden"), padded=padded, mutable=["batch_stats"])
    return jnp.sum(jnp.sin(features.cls)) + jnp.sum(jnp.sin(features.hidden[:, 0])), after["batch_stats"]

  params, before = split_statistics(tree)["params"], split_statistics(tree)["batch_stats"]
  grads, moved = jax.jit(jax.grad(loss, has_aux=True))(params, canvas[:2], sizes)
  expected = jax.jit(lambda *inputs: loss(*inputs, None)[1])(params, np.concatenate(alone[:2]))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), moved, expected)
  still = jax.tree.map(lambda a, b: bool(np.any(np.all(a == b, axis=-1))), *jax.device_get((moved, before)))
  assert not any(jax.tree.leaves(still))
  assert all(np.any(g) and np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


def test_initial_values_are_timms():
  stage = HRNetStage((8, 16), 1, 2, "nearest")
  made = jax.jit(lambda: stage.init(jax.random.key(0), [jnp.zeros((1, 8, 8, 32))], [None]))()["params"]
  kernel = made["blocks"]["branches_1"]["conv1"]["conv"]["kernel"]
  assert kernel.shape == (1, 2, 3, 3, 16, 16)
  np.testing.assert_allclose(np.std(kernel), (2 / (9 * 16)) ** 0.5, rtol=0.05)
  assert np.abs(kernel[0, 0] - kernel[0, 1]).max() > 0.1  # every block has its own
  np.testing.assert_allclose(np.std(made["narrowed"]["conv"]["kernel"]), (2 / (9 * 8)) ** 0.5, rtol=0.05)
