"""Rescaling of whole images to static sizes, nearest as torch does it and antialiased."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.views.geometry import resample_weights


def rescale_nearest(image: jax.Array, out_hw: tuple[int, int]) -> jax.Array:
  """Rescales to a static size: pixel i of the result is pixel floor(i * in / out) of the source.

  This is torch's `interpolate(mode="nearest")`; `jax.image.resize` samples at half-pixel centers instead. The rule has
  period in / gcd: a reshape and one static pattern replace an index array as long as the image. On a TPU, where cuts at
  odd places are slow, it is a product with a matrix of zeros and ones for each axis.

  Args:
    image: (..., H, W, C).
    out_hw: static size of the result.

  Returns:
    (..., H', W', C), copied values.
  """
  return jax.lax.platform_dependent(
    image, tpu=functools.partial(select_pixels, out_hw=out_hw), default=functools.partial(cut_pixels, out_hw=out_hw)
  )


def select_pixels(image: jax.Array, out_hw: tuple[int, int]) -> jax.Array:
  """`rescale_nearest` as products; exact, as at the highest precision a product with one is."""
  rows, columns = (
    jax.nn.one_hot(jnp.arange(out_size) * in_size // out_size, in_size, dtype=image.dtype)
    for out_size, in_size in zip(out_hw, image.shape[-3:-1])
  )
  highest = jax.lax.Precision.HIGHEST
  tall = jnp.einsum("hy,...yxc->...hxc", rows, image, precision=highest)
  return jnp.einsum("wx,...hxc->...hwc", columns, tall, precision=highest)


def cut_pixels(image: jax.Array, out_hw: tuple[int, int]) -> jax.Array:
  """`rescale_nearest` as a pattern of cuts."""
  for axis, out_size in zip((-3, -2), out_hw):
    axis += image.ndim
    in_size, periods = image.shape[axis], math.gcd(image.shape[axis], out_size)
    pattern = [i * in_size // out_size for i in range(out_size // periods)]
    grouped = image.reshape(*image.shape[:axis], periods, -1, *image.shape[axis + 1 :])
    pieces = [jax.lax.index_in_dim(grouped, source, axis + 1) for source in pattern]
    image = jnp.concatenate(pieces, axis + 1).reshape(*image.shape[:axis], out_size, *image.shape[axis + 1 :])
  return image


def rescale_antialiased(image: jax.Array, out_hw: tuple[int, int]) -> jax.Array:
  """Rescales (..., H, W, C) to a static size with the filter of `resample_weights`; not clipped."""
  rows, columns = (
    resample_weights(out_size, in_size, 0, in_size) for out_size, in_size in zip(out_hw, image.shape[-3:-1])
  )
  tall = jnp.einsum("hy,...yxc->...hxc", rows, image, precision=jax.lax.Precision.HIGH)
  return jnp.einsum("wx,...hxc->...hwc", columns, tall, precision=jax.lax.Precision.HIGH)


def scaled_size(size: int, factor: float, multiple: int = 1) -> int:
  """Returns the size of an axis rescaled by a factor.

  Rounded down, as in torch; with a multiple above one, rounded to the nearest positive multiple.
  """
  scaled = math.floor(size * factor)
  return scaled if multiple == 1 else max(1, math.floor(scaled / multiple + 0.5)) * multiple


def _rescaling_matrices(in_size: int, out_sizes: tuple[int, ...], antialias: bool) -> jax.Array:
  """Returns (sizes, largest out size, in_size): matrices that rescale an axis to each size, zero-padded."""
  matrices = []
  for out_size in out_sizes:
    if antialias:
      matrix = resample_weights(out_size, in_size, 0, in_size)
    else:  # row i has a one at floor(i * in / out)
      matrix = jax.nn.one_hot(np.arange(out_size) * in_size // out_size, in_size)
    matrices.append(jnp.pad(matrix, ((0, max(out_sizes) - out_size), (0, 0))))
  return jnp.stack(matrices)


def rescale_padded(
  images: jax.Array, index: jax.Array, sizes_hw: tuple[tuple[int, int], ...], antialias: bool
) -> jax.Array:
  """Rescales each image to one of several sizes on a canvas of one static size; the choice may be traced.

  The image lies at the top left, padded with zeros. Nearest rescaling selects rows and columns by products with one-hot
  matrices at a precision that copies float32 exactly.

  Args:
    images: (B, H, W, C) float32.
    index: (B,) int, traced; index of the size of each image.
    sizes_hw: static sizes.
    antialias: filter as `rescale_antialiased`; False for nearest, as `rescale_nearest`.

  Returns:
    (B, Hmax, Wmax, C).

  Example:
    >>> images = jnp.arange(1.0, 9.0).reshape(2, 2, 2, 1)
    >>> canvases = rescale_padded(images, jnp.array([0, 1]), ((3, 1), (1, 3)), antialias=False)
    >>> print(canvases[0, :, :, 0])
    [[1. 0. 0.]
     [1. 0. 0.]
     [3. 0. 0.]]
    >>> print(canvases[1, :, :, 0])
    [[5. 5. 6.]
     [0. 0. 0.]
     [0. 0. 0.]]
  """
  exact = jax.lax.Precision.HIGHEST
  chosen = jax.nn.one_hot(index, len(sizes_hw))
  rows, columns = (
    jnp.einsum("bs,soi->boi", chosen, _rescaling_matrices(in_size, out_sizes, antialias), precision=exact)
    for in_size, out_sizes in zip(images.shape[1:3], zip(*sizes_hw))
  )
  tall = jnp.einsum("bhy,byxc->bhxc", rows, images, precision=exact)  # (B, Hmax, W, C)
  return jnp.einsum("bwx,bhxc->bhwc", columns, tall, precision=exact)
