"""Color augmentation of planes: jitter, gray, blur, solarize, normalize.

The functions follow torchvision on float images. The published recipes used Pillow on uint8 images; the docstrings give
the measured differences.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # torchvision's numbering of the four operations

COLOR_UNIFORMS = 13  # uniform numbers per view

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, Pillow's "L"


@dataclasses.dataclass(frozen=True)
class ColorJitter:
  """Strengths: factors are drawn from [max(0, 1 - s), 1 + s], hue from [-s, s] in turns of the color circle."""

  brightness: float = 0.4
  contrast: float = 0.4
  saturation: float = 0.2
  hue: float = 0.1


@dataclasses.dataclass(frozen=True)
class Photometric:
  """Distribution of the color augmentation of a view, in this order: jitter, gray, blur, solarize.

  Attributes:
    blur_probability: probability of blur.
    solarize_probability: probability of inverting the bright half.
    blur_sigma: smallest and largest standard deviation of the blur in pixels of the view; at most 2.
    jitter: strengths of the color jitter.
    jitter_probability: probability of color jitter.
    gray_probability: probability of grayscale.
  """

  blur_probability: float
  solarize_probability: float = 0.0
  blur_sigma: tuple[float, float] = (0.1, 2.0)
  jitter: ColorJitter = ColorJitter()
  jitter_probability: float = 0.8
  gray_probability: float = 0.2

  def scaled(self, factor: float) -> "Photometric":
    """Returns the same with the probabilities of jitter, gray and solarize times `factor`; blur stays."""
    names = ("jitter_probability", "gray_probability", "solarize_probability")
    return dataclasses.replace(self, **{name: factor * getattr(self, name) for name in names})


class JitterParams(NamedTuple):
  """Parameters of one color jitter: `order` (4,) int32 is the operation of each turn; the factors are scalars."""

  order: jax.Array
  brightness: jax.Array
  contrast: jax.Array
  saturation: jax.Array
  hue: jax.Array


class Colors(NamedTuple):
  """Parameters of the color augmentation of one view; operations not applied have neutral parameters.

  Attributes:
    jitter: parameters of the color jitter.
    gray: scalar bool, convert to grayscale.
    blur_sigma: standard deviation in pixels; 0 for no blur.
    solarize_threshold: values at or above it are inverted; above 1 for no inversion.
  """

  jitter: JitterParams
  gray: jax.Array
  blur_sigma: jax.Array
  solarize_threshold: jax.Array


def sample_jitter(uniform: jax.Array, strengths: ColorJitter) -> JitterParams:
  """Draws order and factors from eight uniform numbers, as torchvision's `ColorJitter.get_params`."""

  def factor(u, strength):
    low = max(0.0, 1 - strength)
    return low + (1 + strength - low) * u

  return JitterParams(
    order=jnp.argsort(uniform[:4]),
    brightness=factor(uniform[4], strengths.brightness),
    contrast=factor(uniform[5], strengths.contrast),
    saturation=factor(uniform[6], strengths.saturation),
    hue=strengths.hue * (2 * uniform[7] - 1),
  )


def to_gray(planes: jax.Array) -> jax.Array:
  """Returns the luma (1, H, W) of planes (3, H, W); Pillow's "L" is this rounded to eight bits."""
  return sum(weight * plane for weight, plane in zip(_LUMA, planes))[None]


def _blend(planes: jax.Array, weights: jax.Array) -> jax.Array:
  """Returns the clipped sum of the image, its gray version and its mean gray, weighted by `weights` (3,)."""
  gray = to_gray(planes)
  return jnp.clip(weights[0] * planes + weights[1] * gray + weights[2] * gray.mean(), 0, 1)


def _shift_hue(planes: jax.Array, turns: jax.Array) -> jax.Array:
  """Rotates the hue by `turns` of the color circle; the largest and smallest channel of each pixel keep their values.

  Conversion to HSV and back in one step: hue in sixths of a turn, then channel c = max - (max - min) * f((hue + n_c)
  mod 6) with the trapezium f(k) = clip(min(k, 4 - k), 0, 1) and n = 5, 3, 1 for red, green, blue.
  """
  red, green, blue = planes
  largest, smallest = planes.max(axis=0), planes.min(axis=0)
  spread = largest - smallest
  scale = 1 / jnp.where(spread > 0, spread, 1)
  hue = jnp.where(
    largest == red,
    (green - blue) * scale,
    jnp.where(largest == green, 2 + (blue - red) * scale, 4 + (red - green) * scale),
  )
  k = hue + 6 * turns + jnp.array([5.0, 3.0, 1.0])[:, None, None]  # (3, H, W)
  k -= 6 * jnp.floor(k / 6)
  return largest - spread * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)


