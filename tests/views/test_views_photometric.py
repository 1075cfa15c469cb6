"""Color operations against Pillow (what the published recipe ran) and torchvision on floats."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from saip_jax.views import geometry, photometric
from tests.views.test_views_geometry import photo

GRAY_LEVEL = 1 / 255
PHOTOS = [photo(seed, 128, 64) for seed in range(4)]
apply_jitter = jax.jit(photometric.apply_jitter)
gaussian_blur = jax.jit(photometric.gaussian_blur)


def params(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, order=(0, 1, 2, 3)):
  return photometric.JitterParams(jnp.array(order), *map(jnp.float32, (brightness, contrast, saturation, hue)))


def difference(planes, expected):
  """Mean and largest absolute difference of planes (3, H, W) in [0, 1] from a Pillow image or a float tensor."""
  expected = np.asarray(expected) / 255 if isinstance(expected, Image.Image) else np.moveaxis(expected.numpy(), 0, -1)
  off = np.abs(np.moveaxis(np.asarray(planes), 0, -1) - expected)
  return off.mean(), off.max()


def torchvision_jitter(image, drawn, operations=range(4)):
  """Applies torchvision's functions in the drawn order to a Pillow image or a float tensor."""
  functional = pytest.importorskip("torchvision.transforms.functional")
  adjust = (
    functional.adjust_brightness,
    functional.adjust_contrast,
    functional.adjust_saturation,
    functional.adjust_hue,
  )
  for operation in np.asarray(drawn.order):
    if operation in operations:
      image = adjust[operation](image, float(drawn[1 + operation]))
  return image


@pytest.mark.torch
@pytest.mark.parametrize("factor", [0.6, 0.85, 1.4])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_blends_are_torchvisions(name, factor):
  torch = pytest.importorskip("torch")
  drawn, operation = params(**{name: factor}), params()._fields.index(name) - 1
  for image in PHOTOS:
    planes = geometry.to_planes(image)
    jittered = apply_jitter(planes, drawn)
    pillow, floats = Image.fromarray(image), torch.tensor(np.asarray(planes))
    assert difference(jittered, torchvision_jitter(pillow, drawn, [operation]))[0] < 0.75 * GRAY_LEVEL
    assert difference(jittered, torchvision_jitter(floats, drawn, [operation]))[1] < 1e-4


@pytest.mark.torch
@pytest.mark.parametrize("steps", [-127, -25, -13, 1, 13, 25])
def test_hue_is_torchvisions(steps):
  torch = pytest.importorskip("torch")
  drawn = params(hue=steps / 255 + math.copysign(1e-5, steps))  # Pillow truncates to whole 255ths of a turn
  for image in PHOTOS:
    planes = geometry.to_planes(image)
    jittered = apply_jitter(planes, drawn)
    pillow, floats = Image.fromarray(image), torch.tensor(np.asarray(planes))
    assert difference(jittered, torchvision_jitter(pillow, drawn, [photometric.HUE]))[0] < 0.75 * GRAY_LEVEL
    assert difference(jittered, torchvision_jitter(floats, drawn, [photometric.HUE]))[1] < 1e-4


@pytest.mark.torch
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_jitter_in_every_order(order):
  torch = pytest.importorskip("torch")
  for image, factors in zip(PHOTOS, [(0.7, 1.3, 0.85, 20), (1.35, 0.7, 1.2, -15), (1.2, 1.4, 1.1, -25)]):
    drawn = params(*factors[:3], hue=factors[3] / 255 + math.copysign(1e-5, factors[3]), order=order)
    planes = geometry.to_planes(image)
    jittered = apply_jitter(planes, drawn)
    assert difference(jittered, torchvision_jitter(torch.tensor(np.asarray(planes)), drawn))[1] < 2e-4
    # four truncations to eight bits in a row, each half a level, the early ones amplified by the later factors
    assert difference(jittered, torchvision_jitter(Image.fromarray(image), drawn))[0] < 2 * GRAY_LEVEL


def test_identity_jitter_changes_nothing():
  planes = geometry.to_planes(PHOTOS[0])
  np.testing.assert_allclose(apply_jitter(planes, params()), planes, atol=1e-6)


