"""Composition of persons into a reference scene, and masks of their positions.

The search objective needs an image with two persons at known positions. Two crops of the same sample are blended into a
background: the region of interest left, the instance right, never overlapping.
Source: SAIP's published reference composition.
"""

import jax
import jax.numpy as jnp


def smallest_scene(crop_hw: tuple[int, int], count: int) -> tuple[int, int]:
  """Returns the (height, width) of the smallest scene that can hold `count` crops in `sample_places`."""
  return crop_hw[0] + 2, count * crop_hw[1] + 2


def sample_places(uniform: jax.Array, scene_hw: tuple[int, int], crop_hw: tuple[int, int], count: int) -> jax.Array:
  """Draws the positions of crops side by side, uniformly over the published ranges.

  For two crops of 128 x 64 in a scene of 224 x 224: both tops in 0..94, the left crop's left edge in 0..94, the right
  crop's from the end of the left one to 158. Python's `range` excludes its end and the published ranges subtract one
  more, so the last row and column are never covered. More crops follow the same rule, from left to right.

  Args:
    uniform: (count, 2) uniform numbers: for each crop, from the left, of its top and of its left edge.
    scene_hw: static size of the scene.
    crop_hw: static size of all crops.
    count: number of crops.

  Returns:
    (count, 2) int32: top left corners in scene pixels, from left to right; no two crops share a column.

  Raises:
    ValueError: the scene is too small for all crops side by side.
  """
  (scene_h, scene_w), (crop_h, crop_w) = scene_hw, crop_hw
  least_h, least_w = smallest_scene(crop_hw, count)
  if scene_h < least_h or scene_w < least_w:
    raise ValueError(
      f"a scene of {scene_h}x{scene_w} pixels cannot hold {count} crops of {crop_h}x{crop_w} side by side: it needs "
      f"at least {least_h}x{least_w}; enlarge the scene or shrink the local crops"
    )

  def pick(u, start, stop):  # uniform over range(start, stop)
    return start + jnp.floor(u * (stop - start)).astype(jnp.int32)

  corners, free_from = [], 0
  for i in range(count):
    x = pick(uniform[i, 1], free_from, scene_w - (count - i) * crop_w - 1)
    corners.append(jnp.stack([pick(uniform[i, 0], 0, scene_h - crop_h - 1), x]))
    free_from = x + crop_w
  return jnp.stack(corners)


def paste(scene: jax.Array, crops: jax.Array, top_left_yx: jax.Array, opacity: jax.Array) -> jax.Array:
  """Blends crops into a scene: opacity * crop + (1 - opacity) * scene inside their boxes.

  The crops are moved into place by products with one-hot matrices, exact in float32 at this precision: a vmapped
  `dynamic_update_slice` is a scatter, which a TPU runs sample by sample.

  Args:
    scene: (H, W, C) float32, normalized.
    crops: (n, h, w, C) float32, normalized.
    top_left_yx: (n, 2) int, position of the first pixel of each crop; no two crops share a column of the scene.
    opacity: (n,) weight of each crop; 0 leaves the scene unchanged.

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
  inside = rows.any(2)[:, :, None] & columns.any(2)[:, None]  # (n, H, W)
  weight = jnp.sum(jnp.where(inside, opacity[:, None, None], 0), axis=0)[..., None]
  return weight * placed + (1 - weight) * scene


def box_mask(top_left_yx: jax.Array, box_hw: tuple[int, int], scene_hw: tuple[int, int], patch: int) -> jax.Array:
  """Returns 1 for patches whose first pixel lies in the box, else 0: the published nearest-downsampled mask.

  A box with sides that are multiples of the patch marks the same number of patches at every position: 8 x 4 of 14 x 14
  for 128 x 64 pixels in a 224 x 224 scene.

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
