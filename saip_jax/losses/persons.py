"""Centers of persons for instance segmentation, as in Panoptic-DeepLab (Cheng et al. 2020, arXiv 1911.10194)."""

import jax
import jax.numpy as jnp

_SIGMA = 2.0  # standard deviation of a peak, in cells


def middles_of(persons: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
  """Computes the center of mass of each person in an instance map.

  Args:
    persons: (h, w) int, the number of the person in each cell, from 1 and below `most`; 0 for background.
    most: one more than the largest number.

  Returns:
    (most, 2) float32 x, y in cells, and (most,) bool, True for visible persons; row 0 is never visible.
  """
  h, w = persons.shape
  own = (persons[..., None] == jnp.arange(most)) & (persons[..., None] > 0)  # (h, w, most)
  count = own.sum((0, 1))
  x = jnp.sum(own * (jnp.arange(w) + 0.5)[:, None], axis=(0, 1))
  y = jnp.sum(own * (jnp.arange(h) + 0.5)[:, None, None], axis=(0, 1))
  return jnp.stack([x, y], axis=1) / jnp.maximum(count, 1)[:, None], count > 0


def middle_map(middles: jax.Array, there: jax.Array, grid_hw: tuple[int, int]) -> jax.Array:
  """Draws the heat map max over m of exp(-|c - m|^2 / (2 sigma^2)) of person centers m at the cell centers c.

  Args:
    middles: (N, 2) float x, y in cells.
    there: (N,) bool, False for padding.
    grid_hw: (h, w).

  Returns:
    (h, w) float32.
  """
  y, x = (jnp.arange(n) + 0.5 for n in grid_hw)
  squares = jnp.square(y[:, None, None] - middles[:, 1]) + jnp.square(x[:, None] - middles[:, 0])  # (h, w, N)
  return jnp.max(jnp.where(there, jnp.exp(-0.5 * squares / _SIGMA**2), 0.0), axis=-1)
