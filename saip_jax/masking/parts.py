"""HAP's part-guided masks: whole body parts are hidden first."""

import jax
import jax.numpy as jnp
import numpy as np

PART_BONES: dict[str, tuple[tuple[int, int], ...]] = {
  "head": ((0, 1), (0, 2), (1, 2), (1, 3), (2, 4)),
  "left arm": ((5, 7), (7, 9)),
  "right arm": ((6, 8), (8, 10)),
  "left leg": ((11, 13), (13, 15)),
  "right leg": ((12, 14), (14, 16)),
  "trunk": ((6, 11), (5, 12)),
}
"""Part -> its bones, pairs of COCO's 17 keypoints; symmetric under mirroring.

Source: HAP (Yuan et al. 2023, arXiv 2310.20695), as in the released code.
"""

_BONES = np.array([bone for bones in PART_BONES.values() for bone in bones])  # (15, 2)
_PART_OF_BONE = np.repeat(np.arange(len(PART_BONES)), [len(bones) for bones in PART_BONES.values()])


def part_patches(keypoints: jax.Array, grid_hw: tuple[int, int], patch: int, min_score: float = 0.0) -> jax.Array:
  """Returns the patches of each body part: for every bone the box spanned by the patches of its two ends.

  Bones with an end that is unknown or outside the view have no patches.

  Args:
    keypoints: (17, 3) float, x and y in pixels of the view, and a score or visibility.
    grid_hw: rows and columns of patches.
    patch: side of a patch in pixels.
    min_score: keypoints with a larger score are known.

  Returns:
    (6, h * w) bool.
  """
  size_xy = patch * jnp.array(grid_hw[::-1])
  xy = keypoints[:, :2]
  known = (keypoints[:, 2] > min_score) & jnp.all((xy >= 0) & (xy < size_xy), axis=1)
  cells = jnp.floor(xy / patch)[_BONES]  # (15, 2 ends, x and y)
  (left, top), (right, bottom) = jnp.min(cells, axis=1).T, jnp.max(cells, axis=1).T
  within = lambda count, first, last: (jnp.arange(count) >= first[:, None]) & (jnp.arange(count) <= last[:, None])
  boxes = within(grid_hw[0], top, bottom)[:, :, None] & within(grid_hw[1], left, right)[:, None]  # (15, h, w)
  boxes = boxes.reshape(len(_BONES), -1) & jnp.all(known[_BONES], axis=1)[:, None]
  return jnp.stack([jnp.any(boxes[_PART_OF_BONE == part], axis=0) for part in range(len(PART_BONES))])


def part_priority(
  key: jax.Array, parts: jax.Array, count: jax.Array, fraction: tuple[float, float] = (1.0, 1.0)
) -> jax.Array:
  """Chooses random parts, and patches of them, to hide first.

  Args:
    key: random key.
    parts: (P, L) bool, the patches of each part; parts without patches are never chosen.
    count: scalar int, number of parts to choose; all parts with patches if there are fewer.
    fraction: range of the share of patches taken from a chosen part, drawn for each part.

  Returns:
    (L,) float32 priority: P for patches of the part chosen first, P - 1 for the second, ..., 0 for all others. Where
    chosen parts overlap, the earlier one counts; in HAP's released code the later one does, which matters only if parts
    alone exceed the mask ratio.
  """
  number, length = parts.shape
  order_key, share_key, patch_key = jax.random.split(key, 3)
  place = jax.random.permutation(order_key, number)  # rank of each part in the order of choice
  present = jnp.any(parts, axis=1)
  before = jnp.sum((place < place[:, None]) & present, axis=1)  # number of earlier parts with patches
  chosen = present & (before < count)

  low, high = fraction
  share = low + (high - low) * jax.random.uniform(share_key, (number,))
  drawn = jnp.where(parts, jax.random.uniform(patch_key, (number, length)), 2.0)
  wanted = jnp.floor(share * jnp.sum(parts, axis=1)).astype(jnp.int32)[:, None]
  in_order = jnp.pad(jnp.sort(drawn, axis=1), ((0, 0), (0, 1)), constant_values=2.0)
  given = drawn < jnp.take_along_axis(in_order, wanted, axis=1)
  priority = (number - before)[:, None] * (given & chosen[:, None])
  return jnp.max(priority, axis=0).astype(jnp.float32)


def part_counts(uniform: jax.Array, most: int, cap_bug: bool = False) -> jax.Array:
  """Draws how many parts each image hides, uniform on 0 to `most`.

  Args:
    uniform: (B, ...) float32 uniform numbers.
    most: the largest number.
    cap_bug: reproduce HAP's released code: the number drawn for an image caps that of the next image of the batch, so
      that all but the first three or four images hide none.

  Returns:
    int32 of the same shape.
  """
  if not cap_bug:
    return jnp.floor(uniform * (most + 1)).astype(jnp.int32)

  def draw(cap, uniform):
    count = jnp.floor(uniform * (cap + 1)).astype(jnp.int32)
    return count, count

  return jax.lax.scan(draw, jnp.full(uniform.shape[1:], most, jnp.int32), uniform)[1]
