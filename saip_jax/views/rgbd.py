"""A random crop of a picture with its depth and joints."""

import jax
import jax.numpy as jnp

from saip_jax.views.geometry import (
  CROP_UNIFORMS,
  crop_nearest,
  crop_resize,
  keypoints_in_crop,
  sample_crop_box,
  to_planes,
)
from saip_jax.views.photometric import normalize


def rgbd_crop(
  image_u8: jax.Array,
  depth_mm: jax.Array,
  valid_hw: jax.Array,
  keypoints: jax.Array,
  key: jax.Array,
  area: tuple[float, float],
  aspect: tuple[float, float],
  out_hw: tuple[int, int],
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns one random resized crop of all: the picture, its depth, and where the joints are in it.

  Neither mirrored nor recolored, as published.

  Args:
    image_u8: (Hc, Wc, 3) canvas.
    depth_mm: (Hc, Wc) depth on it in millimeters, 0 for unknown.
    valid_hw: (2,) size in pixels of its valid part.
    keypoints: (J, 3) x, y in pixels of the canvas and visibility, 0 for unknown.
    key: key of the sample.
    area: range of the area fraction of the crop.
    aspect: range of its width / height.
    out_hw: size of the view, pixels.

  Returns:
    (H, W, 3) normalized; (H, W) float32 millimeters, each the value of one pixel; (J, 3) as `keypoints_in_crop`.

  Source: methods, HCMoCo section 1; the published crops have their centers inside the box of the joints.
  """
  box = sample_crop_box(jax.random.uniform(key, (CROP_UNIFORMS,)), valid_hw, area, aspect)
  image = normalize(crop_resize(to_planes(image_u8), box, out_hw))
  return image, crop_nearest(depth_mm, box, out_hw), keypoints_in_crop(keypoints, box, out_hw)


def depth_picture(depth_mm: jax.Array) -> jax.Array:
  """Returns depth (..., H, W) in millimeters as a network reads it: (..., H, W, 3) meters, three times the same.

  The mean over the known pixels of each picture is taken off; unknown ones, which are 0, stay 0.

  Source: methods, HCMoCo section 1.
  """
  known = depth_mm > 0
  meters = jnp.where(known, depth_mm.astype(jnp.float32) / 1000, 0.0)
  count = jnp.maximum(jnp.sum(known, axis=(-2, -1), keepdims=True), 1)
  mean = jnp.sum(meters, axis=(-2, -1), keepdims=True) / count
  centered = jnp.where(known, meters - mean, 0.0)
  return jnp.broadcast_to(centered[..., None], (*centered.shape, 3))
