"""Crops and resizes as matrix products: a view is row weights x image x column weights.

A random resized crop reads the image once: Pillow's antialiased bicubic filter is linear and separable, so crop, resize
and flip are two matrix products with weights that depend on the box of the sample.
"""

import jax
import jax.numpy as jnp

_ATTEMPTS = 10  # candidates before the central crop, as in torchvision
CROP_UNIFORMS = 4 * _ATTEMPTS  # uniform numbers per crop


def to_planes(image_u8: jax.Array) -> jax.Array:
  """Converts a uint8 image (H, W, 3) to float32 planes (3, H, W) in [0, 1]; once per canvas, not per view."""
  return jnp.moveaxis(image_u8, -1, 0).astype(jnp.float32) * (1 / 255)


def _bicubic(distance: jax.Array) -> jax.Array:
  """Returns Keys' cubic kernel with a = -0.5, Pillow's BICUBIC; zero for distances of 2 and more."""
  x = jnp.abs(distance)
  near = (1.5 * x - 2.5) * x * x + 1
  far = ((-0.5 * x + 2.5) * x - 4) * x + 2
  return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


def resample_weights(
  out_size: int, in_size: int, start: jax.Array, length: jax.Array, valid: jax.Array | None = None
) -> jax.Array:
  """Returns the matrix that resizes the interval [start, start + length) of an axis to `out_size` pixels.

  When shrinking, the filter widens with the scale (support 2 * max(scale, 1) input pixels) to avoid aliasing. Weights
  are truncated at the edge of the interval and renormalized: pixels outside the crop have no influence, as if the crop
  had been cut out first.

  Args:
    out_size: output pixels, static.
    in_size: pixels of the axis, static.
    start: first pixel of the interval, scalar, traced.
    length: pixels of the interval, scalar, traced; at least 1.
    valid: valid pixels of the axis, scalar, traced, if the interval may extend beyond them: weights are truncated at
      the edge of the valid part instead, and pixels beyond it are black. None if the interval is inside.

  Returns:
    (out_size, in_size) float32; rows sum to one, or to zero beyond the valid part.

  Source: Pillow `precompute_coeffs`; torchvision's `resize(antialias=True)` follows the same rule.
  """
  scale = length / out_size
  center = start + (jnp.arange(out_size, dtype=jnp.float32) + 0.5) * scale  # (out,)
  pixel = jnp.arange(in_size, dtype=jnp.float32)
  first, end = (start, start + length) if valid is None else (0, valid)
  inside = (pixel >= first) & (pixel < end)  # (in,)
  distance = (pixel + 0.5 - center[:, None]) / jnp.maximum(scale, 1.0)  # (out, in)
  weights = jnp.where(inside, _bicubic(distance), 0)
  if valid is None:
    return weights / weights.sum(axis=1, keepdims=True)
  shown = ((center >= 0) & (center < valid))[:, None]
  return jnp.where(shown, weights, 0) / jnp.where(shown, weights.sum(axis=1, keepdims=True), 1)


def sample_crop_box(
  uniform: jax.Array,
  image_hw: jax.Array,
  area_fraction: jax.Array | tuple[float, float],
  aspect_w_over_h: jax.Array | tuple[float, float],
) -> jax.Array:
  """Draws the box of a random resized crop as torchvision's `RandomResizedCrop.get_params`.

  Area is uniform, aspect log-uniform, position uniform. Of ten attempts, computed at once, the first that fits is
  taken; if none fits, the largest central crop with an aspect in the range.

  Args:
    uniform: (CROP_UNIFORMS,) float32 uniform numbers: area, aspect, top, left of each attempt.
    image_hw: (2,) height and width of the valid part of the canvas, traced.
    area_fraction: (2,) smallest and largest share of the area of the image.
    aspect_w_over_h: (2,) smallest and largest width / height.

  Returns:
    box_yxhw (4,) float32 with integer values: top, left, height, width, inside `image_hw`.
  """
  height, width = jnp.asarray(image_hw, jnp.float32)
  uniform = uniform.reshape(_ATTEMPTS, 4)
  low, high = area_fraction
  area = height * width * (low + (high - low) * uniform[:, 0])
  log_low, log_high = jnp.log(jnp.asarray(aspect_w_over_h))
  aspect = jnp.exp(log_low + (log_high - log_low) * uniform[:, 1])
  w = jnp.round(jnp.sqrt(area * aspect))
  h = jnp.round(jnp.sqrt(area / aspect))
  top = jnp.floor(uniform[:, 2] * (height - h + 1))
  left = jnp.floor(uniform[:, 3] * (width - w + 1))
  boxes_yxhw = jnp.stack([top, left, h, w], axis=1)  # (attempts, 4)

  fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
  first = fits & (jnp.cumsum(fits) == 1)  # at most one is true
  drawn = jnp.sum(jnp.where(first[:, None], boxes_yxhw, 0), axis=0)

  narrowest, widest = aspect_w_over_h
  too_narrow, too_wide = width < narrowest * height, width > widest * height
  h = jnp.where(too_narrow, jnp.maximum(jnp.round(width / narrowest), 1), height)
  w = jnp.where(too_wide, jnp.maximum(jnp.round(height * widest), 1), width)
  central = jnp.stack([jnp.floor((height - h) / 2), jnp.floor((width - w) / 2), h, w])
  return jnp.where(fits.any(), drawn, central)


