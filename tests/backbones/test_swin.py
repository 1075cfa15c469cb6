"""Swin: timm's numbers from timm's weights, and images of any size, alone or on a canvas."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones import build_backbone
from saip_jax.backbones.extent import Extent
from saip_jax.backbones.swin import Swin, SwinBlock, SwinPatchEmbed
from saip_jax.backbones.windows import Windows
from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.shapes import parameter_shapes
from tests.support import pyramid_laws

TINY = Swin(dims=(8, 12, 16, 24), depths=(1, 2, 1, 1), heads=(2, 2, 4, 3), window=4)


SIZES = {  # parameters without classifier, as timm counts them
  "swin_tiny": 27_519_354,
  "swin_small": 48_837_258,
  "swin_base": 86_743_224,
}


@pytest.fixture(
  scope="module", params=["swin_tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in list(SIZES)[1:])]
)
def timms(request):
  name, options = request.param, dict(always_partition=True, strict_img_size=False)
  model = f"{name}_patch4_window7_224"
  found = pyramid_laws.timms_model(model, build_backbone(name), ARCHITECTURES[name].names, **options)
  found.name = name
  return found


@pytest.mark.torch
@pytest.mark.parametrize("image_hw", [(256, 128), (72, 40)])
def test_the_features_are_timms(timms, image_hw):
  """On the second size maps have odd sides, and the last two are smaller than a window."""
  pyramid_laws.check_features(timms, build_backbone(timms.name), image_hw, channels_last=True)


@pytest.mark.torch
def test_timms_state_returns_unchanged(timms):
  pyramid_laws.check_round_trip(timms, SIZES[timms.name])


@pytest.mark.torch
@pytest.mark.parametrize("name", SIZES)
def test_the_sizes_are_timms(name):
  """Names and shapes of all tensors, without values; tables of relative positions have a column for each head."""
  timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
  with torch.device("meta"):
    model = timm.create_model(f"{name}_patch4_window7_224", num_classes=0)
  ours = parameter_shapes(build_backbone(name))
  assert sum(map(math.prod, ours.values())) == SIZES[name] + 2 * build_backbone(name).hidden_width
  table = {row.torch: row for row in ARCHITECTURES[name].names.timm}
  theirs = {n: tuple(p.shape) for n, p in model.named_parameters()}
  assert table.keys() == theirs.keys()
  for n, shape in theirs.items():
    row = table[n]
    assert row.layout.to_torch(np.broadcast_to(np.float32(0), ours[row.path]), 16).shape == shape, n


def test_a_merging_bias_is_one_vector_for_each_merging():
  biased = parameter_shapes(TINY.clone(merging_bias=True))
  added = biased.keys() - parameter_shapes(TINY).keys()
  assert {path: biased[path] for path in added} == {
    f"layers_{i}/downsample/reduction/bias": (width,) for i, width in ((1, 12), (2, 16), (3, 24))
  }
  pyramid_laws.check_padding(TINY.clone(merging_bias=True), (48, 24), (72, 36))


def test_padding_changes_nothing():
  pyramid_laws.check_padding(TINY, (48, 24), (72, 36))


def test_windows_of_a_canvas_are_those_of_the_images_alone():
  """Each image's windows come first along both axes, and what the canvas has beyond them is zero."""
  x, sizes = pyramid_laws.images(1, 2, 11, 9), [(5, 9), (11, 2)]
  canvas = Windows((11, 9), 4, 2, Extent(np.asarray(sizes)))
  cut, masked, joined = jax.jit(lambda x: (canvas.cut(x), canvas.masked_pairs(), canvas.join(canvas.cut(x))))(x)
  for i, (h, w) in enumerate(sizes):
    alone = Windows((h, w), 4, 2, None)
    own, hidden = jax.jit(lambda x: (alone.cut(x)[0], alone.masked_pairs()[0]))(x[i : i + 1, :h, :w])
    rows, columns = -(-h // 4), -(-w // 4)
    shape = lambda a: np.asarray(a).reshape(3, 3, *a.shape[1:])
    own, hidden = own.reshape(rows, columns, 16, 3), hidden.reshape(rows, columns, 16, 16)
    np.testing.assert_array_equal(shape(cut[i])[:rows, :columns], own)
    assert np.abs(cut[i]).sum() == pytest.approx(np.abs(own).sum())
    np.testing.assert_array_equal(shape(masked[i])[:rows, :columns], hidden)
    np.testing.assert_array_equal(joined[i, :h, :w], x[i, :h, :w])


def test_only_what_is_read_is_needed_in_either_type():
  pyramid_laws.check_reads(TINY, "layers_3", "norm")


def test_maps_are_those_of_the_stages():
  pyramid_laws.check_stages_are_standardized(pyramid_laws.check_maps(TINY))


def test_recomputing_changes_no_gradient():
  pyramid_laws.check_recomputing(TINY)


def test_initial_values_are_timms():
  init = lambda module, *inputs: jax.jit(lambda: module.init(jax.random.key(0), *inputs))()["params"]
  attention = init(SwinBlock(3, 7, 0), jnp.zeros((1, 7, 7, 24)), None)["attn"]
  for values in (attention["qkv"]["kernel"], attention["relative_position_bias_table"]):
    assert 0.015 < np.std(values) < 0.025
  assert not attention["qkv_bias"].any() and not attention["proj"]["bias"].any()
  kernel = init(SwinPatchEmbed(24), jnp.zeros((1, 4, 4, 3)))["proj"]["kernel"]
  assert 0.95 < np.abs(kernel).max() * np.sqrt(48) <= 1  # uniform within 1 / sqrt(fan in)
