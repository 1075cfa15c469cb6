"""Persons told apart by their middles, as Panoptic-DeepLab does it."""

import jax
import jax.numpy as jnp

_SIGMA = 2.0  # of the peaks, in cells


def middles_of(persons: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
  """Returns (most, 2) x, y of the mean place of each person, in cells, and (most,) bool, who is shown at all.

  Args:
    persons: (h, w) int, the number of the person shown, from 1 and below `most`; 0: nobody.
    most: one more than the largest number; of nobody, 0, nothing is shown.
  """
  h, w = persons.shape
  own = (persons[..., None] == jnp.arange(most)) & (persons[..., None] > 0)  # (h, w, most)
  count = own.sum((0, 1))
  x = jnp.sum(own * (jnp.arange(w) + 0.5)[:, None], axis=(0, 1))
  y = jnp.sum(own * (jnp.arange(h) + 0.5)[:, None, None], axis=(0, 1))
  return jnp.stack([x, y], axis=1) / jnp.maximum(count, 1)[:, None], count > 0


def middle_map(middles: jax.Array, there: jax.Array, grid_hw: tuple[int, int]) -> jax.Array:
  """Returns (h, w) the largest of exp(-|c - m|^2 / (2 sigma^2)) over the middles m, for the center c of each cell.

  Args:
    middles: (N, 2) x, y in cells.
    there: (N,) bool, those that count.
    grid_hw: (h, w).
  """
  y, x = (jnp.arange(n) + 0.5 for n in grid_hw)
  squares = jnp.square(y[:, None, None] - middles[:, 1]) + jnp.square(x[:, None] - middles[:, 0])  # (h, w, N)
  return jnp.max(jnp.where(there, jnp.exp(-0.5 * squares / _SIGMA**2), 0.0), axis=-1)