def apply_jitter(planes: jax.Array, params: JitterParams) -> jax.Array:
  """Applies brightness, contrast, saturation and hue in the drawn order, each clipped as in torchvision.

  Brightness, contrast and saturation are one operation, a weighted sum of the image, its gray version and its mean
  gray; the weights (1, 0, 0) are the identity. Any order is therefore three blends, hue, three blends, with identities
  in the unused turns, and the costly hue is evaluated once, without a branch.

  torchvision's float path differs by at most 0.01/255 (its luma weight for red is .2989). Pillow on uint8 images
  differs, on average over natural-looking ones: brightness .42/255, contrast .44, saturation .45 (it truncates to eight
  bits, half a level on average), hue .38 to .47 at whole 255ths of a turn, to which it truncates hue and shift, and up
  to .9 between them. All four in sequence differ by 1.5, four truncations amplified by later factors; torchvision's
  uint8 path differs as much.

  Args:
    planes: (3, H, W) in [0, 1].
    params: see `sample_jitter`.

  Returns:
    (3, H, W) in [0, 1].
  """
  identity = jnp.array([1.0, 0.0, 0.0])
  operations = jnp.stack(
    [
      jnp.stack([params.brightness, 0, 0]),
      jnp.stack([params.contrast, 0, 1 - params.contrast]),
      jnp.stack([params.saturation, 1 - params.saturation, 0]),
      identity,  # hue is applied separately
    ]
  )
  chosen = params.order[:, None] == jnp.arange(4)  # (turn, operation)
  turns = jnp.sum(jnp.where(chosen[..., None], operations, 0), axis=1)  # (turn, 3)
  turn_of_hue = jnp.sum(jnp.where(chosen[:, HUE], jnp.arange(4), 0))
  turn = jnp.arange(4)[:, None]
  before = jnp.where(turn < turn_of_hue, turns, identity)[:3]
  after = jnp.where(turn > turn_of_hue, turns, identity)[1:]
  # A scan: unrolled, XLA may fuse the chain and recompute all earlier blends in every later one.
  step = lambda x, weights: (_blend(x, weights), None)
  planes, _ = jax.lax.scan(step, planes, before)
  planes, _ = jax.lax.scan(step, _shift_hue(planes, params.hue), after)
  return planes


def _blur_weights(size: int, sigma: jax.Array, radius: int) -> jax.Array:
  """Returns (size, size), a banded Gaussian matrix; mass beyond an edge is added to the edge pixel."""
  gaussian = lambda offset: jnp.exp(-0.5 * (offset / jnp.maximum(sigma, 1e-3)) ** 2)  # identity for zero width
  reach, pixel = jnp.arange(1, radius + 1), jnp.arange(size)
  side = gaussian(reach)
  beyond = jnp.sum(jnp.where(reach > pixel[:, None], side, 0), axis=1)  # (size,) mass beyond the first pixel
  offset = pixel - pixel[:, None]
  band = jnp.where(abs(offset) <= radius, gaussian(offset), 0)
  band += jnp.where(pixel == 0, beyond[:, None], 0) + jnp.where(pixel == size - 1, beyond[::-1, None], 0)
  return band / (1 + 2 * side.sum())


def gaussian_blur(planes: jax.Array, sigma: jax.Array, radius: int = 8) -> jax.Array:
  """Blurs with a Gaussian, edge pixels repeated beyond the edge, as two products with banded matrices.

  Pillow's GaussianBlur is three box filters on eight bits: mean difference .4/255 to .5/255 for a width of 0.5 to 2
  pixels, at most .95 for smaller ones (at 0.4, where three boxes and a sampled Gaussian differ most), up to 17/255 at
  single border pixels, because Pillow repeats the edge for every box. torchvision mirrors at the border.

  Args:
    planes: (3, H, W).
    sigma: standard deviation in pixels, scalar, traced; 0 for no blur.
    radius: radius of the kernel in pixels, static; the default is four standard deviations of 2 pixels.

  Returns:
    (3, H, W).
  """
  _, height, width = planes.shape
  weights = _blur_weights(height, sigma, radius), _blur_weights(width, sigma, radius)
  rows, columns = jax.lax.optimization_barrier(weights)  # else XLA on CPU recomputes them inside the product
  half = jnp.einsum("cyx,wx->cyw", planes, columns, precision=jax.lax.Precision.HIGH)
  return jnp.einsum("hy,cyw->chw", rows, half, precision=jax.lax.Precision.HIGH)


def solarize(planes: jax.Array, threshold: jax.Array | float = 128 / 255) -> jax.Array:
  """Inverts values of at least `threshold` (Pillow's `solarize(128)`); a threshold above 1 has no effect."""
  return jnp.where(planes >= threshold, 1 - planes, planes)


def sample_colors(uniform: jax.Array, recipe: Photometric) -> Colors:
  """Draws the color augmentation of one view.

  Args:
    uniform: (COLOR_UNIFORMS,) float32 uniform numbers: eight for the jitter, then whether to jitter, whether to convert
      to gray, whether to blur, the width of the blur, whether to solarize.
    recipe: probabilities and strengths; the probabilities of blur and solarize may be traced.
  """
  switches = uniform[8:]
  drawn = sample_jitter(uniform[:8], recipe.jitter)
  unchanged = JitterParams(drawn.order, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0)
  jittered = switches[0] < recipe.jitter_probability
  narrow, wide = recipe.blur_sigma
  return Colors(
    jitter=jax.tree.map(lambda d, u: jnp.where(jittered, d, u), drawn, unchanged),
    gray=switches[1] < recipe.gray_probability,
    blur_sigma=jnp.where(switches[2] < recipe.blur_probability, narrow + (wide - narrow) * switches[3], 0),
    solarize_threshold=jnp.where(switches[4] < recipe.solarize_probability, 128 / 255, 2),
  )


def augment(planes: jax.Array, colors: Colors) -> jax.Array:
  """Applies jitter, gray, blur and solarize to planes (3, H, W) in [0, 1]."""
  planes = apply_jitter(planes, colors.jitter)
  planes = jnp.where(colors.gray, to_gray(planes), planes)
  planes = gaussian_blur(planes, colors.blur_sigma)
  return solarize(planes, colors.solarize_threshold)


def normalize(planes: jax.Array) -> jax.Array:
  """Converts planes (3, H, W) in [0, 1] to an image (H, W, 3) normalized with ImageNet's mean and deviation."""
  return (jnp.moveaxis(planes, 0, -1) - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)


def denormalize(image: jax.Array) -> jax.Array:
  """Converts normalized images (..., H, W, 3) back to [0, 1], clipped, for display."""
  return jnp.clip(image * jnp.array(IMAGENET_STD) + jnp.array(IMAGENET_MEAN), 0, 1)
