"""Masks that hide whole parts of a body first."""

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
"""Part -> its bones, pairs of COCO's 17 keypoints. Mirrored, the list says the same. Source: HAP's released code."""

_BONES = np.array([bone for bones in PART_BONES.values() for bone in bones])  # (15, 2)
_PART_OF_BONE = np.repeat(np.arange(len(PART_BONES)), [len(bones) for bones in PART_BONES.values()])


def part_patches(keypoints: jax.Array, grid_hw: tuple[int, int], patch: int, min_score: float = 0.0) -> jax.Array:
  """Returns which patches belong to each part, (6, h * w) bool: the boxes that its bones' end patches span.

  A bone with an end that is unknown or outside the view has none.

  Args:
    keypoints: (17, 3) x, y in pixels of the view, and a score or visibility.
    grid_hw: rows and columns of patches.
    patch: their side in pixels.
    min_score: keypoints with a score above it are known.
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
  """Chooses parts at random, and patches of them, to be hidden first.

  Args:
    key: random key.
    parts: (P, L) bool, the patches of each part; one without patches is never chosen.
    count: parts to choose, scalar int; all there are, if they are fewer.
    fraction: range of the share of its patches that a chosen part gives, drawn for each part.

  Returns:
    (L,) float32: P for the patches of the part chosen first, P - 1 for those of the second, ..., 0 for all others.
    Where chosen parts overlap, the earlier one counts; in HAP's released code the later one does, which matters only
    where parts alone exceed the ratio.
  """
  number, length = parts.shape
  order_key, share_key, patch_key = jax.random.split(key, 3)
  place = jax.random.permutation(order_key, number)  # of each part in the order of choice
  there = jnp.any(parts, axis=1)
  before = jnp.sum((place < place[:, None]) & there, axis=1)  # parts with patches that come earlier
  chosen = there & (before < count)

  low, high = fraction
  share = low + (high - low) * jax.random.uniform(share_key, (number,))
  drawn = jnp.where(parts, jax.random.uniform(patch_key, (number, length)), 2.0)
  wanted = jnp.floor(share * jnp.sum(parts, axis=1)).astype(jnp.int32)[:, None]
  in_order = jnp.pad(jnp.sort(drawn, axis=1), ((0, 0), (0, 1)), constant_values=2.0)
  given = drawn < jnp.take_along_axis(in_order, wanted, axis=1)
  priority = (number - before)[:, None] * (given & chosen[:, None])
  return jnp.max(priority, axis=0).astype(jnp.float32)


def part_counts(uniform: jax.Array, most: int, cap_bug: bool = False) -> jax.Array:
  """Returns how many parts each image hides, uniform on 0 to `most`.

  Args:
    uniform: (B, ...) uniform numbers.
    most: the largest number.
    cap_bug: as in HAP's released code, the number drawn for an image is the largest for the next image of the batch;
      all but the first three or four images have none.

  Returns:
    int32 of the same shape.
  """
  if not cap_bug:
    return jnp.floor(uniform * (most + 1)).astype(jnp.int32)

  def draw(cap, uniform):
    count = jnp.floor(uniform * (cap + 1)).astype(jnp.int32)
    return count, count

  return jax.lax.scan(draw, jnp.full(uniform.shape[1:], most, jnp.int32), uniform)[1]
