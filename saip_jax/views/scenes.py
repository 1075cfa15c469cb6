"""Persons composed into a reference scene, and the masks that say where they are.

The search objective needs a picture with two persons and the truth about their places. Two crops of the
same sample are blended into a background: the region of interest left, the instance right, never overlapping.
Source: SAIP's published reference composition.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Placements(NamedTuple):
  """Top left corners in scene pixels, (2,) int32 each: of the region of interest and of the instance."""

  roi_yx: jax.Array
  inst_yx: jax.Array


def smallest_scene(crop_hw: tuple[int, int]) -> tuple[int, int]:
  """Returns the (height, width) of the smallest scene in which `sample_placements` finds room for two crops."""
  return crop_hw[0] + 2, 2 * crop_hw[1] + 2


def sample_placements(key: jax.Array, scene_hw: tuple[int, int], crop_hw: tuple[int, int]) -> Placements:
  """Draws where the two crops go, uniformly over the published ranges.

  For a 224 x 224 scene and 128 x 64 crops: both tops in 0..94, the left crop's left edge in 0..94, the right crop's
  from where the left one ends to 158. Python's `range` excludes its end and the published ranges subtract one
  more, so the last row and column are never covered. Four uniform numbers are drawn: top left, left, top
  right, right.

  Args:
    key: PRNG key of this scene.
    scene_hw: static size of the scene.
    crop_hw: static size of both crops.

  Raises:
    ValueError: the scene cannot hold two crops side by side.
  """
  (scene_h, scene_w), (crop_h, crop_w) = scene_hw, crop_hw
  least_h, least_w = smallest_scene(crop_hw)
  if scene_h < least_h or scene_w < least_w:
    raise ValueError(
        f"a scene of {scene_h}x{scene_w} pixels cannot hold two crops of {crop_h}x{crop_w} side by side: it needs "
        f"at least {least_h}x{least_w}; enlarge the scene or shrink the local crops"
    )
  uniform = jax.random.uniform(key, (4,))

  def pick(u, start, stop):  # uniform over range(start, stop)
    return start + jnp.floor(u * (stop - start)).astype(jnp.int32)

  roi_x = pick(uniform[1], 0, scene_w - 2 * crop_w - 1)
  inst_x = pick(uniform[3], roi_x + crop_w, scene_w - crop_w - 1)
  roi_y = pick(uniform[0], 0, scene_h - crop_h - 1)
  inst_y = pick(uniform[2], 0, scene_h - crop_h - 1)
  return Placements(jnp.stack([roi_y, roi_x]), jnp.stack([inst_y, inst_x]))


def paste(scene: jax.Array, crops: jax.Array, top_left_yx: jax.Array, opacity: float = 0.7) -> jax.Array:
  """Blends crops into a scene: opacity * crop + (1 - opacity) * scene inside their boxes.

  The crops are moved into place by products with one-hot matrices, exact in float32 at this precision: a vmapped
  `dynamic_update_slice` is a scatter, which a TPU runs sample by sample.

  Args:
    scene: (H, W, C) float32, normalised.
    crops: (n, h, w, C) float32, normalised.
    top_left_yx: (n, 2) int, where the first pixel of each goes; no two share a column of the scene.
    opacity: weight of the crops.

  Returns:
    (H, W, C).
  """
  (scene_h, scene_w, _), (_, crop_h, crop_w, _) = scene.shape, crops.shape
  y = jnp.arange(scene_h)[:, None] - top_left_yx[:, 0, None, None]  # (n, H, 1) row of the crop at each of the scene
  x = jnp.arange(scene_w)[:, None] - top_left_yx[:, 1, None, None]
  rows = (y == jnp.arange(crop_h)).astype(crops.dtype)  # (n, H, h)
  columns = (x == jnp.arange(crop_w)).astype(crops.dtype)  # (n, W, w)
  exact = jax.lax.Precision.HIGHEST
  placed = jnp.einsum("nyh,nhwc->nywc", rows, crops, precision=exact)  # (n, H, w, C)
  placed = jnp.einsum("nxw,nywc->yxc", columns, placed, precision=exact)  # (H, W, C)
  inside = jnp.any(rows.any(2)[:, :, None] & columns.any(2)[:, None], axis=0)
  return jnp.where(inside[..., None], opacity * placed + (1 - opacity) * scene, scene)


def box_mask(
    top_left_yx: jax.Array, box_hw: tuple[int, int], scene_hw: tuple[int, int], patch: int
) -> jax.Array:
  """Returns 1 for patches whose first pixel lies in the box, else 0: the published nearest-downsampled mask.

  A box whose sides are multiples of the patch always marks the same number, wherever it lies: 8 x 4 of 14 x 14 for
  128 x 64 pixels in a 224 x 224 scene.

  Args:
    top_left_yx: (2,) int, the box's first pixel.
    box_hw: static size of the box.
    scene_hw: static size of the scene, multiples of `patch`.
    patch: side of a patch in pixels.

  Returns:
    (h, w) float32 on the patch grid.
  """
  def covered(start, box_size, scene_size):
    pixel = jnp.arange(0, scene_size, patch)
    return (pixel >= start) & (pixel < start + box_size)

  rows = covered(top_left_yx[0], box_hw[0], scene_hw[0])
  columns = covered(top_left_yx[1], box_hw[1], scene_hw[1])
  return (rows[:, None] & columns).astype(jnp.float32)
