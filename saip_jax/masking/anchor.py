"""SAIP's anchor mask: drawn on the base grid, carried over to the rescaled grid."""

import jax
import jax.numpy as jnp
import numpy as np


def random_keep_mask(key: jax.Array, length: int, ratio: float) -> jax.Array:
  """Returns (length,) float32, 1 at int(length * (1 - ratio)) positions drawn uniformly, 0 elsewhere."""
  kept = int(length * (1 - ratio))
  order = jnp.argsort(jax.random.uniform(key, (length,)))
  return (jnp.argsort(order) < kept).astype(jnp.float32)


def upsample_mask(mask: jax.Array, grid_hw: tuple[int, int], new_grid_hw: tuple[int, int]) -> jax.Array:
  """Resizes a mask to another grid by PyTorch's nearest rule, source = floor(i * in / out).

  Args:
    mask: (..., h * w).
    grid_hw: its grid.
    new_grid_hw: wanted grid.

  Returns:
    (..., h' * w').
  """
  (h, w), (new_h, new_w) = grid_hw, new_grid_hw
  source = (np.arange(new_h) * h // new_h)[:, None] * w + np.arange(new_w) * w // new_w
  return mask[..., source.reshape(-1)]


def order_by_mask(key: jax.Array, mask: jax.Array, ratio: float) -> tuple[jax.Array, jax.Array]:
  """Orders positions visible first and keeps a static number of them, as the masked branch of CSR needs.

  Carried to the larger grid the mask shows about, not exactly, a quarter of the positions (50.0 +- 3.9
  of 200), while the encoder takes exactly int(L * (1 - ratio)): ties are broken at random. Where more are visible
  than taken, the rest is hidden but not scored; where fewer, some scored positions are seen (methods: published
  behavior, replicated).

  Args:
    key: random key.
    mask: (L,) 1 = visible.
    ratio: hidden fraction.

  Returns:
    keep_ids (M,) int32 and restore_ids (L,) int32, the place of each position in the order.
  """
  length = mask.shape[0]
  order = jnp.argsort(1.0 - mask + jax.random.uniform(key, (length,), maxval=0.5))
  return order[: int(length * (1 - ratio))], jnp.argsort(order)
