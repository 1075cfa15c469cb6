"""HCMoCo's view: a random crop of an image with its depth and joints."""

import jax
import jax.numpy as jnp

from saip_jax.views.crops import crop_view
from saip_jax.views.geometry import CROP_UNIFORMS, crop_nearest, keypoints_in_crop, sample_crop_box


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
  """Draws a random resized crop and renders image, depth and joints in it, without mirroring or color augmentation.

  Args:
    image_u8: (Hc, Wc, 3) uint8 canvas.
    depth_mm: (Hc, Wc) depth of the canvas in millimeters, 0 for unknown.
    valid_hw: (2,) size in pixels of its valid part.
    keypoints: (J, 3) float, x and y in pixels of the canvas and visibility, 0 for unknown.
    key: key of the sample.
    area: range of the area fraction of the crop.
    aspect: range of its width / height.
    out_hw: size of the view, pixels.

  Returns:
    The normalized view (H, W, 3) float32; depth (H, W) float32 in millimeters, nearest pixels; keypoints (J, 3), see
    `keypoints_in_crop`.

  Source: HCMoCo (Hong et al. 2022, arXiv 2203.13815); crops of the released code have their centers inside the box of
  the joints.
  """
  box = sample_crop_box(jax.random.uniform(key, (CROP_UNIFORMS,)), valid_hw, area, aspect)
  return (
    crop_view(image_u8, box, out_hw),
    crop_nearest(depth_mm, box, out_hw),
    keypoints_in_crop(keypoints, box, out_hw),
  )


def depth_image(depth_mm: jax.Array) -> jax.Array:
  """Converts a depth map to the input of an image encoder: centered meters in three equal channels.

  Args:
    depth_mm: (..., H, W) millimeters, 0 for unknown.

  Returns:
    (..., H, W, 3) float32 meters minus the mean of the known pixels of each map; 0 where unknown.

  Source: HCMoCo (Hong et al. 2022, arXiv 2203.13815), as in the released code.
  """
  known = depth_mm > 0
  meters = jnp.where(known, depth_mm.astype(jnp.float32) / 1000, 0.0)
  count = jnp.maximum(jnp.sum(known, axis=(-2, -1), keepdims=True), 1)
  mean = jnp.sum(meters, axis=(-2, -1), keepdims=True) / count
  centered = jnp.where(known, meters - mean, 0.0)
  return jnp.broadcast_to(centered[..., None], (*centered.shape, 3))