def crop_resize(
  planes: jax.Array,
  box_yxhw: jax.Array,
  out_hw: tuple[int, int],
  flip: jax.Array | bool = False,
  valid_hw: jax.Array | tuple[None, None] = (None, None),
) -> jax.Array:
  """Crops a box, resizes it with antialiased bicubic weights and optionally mirrors it.

  Columns are resized first: people are tall, so this halves the input of the second product. A mirrored view has the
  column weights in reverse order.

  Pillow on uint8 images differs by .23/255 to .32/255 on average, because it rounds and clips to eight bits after each
  of its two passes; here values stay float and are clipped once. torchvision's float path differs by rounding, 1e-5.

  Args:
    planes: (3, Hc, Wc) float32 canvas in [0, 1], see `to_planes`.
    box_yxhw: (4,) top, left, height, width in canvas pixels.
    out_hw: static size of the view.
    flip: scalar bool, mirror left and right.
    valid_hw: (2,) size of the valid part of the canvas if the box may extend beyond it, see `resample_weights`.

  Returns:
    (3, H, W) float32 in [0, 1].

  Example:
    >>> import numpy as np
    >>> planes = np.tile(np.linspace(0, 1, 8, dtype=np.float32), (3, 6, 1))  # brighter from left to right
    >>> right_half = np.float32([0, 4, 6, 4])
    >>> crop = jax.jit(crop_resize, static_argnames="out_hw")
    >>> print(np.round(np.asarray(crop(planes, right_half, (3, 2), flip=False)[0]), 2))
    [[0.66 0.92]
     [0.66 0.92]
     [0.66 0.92]]
    >>> print(np.round(np.asarray(crop(planes, right_half, (3, 2), flip=True)[0]), 2))
    [[0.92 0.66]
     [0.92 0.66]
     [0.92 0.66]]
  """
  top, left, height, width = box_yxhw
  _, canvas_h, canvas_w = planes.shape
  rows = resample_weights(out_hw[0], canvas_h, top, height, valid_hw[0])  # (H, Hc)
  columns = resample_weights(out_hw[1], canvas_w, left, width, valid_hw[1])  # (W, Wc)
  columns = jnp.where(flip, columns[::-1], columns)
  # HIGH: three bfloat16 passes on a TPU; one alone would round pixels and weights by up to half a gray level.
  half = jnp.einsum("cyx,wx->cyw", planes, columns, precision=jax.lax.Precision.HIGH)
  view = jnp.einsum("hy,cyw->chw", rows, half, precision=jax.lax.Precision.HIGH)
  return jnp.clip(view, 0, 1)


def crop_nearest(
  values: jax.Array, box_yxhw: jax.Array, out_hw: tuple[int, int], flip: jax.Array | bool = False
) -> jax.Array:
  """Crops and resizes an array without averaging, such as depth or labels, with the box of `crop_resize`.

  Each pixel of the view copies the canvas pixel at its center, by products with one-hot matrices at a precision that
  copies float32 exactly.

  Args:
    values: (Hc, Wc), exactly representable in float32.
    box_yxhw: (4,) top, left, height, width in canvas pixels.
    out_hw: static size of the view.
    flip: scalar bool, mirror left and right.

  Returns:
    (H, W) float32; 0 beyond the canvas.
  """
  rows, columns = (
    jax.nn.one_hot(jnp.floor(start + (jnp.arange(out_size) + 0.5) * (length / out_size)).astype(jnp.int32), in_size)
    for out_size, in_size, start, length in zip(out_hw, values.shape, box_yxhw[:2], box_yxhw[2:])
  )
  columns = jnp.where(flip, columns[::-1], columns)
  exact = jax.lax.Precision.HIGHEST
  half = jnp.einsum("yx,wx->yw", values.astype(jnp.float32), columns, precision=exact)
  return jnp.einsum("hy,yw->hw", rows, half, precision=exact)


def keypoints_in_crop(
  keypoints: jax.Array, box_yxhw: jax.Array, out_hw: tuple[int, int], flip: jax.Array | bool = False
) -> jax.Array:
  """Maps keypoints to the view of `crop_resize`; keypoints outside the view become unknown.

  A mirrored keypoint keeps its index: the left hand of the person stays the left hand, although it looks like a right
  one.

  Args:
    keypoints: (..., 3) float, x and y in pixels of the canvas, measured from its edge, and visibility, 0 for unknown.
    box_yxhw: (4,) top, left, height, width in canvas pixels.
    out_hw: size of the view.
    flip: scalar bool, mirror left and right.

  Returns:
    (..., 3), x and y in pixels of the view and visibility; all zero where unknown.
  """
  top, left, height, width = box_yxhw
  x = (keypoints[..., 0] - left) * (out_hw[1] / width)
  y = (keypoints[..., 1] - top) * (out_hw[0] / height)
  x = jnp.where(flip, out_hw[1] - x, x)
  inside = (x >= 0) & (x < out_hw[1]) & (y >= 0) & (y < out_hw[0])
  return jnp.stack([x, y, keypoints[..., 2]], axis=-1) * inside[..., None]
