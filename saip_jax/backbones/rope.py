"""Rotary positions: queries and keys are rotated by angles proportional to their position on the grid."""

import jax
import jax.numpy as jnp

BASE = 100.0  # frequency of the fastest pair of features / that of the slowest, about


COORDINATES = {"cells": lambda n: jnp.arange(n), "centered": lambda n: 2 * jnp.pi * (2 * (jnp.arange(n) + 0.5) / n - 1)}
"""Coordinates along an axis of n cells: their index, as in CroCo; or from -2 pi to 2 pi, whatever n, as in DINOv3."""


def grid_angles(grid_hw: tuple[int, int], head_width: int, coordinates: str = "cells") -> jax.Array:
  """Returns the angles of every cell of a grid, (h * w, d / 2) float32: d / 4 for the row, then d / 4 for the column.

  Args:
    grid_hw: rows and columns.
    head_width: d, features of an attention head, a multiple of 4.
    coordinates: a key of `COORDINATES`.

  Source: RoFormer (Su et al. 2021, arXiv 2104.09864) on two axes, as in CroCo v2 (Weinzaepfel et al. 2023, arXiv
  2211.10408) and DINOv3 (Simeoni et al. 2025, arXiv 2508.10104).
  """
  if head_width % 4:
    raise ValueError(f"rotary positions need heads of a multiple of 4 features: got {head_width}")
  frequencies = BASE ** -(jnp.arange(head_width // 4) / (head_width // 4))
  rows, columns = (COORDINATES[coordinates](n)[:, None] * frequencies for n in grid_hw)  # (n, d / 4)
  shape = (*grid_hw, head_width // 4)
  angles = jnp.broadcast_to(rows[:, None], shape), jnp.broadcast_to(columns[None], shape)
  return jnp.concatenate(angles, axis=-1).reshape(-1, head_width // 2)


def with_class_token(angles: jax.Array, count: int = 1) -> jax.Array:
  """Prepends zero angles for a class token, or for a number of tokens: (B, N, d / 2) -> (B, count + N, d / 2)."""
  return jnp.pad(angles, ((0, 0), (count, 0), (0, 0)))


def turn(x: jax.Array, angles: jax.Array | None) -> jax.Array:
  """Rotates pairs of features, so that products of queries and keys depend on the difference of their positions.

  Pair i is feature i and feature d / 2 + i, as in timm's `rope_rotate_half`. CroCo orders the features of a head
  differently, rows before columns; the order is a permutation of learned weights and changes no result.

  Args:
    x: (B, L, heads, d) queries or keys.
    angles: (B or 1, L, d / 2) of the tokens; None returns x unchanged.

  Returns:
    (B, L, heads, d) in the dtype of x.
  """
  if angles is None:
    return x
  cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]  # the same for all heads
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
