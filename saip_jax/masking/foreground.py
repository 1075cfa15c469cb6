"""Masks that hide a fixed number of patches, those with a person on them rather than others."""

import jax
import jax.numpy as jnp


def hide_patches(
  key: jax.Array, length: int, hidden: int, preference: jax.Array | float = 0.0
) -> tuple[jax.Array, jax.Array]:
  """Draws the patches to hide, and orders all of them: those that are seen first, both kinds in raster order.

  Hidden are those with the largest sums of a uniform number and the preference: 0 for all hides each equally likely, a
  difference above 1 decides.

  Args:
    key: random key.
    length: L, number of patches.
    hidden: how many to hide.
    preference: (L,), or one for all.

  Returns:
    keep_ids (L - hidden,) int32 and restore_ids (L,) int32, the place of each patch in the order.
  """
  score = jax.random.uniform(key, (length,)) + preference
  seen_first = jnp.argsort(score)  # ties in a float32 sum are broken by place
  is_hidden = jnp.argsort(seen_first) >= length - hidden
  order = jnp.argsort(is_hidden, stable=True)
  return order[: length - hidden], jnp.argsort(order)


def patch_shares(mask: jax.Array, patch: int) -> jax.Array:
  """Returns the share of each patch that a mask (H, W) in 0 to 1 covers: (h * w,)."""
  height, width = mask.shape
  cells = mask.reshape(height // patch, patch, width // patch, patch)
  return cells.mean((1, 3)).reshape(-1)
