"""SAIP's anchor mask: drawn on the base grid and transferred to the grid of the rescaled view."""

import jax
import jax.numpy as jnp
import numpy as np


def random_keep_mask(key: jax.Array, length: int, ratio: float) -> jax.Array:
  """Returns (length,) float32, 1 at int(length * (1 - ratio)) positions drawn uniformly, 0 elsewhere."""
  visible = int(length * (1 - ratio))
  order = jnp.argsort(jax.random.uniform(key, (length,)))
  return (jnp.argsort(order) < visible).astype(jnp.float32)


def upsample_mask(mask: jax.Array, grid_hw: tuple[int, int], new_grid_hw: tuple[int, int]) -> jax.Array:
  """Resizes a mask to another grid with PyTorch's nearest rule, source = floor(i * in / out).

  Args:
    mask: (..., h * w).
    grid_hw: (h, w).
    new_grid_hw: (h', w').

  Returns:
    (..., h' * w').
  """
  (h, w), (new_h, new_w) = grid_hw, new_grid_hw
  source = (np.arange(new_h) * h // new_h)[:, None] * w + np.arange(new_w) * w // new_w
  return mask[..., source.reshape(-1)]


def order_by_mask(key: jax.Array, mask: jax.Array, ratio: float) -> tuple[jax.Array, jax.Array]:
  """Orders positions with visible ones first and selects a static number of them.

  Transferred to the larger grid, the mask shows about a quarter of the positions (50.0 +- 3.9 of 200), but the encoder
  takes exactly int(L * (1 - ratio)); ties are broken at random. If more positions are visible, the rest is hidden but
  not scored in the loss; if fewer, some scored positions are visible to the encoder.

  Args:
    key: random key.
    mask: (L,) float32, 1 for visible positions, else 0.
    ratio: hidden fraction.

  Returns:
    keep_ids (M,) int32 and restore_ids (L,) int32, the rank of each position in the order.

  Source: SAIP (arXiv 2503.08201), as in the released code.
  """
  length = mask.shape[0]
  order = jnp.argsort(1.0 - mask + jax.random.uniform(key, (length,), maxval=0.5))
  return order[: int(length * (1 - ratio))], jnp.argsort(order)
