"""Rotary positions: queries and keys are turned by angles that grow with their place, so that only distances matter."""

import jax
import jax.numpy as jnp

BASE = 100.0  # the slowest pair of features turns about this many times slower than the fastest


def grid_angles(grid_hw: tuple[int, int], head_width: int) -> jax.Array:
  """Returns the angles of every place of a grid, (h * w, d / 2) float32: d / 4 of its row, then d / 4 of its column.

  Args:
    grid_hw: rows and columns.
    head_width: d, features of an attention head, a multiple of 4.

  Source: RoFormer (Su et al. 2021) on two axes, as CroCo v2 (Weinzaepfel et al. 2023) applies it.
  """
  if head_width % 4:
    raise ValueError(f"rotary positions need heads of a multiple of 4 features, these have {head_width}")
  frequencies = BASE ** -(jnp.arange(head_width // 4) / (head_width // 4))
  rows, columns = (jnp.arange(n)[:, None] * frequencies for n in grid_hw)  # (n, d / 4)
  shape = (*grid_hw, head_width // 4)
  angles = jnp.broadcast_to(rows[:, None], shape), jnp.broadcast_to(columns[None], shape)
  return jnp.concatenate(angles, axis=-1).reshape(-1, head_width // 2)


def with_class_token(angles: jax.Array) -> jax.Array:
  """Returns angles (B, N, d / 2) behind those of a class token, which has no place and is not turned."""
  return jnp.pad(angles, ((0, 0), (1, 0), (0, 0)))


def turn(x: jax.Array, angles: jax.Array | None) -> jax.Array:
  """Turns pairs of features; lengths stay, and products of two turned tokens depend on the difference of their angles.

  Pair i is feature i and feature d / 2 + i, as in timm's `rope_rotate_half`. CroCo numbers the features of a head
  otherwise, those for rows before those for columns, which no result depends on: they are numbered by learned weights.

  Args:
    x: (B, L, heads, d) queries or keys.
    angles: (B or 1, L, d / 2) of its tokens; None leaves x as it is.

  Returns:
    (B, L, heads, d) in the type of x.
  """
  if angles is None:
    return x
  cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]  # the same for all heads
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
