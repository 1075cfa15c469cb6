"""Masks that hide a fixed number of patches, preferably those that show a person."""

import jax
import jax.numpy as jnp


def hide_patches(
  key: jax.Array, length: int, hidden: int, preference: jax.Array | float = 0.0
) -> tuple[jax.Array, jax.Array]:
  """Draws the patches to hide, and orders patches with visible ones first, each kind in raster order.

  The patches with the largest sum of a uniform number and the preference are hidden. Equal preferences hide all patches
  with equal probability; a patch with a preference larger by more than 1 is always hidden first.

  Args:
    key: random key.
    length: L, number of patches.
    hidden: number of patches to hide.
    preference: (L,) float, or one number for all.

  Returns:
    keep_ids (L - hidden,) int32 and restore_ids (L,) int32, the rank of each patch in the order.
  """
  score = jax.random.uniform(key, (length,)) + preference
  visible_first = jnp.argsort(score)  # ties in a float32 sum are broken by position
  is_hidden = jnp.argsort(visible_first) >= length - hidden
  order = jnp.argsort(is_hidden, stable=True)
  return order[: length - hidden], jnp.argsort(order)


def patch_shares(mask: jax.Array, patch: int) -> jax.Array:
  """Returns the share of each patch covered by a mask (H, W) in 0 to 1: (h * w,) float."""
  height, width = mask.shape
  cells = mask.reshape(height // patch, patch, width // patch, patch)
  return cells.mean((1, 3)).reshape(-1)