def test_jitter_draws_cover_the_stated_ranges_and_all_orders():
  strengths = photometric.ColorJitter(brightness=1.5, contrast=0.4, saturation=0.2, hue=0.1)
  draw = jax.jit(jax.vmap(lambda key: photometric.sample_jitter(jax.random.uniform(key, (8,)), strengths)))
  drawn = jax.tree.map(np.asarray, draw(jax.random.split(jax.random.key(0), 4800)))
  _, counts = np.unique(drawn.order, axis=0, return_counts=True)
  assert len(counts) == 24 and counts.min() > 130 and counts.max() < 270  # 200 expected each, five sigma
  for values, (low, high) in zip(drawn[1:], [(0, 2.5), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1)]):
    assert values.min() >= low and values.max() <= high
    assert abs(values.mean() - (low + high) / 2) < 0.03 * (high - low)
    assert abs(np.quantile(values, 0.25) - (0.75 * low + 0.25 * high)) < 0.03 * (high - low)


def test_gray_is_pillows():
  for image in PHOTOS:
    gray = np.asarray(photometric.to_gray(geometry.to_planes(image)))[0]
    off = np.abs(gray - np.asarray(Image.fromarray(image).convert("L")) / 255)
    assert off.max() < 0.51 * GRAY_LEVEL


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5, 0.8, 1.2, 2.0])
def test_blur_is_close_to_pillows(sigma):
  for image in PHOTOS:
    blurred = gaussian_blur(geometry.to_planes(image), sigma)
    assert difference(blurred, Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))[0] < GRAY_LEVEL


@pytest.mark.torch
@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_blur_is_torchvisions_away_from_the_border(sigma):
  torch = pytest.importorskip("torch")
  functional = pytest.importorskip("torchvision.transforms.functional")
  planes = geometry.to_planes(PHOTOS[1])
  expected = functional.gaussian_blur(torch.tensor(np.asarray(planes)), [17, 17], [sigma, sigma])
  inner = (slice(None), slice(8, -8), slice(8, -8))  # torchvision mirrors at the border, Pillow and we repeat
  np.testing.assert_allclose(gaussian_blur(planes, sigma)[inner], expected[inner].numpy(), atol=1e-5)


def test_blur_keeps_constant_images_and_width_zero_keeps_all():
  flat = jnp.full((3, 40, 20), 0.3)
  np.testing.assert_allclose(gaussian_blur(flat, 2.0), flat, atol=1e-6)
  planes = geometry.to_planes(PHOTOS[2])
  np.testing.assert_allclose(gaussian_blur(planes, 0.0), planes, atol=1e-6)


def test_solarize_is_pillows():
  for image in PHOTOS:
    solarized = photometric.solarize(geometry.to_planes(image))
    assert difference(solarized, ImageOps.solarize(Image.fromarray(image), 128))[1] < 1e-6


@pytest.mark.torch
def test_normalize_is_torchvisions_and_can_be_undone():
  torch = pytest.importorskip("torch")
  functional = pytest.importorskip("torchvision.transforms.functional")
  planes = geometry.to_planes(PHOTOS[0])
  image = photometric.normalize(planes)
  mean, std = photometric.IMAGENET_MEAN, photometric.IMAGENET_STD
  expected = functional.normalize(torch.tensor(np.asarray(planes)), mean, std)
  np.testing.assert_allclose(image, expected.movedim(0, -1).numpy(), atol=1e-6)
  np.testing.assert_allclose(photometric.denormalize(image), jnp.moveaxis(planes, 0, -1), atol=1e-6)


def augmented(recipe, count=400):
  planes = geometry.to_planes(photo(5, 32, 16))
  keys = jax.random.split(jax.random.key(1), count)
  return np.asarray(planes), np.asarray(jax.jit(jax.vmap(lambda k: augment(k, planes, recipe)))(keys))


def augment(key, planes, recipe):
  uniform = jax.random.uniform(key, (photometric.COLOR_UNIFORMS,))
  return photometric.augment(planes, photometric.sample_colors(uniform, recipe))


@pytest.mark.parametrize("name", ["jitter", "gray", "blur", "solarize"])
def test_augment_applies_each_operation_with_its_probability(name):
  off = dict(jitter_probability=0.0, gray_probability=0.0, blur_probability=0.0, solarize_probability=0.0)
  recipe = photometric.Photometric(**{**off, f"{name}_probability": 0.3}, blur_sigma=(0.5, 2.0))
  before, after = augmented(recipe)
  changed = np.abs(after - before).max((1, 2, 3)) > 1e-5
  assert 0.2 < changed.mean() < 0.4
  gray = np.ptp(after, axis=1).max((1, 2)) < 1e-6
  assert gray.mean() == (changed.mean() if name == "gray" else 0)
  assert after.min() >= 0 and after.max() <= 1
