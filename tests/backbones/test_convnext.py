"""ConvNeXt: timm's numbers from timm's weights, images of any size, alone or on a canvas, whole or in part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones.convnext import ConvNeXt, ConvNeXtBlock, ConvNeXtStem
from saip_jax.backbones.depthwise import depthwise_conv, native_depthwise_conv
from saip_jax.interop.convnext import CONVNEXT_NAMES
from tests.support import pyramid_laws

TINY = ConvNeXt(dims=(8, 12, 16, 24), depths=(1, 1, 1, 1))


@pytest.fixture(scope="module")
def timms():
  return pyramid_laws.timms_model("convnext_femto", ConvNeXt(), CONVNEXT_NAMES)


@pytest.mark.torch
@pytest.mark.parametrize("image_hw", [(256, 128), (75, 42)])
def test_the_features_are_timms(timms, image_hw):
  """On the second size every convolution with a stride drops pixels or cells."""
  pyramid_laws.check_features(timms, ConvNeXt(), image_hw, channels_last=False)


@pytest.mark.torch
def test_timms_state_returns_unchanged(timms):
  pyramid_laws.check_round_trip(timms, 4_832_784)


def test_padding_changes_nothing():
  """24 px: the last map would have no column."""
  pyramid_laws.check_padding(TINY, (48, 24), (75, 40))


def masked(x, ids, backbone=TINY):
  run = jax.jit(lambda p, x, ids: backbone.apply({"params": p}, x, ("hidden",), keep_ids=ids))
  return run(pyramid_laws.trained(backbone), x, jnp.asarray(ids))


def test_hidden_pixels_have_no_influence():
  """Nor has the strip that no cell of the hidden grid covers."""
  image_hw = (75, 44)
  ids = np.array([[5, 0, 3], [7, 6, 1]], np.int32)
  x = pyramid_laws.images(3, 2, *image_hw)
  expected = masked(x, ids)
  assert expected.hidden.shape == (2, 4, 16) and expected.hidden_grid == (4, 2) and expected.hidden_mask is None
  assert_cells = np.testing.assert_allclose
  assert_cells(expected.hidden[:, 0], expected.hidden[:, 1:].mean(1), atol=1e-5)

  seen = np.zeros((2, *image_hw), bool)
  for image, cells in enumerate(ids):
    for row, column in zip(*np.divmod(cells, 2)):
      seen[image, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = True
  other = np.where(seen[..., None], x, np.nan)
  np.testing.assert_array_equal(masked(other, ids).hidden, expected.hidden)
  at = np.array([[2, 1, 0], [1, 2, 0]])
  swapped = masked(x, np.take_along_axis(ids, at, 1)).hidden[:, 1:]
  np.testing.assert_array_equal(swapped, np.take_along_axis(expected.hidden[:, 1:], at[..., None], 1))

  first = x.copy()
  first[0, 64 - 1, 16 + 15] += 1  # a pixel of cell 7, which the second image alone shows
  first[1, 64 - 1, 16 + 15] += 1
  changed = np.abs(masked(first, ids).hidden - expected.hidden).max((1, 2))
  assert changed[0] == 0 and changed[1] > 1e-3


def test_hidden_cells_carry_nothing_between_seen_ones():
  """Cells 0 and 5 are out of each other's reach in every convolution; by way of those between they are not."""
  ids, x = np.array([[0, 5]], np.int32), pyramid_laws.images(5, 1, 96, 16)
  other = x.copy()
  other[0, :16] += 1
  deeper = TINY.clone(depths=(1, 1, 2, 1))
  difference = np.abs(masked(other, ids, deeper).hidden - masked(x, ids, deeper).hidden).max(-1)[0]
  assert difference[1] > 1e-2 and difference[2] == 0


def test_every_cell_seen_is_no_mask():
  x = pyramid_laws.images(4, 2, 64, 32)
  whole = pyramid_laws.encoded(TINY, pyramid_laws.trained(TINY), x, ("hidden",)).hidden
  order = np.random.default_rng(0).permuted(np.tile(np.arange(8, dtype=np.int32), (2, 1)), axis=1)
  seen = masked(x, order).hidden
  np.testing.assert_allclose(seen[:, 0], whole[:, 0], atol=1e-5)
  np.testing.assert_allclose(seen[:, 1:], np.take_along_axis(whole[:, 1:], order[..., None], 1), atol=1e-5)


def test_only_what_is_read_is_needed_in_either_type():
  pyramid_laws.check_reads(TINY, "stages_3", "head_norm")


def test_maps_are_those_of_the_stages():
  pyramid_laws.check_stages_are_standardized(pyramid_laws.check_maps(TINY))


def test_recomputing_changes_no_gradient():
  pyramid_laws.check_recomputing(TINY)


def test_both_depthwise_convolutions_are_one():
  x, kernel = pyramid_laws.images(5, 2, 9, 4), pyramid_laws.images(6, 7, 7, 1)  # a side is shorter than the kernel

  def both(convolve):
    loss = lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel)))
    return convolve(x, kernel), jax.grad(loss, (0, 1))(x, kernel)

  (ours, ours_back), (native, native_back) = map(both, (depthwise_conv, native_depthwise_conv))
  np.testing.assert_allclose(ours, native, atol=1e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours_back, native_back)
  gradient = jax.jit(jax.grad(lambda x, kernel: jnp.sum(depthwise_conv(x, kernel) ** 2), (0, 1)))
  on_tpu = gradient.trace(x, kernel).lower(lowering_platforms=("tpu",)).as_text()
  assert on_tpu.count("stablehlo.convolution") == 3 and "while" not in on_tpu


def test_counted_operations_are_those_of_the_convolutions():
  """A loop's body is counted once: `unroll` is for counting, and changes no feature."""
  x, params = pyramid_laws.images(7, 1, 64, 32), pyramid_laws.trained(TINY)
  run = lambda unroll: jax.jit(lambda x: TINY.clone(unroll=unroll).apply({"params": params}, x, ("cls",)).cls)
  np.testing.assert_allclose(run(True)(x), run(False)(x), atol=1e-4)
  count = lambda unroll: run(unroll).lower(x).compile().cost_analysis()["flops"]
  assert count(True) > 1.1 * count(False)


def test_initial_values_are_timms():
  init = lambda module, *inputs: jax.jit(lambda: module.init(jax.random.key(0), *inputs))()["params"]
  block, stem = init(ConvNeXtBlock(16), jnp.zeros((1, 4, 4, 16)), None), init(ConvNeXtStem(16), jnp.zeros((1, 4, 4, 3)))
  np.testing.assert_allclose(block["gamma"], 1e-6)
  for values in (block["conv_dw"]["kernel"], block["mlp"]["fc1"]["kernel"], stem["conv"]["kernel"]):
    assert 0.015 < np.std(values) < 0.025
  assert not block["conv_dw"]["bias"].any() and not stem["conv"]["bias"].any()
