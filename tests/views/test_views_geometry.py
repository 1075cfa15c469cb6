"""Crops and resizes against Pillow, torchvision and torch, given the same parameters."""

import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from saip_jax.views import geometry, rescaling

GRAY_LEVEL = 1 / 255
FACTORS = (0.75, 0.875, 1.125, 1.25)
quick = hypothesis.settings(max_examples=20, deadline=None)


def photo(seed, height=320, width=160):
  """An image with shading, hard edges, texture and saturated areas; uint8 (H, W, 3)."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width] / height
  waves = [np.sin(2 * np.pi * (a * y + b * x + c)) for a, b, c in rng.uniform(-2, 2, (3, 3))]
  image = 0.5 + 0.25 * np.stack(waves, -1)
  for _ in range(12):  # colored boxes
    top, left = rng.uniform(0, 0.9), rng.uniform(0, 0.45)
    inside = (y > top) & (y < top + rng.uniform(0.05, 0.4)) & (x > left) & (x < left + rng.uniform(0.03, 0.2))
    image[inside] = 0.6 * rng.uniform(0, 1, 3) + 0.4 * image[inside]
  texture = 0.08 * np.sin(2 * np.pi * (x + y) * height / 5)[..., None] + rng.normal(0, 0.03, image.shape)
  image += np.where((x > 0.25)[..., None], texture, 0)
  return np.uint8(np.clip(image, 0, 1) * 255 + 0.5)


crop_resize = jax.jit(geometry.crop_resize, static_argnums=2)
BOXES = [  # box_yxhw, out_hw, flip: shrinking, enlarging, both at once, whole canvas, touching each edge
  ((10, 20, 200, 100), (128, 64), False),
  ((250, 120, 50, 27), (128, 64), True),
  ((0, 0, 320, 160), (256, 128), False),
  ((13, 31, 300, 40), (128, 64), True),
  ((20, 0, 160, 160), (224, 224), False),
]


@pytest.mark.parametrize("box, out_hw, flip", BOXES)
def test_crop_resize_agrees_with_pillow(box, out_hw, flip):
  top, left, height, width = box
  image = photo(1)
  pil = Image.fromarray(image).crop((left, top, left + width, top + height))
  pil = pil.resize(out_hw[::-1], Image.Resampling.BICUBIC)
  if flip:
    pil = pil.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  view = crop_resize(geometry.to_planes(image), jnp.array(box, jnp.float32), out_hw, flip)
  difference = np.abs(np.moveaxis(np.asarray(view), 0, -1) - np.asarray(pil) / 255)
  assert difference.mean() < 0.5 * GRAY_LEVEL
  # where Pillow clips between its two passes an overshoot, and there alone, a few levels are possible
  assert np.quantile(difference, 0.99) < 1.1 * GRAY_LEVEL


@pytest.mark.torch
@pytest.mark.parametrize("box, out_hw, flip", BOXES)
def test_crop_resize_is_torchvisions_on_floats(box, out_hw, flip):
  torch = pytest.importorskip("torch")
  functional = pytest.importorskip("torchvision.transforms.functional")
  planes = geometry.to_planes(photo(2))
  bicubic = functional.InterpolationMode.BICUBIC
  expected = functional.resized_crop(torch.tensor(np.asarray(planes)), *box, list(out_hw), bicubic, antialias=True)
  expected = functional.hflip(expected) if flip else expected
  view = crop_resize(planes, jnp.array(box, jnp.float32), out_hw, flip)
  np.testing.assert_allclose(view, expected.clamp(0, 1).numpy(), atol=2e-5)


@quick
@hypothesis.given(st.data())
def test_resample_weights_sum_to_one_and_ignore_pixels_outside_the_crop(data):
  in_size, out_size = data.draw(st.sampled_from([(40, 64), (160, 16)]))
  length = data.draw(st.integers(1, in_size))
  start = data.draw(st.integers(0, in_size - length))
  weights = np.asarray(_resample_weights(out_size, in_size, start, length))
  np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
  outside = np.r_[0:start, start + length : in_size]
  assert not weights[:, outside].any()


_resample_weights = jax.jit(geometry.resample_weights, static_argnums=(0, 1))


def draw_boxes(image_hw, area, aspect, count=4000):
  keys = jax.random.split(jax.random.key(0), count)
  return np.asarray(_draw_boxes(keys, jnp.array(image_hw), area, aspect))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _draw_boxes(keys, image_hw, area, aspect):
  return jax.vmap(
    lambda key: geometry.sample_crop_box(jax.random.uniform(key, (geometry.CROP_UNIFORMS,)), image_hw, area, aspect)
  )(keys)


@pytest.mark.torch
@pytest.mark.parametrize(
  "image_hw, area, aspect",
  [
    ((320, 160), (0.05, 0.8), (0.4, 0.6)),
    ((320, 160), (0.8, 1.0), (0.4, 0.6)),
    ((128, 64), (0.8, 1.0), (0.4, 0.6)),
    ((180, 256), (0.2, 1.0), (3 / 4, 4 / 3)),
    ((160, 100), (0.8, 1.0), (0.4, 0.6)),  # often too wide: the fallback is taken now and then
  ],
)
def test_crop_boxes_follow_torchvisions_law(image_hw, area, aspect):
  torch = pytest.importorskip("torch")
  transforms = pytest.importorskip("torchvision.transforms")
  torch.manual_seed(0)
  blank = torch.zeros(3, *image_hw)
  expected = np.array([transforms.RandomResizedCrop.get_params(blank, area, aspect) for _ in range(4000)])
  drawn = draw_boxes(image_hw, area, aspect)
  for quantity in (
    lambda b: b[:, 2] * b[:, 3] / math.prod(image_hw),
    lambda b: np.log(b[:, 3] / b[:, 2]),
    lambda b: (b[:, 0] + b[:, 2] / 2) / image_hw[0],
    lambda b: (b[:, 1] + b[:, 3] / 2) / image_hw[1],
  ):
    ours, theirs = quantity(drawn), quantity(expected)
    assert abs(ours.mean() - theirs.mean()) < 4.5 * theirs.std() / math.sqrt(2000) + 1e-6  # two means of 4000
    grid = np.unique(theirs)[:: max(1, len(np.unique(theirs)) // 50)]
    cdf = lambda values: (values[:, None] <= grid + 1e-6).mean(0)
    assert np.abs(cdf(ours) - cdf(theirs)).max() < 0.045  # Kolmogorov-Smirnov, p = 0.0006


@pytest.mark.torch
@pytest.mark.parametrize("image_hw", [(40, 400), (400, 20), (1, 160), (320, 1)])
def test_impossible_crops_fall_back_to_the_central_one(image_hw):
  torch = pytest.importorskip("torch")
  transforms = pytest.importorskip("torchvision.transforms")
  area, aspect = (0.8, 1.0), (0.4, 0.6)
  expected = transforms.RandomResizedCrop.get_params(torch.zeros(3, *image_hw), area, aspect)
  expected = np.maximum(expected, (0, 0, 1, 1))  # torchvision returns an empty box for one row of pixels
  drawn = draw_boxes(image_hw, area, aspect, 50)
  np.testing.assert_array_equal(drawn[:, 2:], np.tile(expected[2:], (50, 1)))
  assert (drawn[:, :2] == np.maximum((np.array(image_hw) - drawn[0, 2:]) // 2, 0)).all()


@quick
@hypothesis.given(st.integers(1, 320), st.integers(1, 320), st.integers(0, 2**31))
def test_crop_boxes_lie_inside_the_image(height, width, seed):
  keys = jax.random.split(jax.random.key(seed), 64)
  top, left, h, w = np.asarray(_draw_boxes(keys, jnp.array([height, width]), (0.05, 1.0), (0.4, 0.6))).T
  assert (top >= 0).all() and (left >= 0).all() and (h >= 1).all() and (w >= 1).all()
  assert (top + h <= height).all() and (left + w <= width).all()
  assert all((side == np.round(side)).all() for side in (top, left, h, w))


@pytest.mark.torch
@pytest.mark.parametrize("in_hw", [(128, 64), (256, 128), (96, 96)])
@pytest.mark.parametrize("factor", [0.5, *FACTORS])
def test_nearest_rescaling_is_torchs_to_the_bit(in_hw, factor):
  torch = pytest.importorskip("torch")
  out_hw = tuple(math.floor(size * factor) for size in in_hw)
  image = np.random.default_rng(0).normal(size=(2, *in_hw, 3)).astype(np.float32)
  planes = torch.tensor(image).movedim(-1, 1)
  expected = torch.nn.functional.interpolate(planes, out_hw, mode="nearest").movedim(1, -1)
  np.testing.assert_array_equal(rescaling.rescale_nearest(jnp.array(image), out_hw), expected.numpy())
  on_tpu = rescaling.select_pixels(jnp.array(image), out_hw)
  np.testing.assert_array_equal(on_tpu, expected.numpy())
  if factor in FACTORS:
    sizes = tuple(tuple(math.floor(size * f) for size in in_hw) for f in FACTORS)
    index = jnp.array([FACTORS.index(factor), 0])
    padded = rescaling.rescale_padded(jnp.array(image), index, sizes, antialias=False)[0]
    assert padded.shape == (math.floor(in_hw[0] * 1.25), math.floor(in_hw[1] * 1.25), 3)
    np.testing.assert_array_equal(padded[: out_hw[0], : out_hw[1]], expected[0].numpy())
    assert not padded[out_hw[0] :].any() and not padded[:, out_hw[1] :].any()


@pytest.mark.torch
@pytest.mark.parametrize("out_hw", [(48, 32), (96, 64), (160, 80)])
def test_antialiased_rescaling_is_torchs(out_hw):
  torch = pytest.importorskip("torch")
  image = np.random.default_rng(0).normal(size=(2, 128, 64, 3)).astype(np.float32)
  planes = torch.tensor(image).movedim(-1, 1)
  expected = torch.nn.functional.interpolate(planes, out_hw, mode="bicubic", antialias=True).movedim(1, -1).numpy()
  np.testing.assert_allclose(rescaling.rescale_antialiased(jnp.array(image), out_hw), expected, atol=1e-5)
  padded = rescaling.rescale_padded(jnp.array(image), jnp.array([0, 1]), (out_hw, (32, 16)), antialias=True)
  np.testing.assert_allclose(padded[0, : out_hw[0], : out_hw[1]], expected[0], atol=1e-5)


@hypothesis.given(st.integers(1, 400), st.floats(0.3, 3.0))
def test_whole_sizes_are_the_nearest_number_of_patches(size, factor):
  whole = rescaling.scaled_size(size, factor, 16)
  assert whole % 16 == 0 and whole >= 16
  assert whole == 16 or abs(whole - math.floor(size * factor)) <= 8
