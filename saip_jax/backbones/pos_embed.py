"""Positions that are added to tokens: fixed sine waves, and interpolation of learned ones to other grids."""

import jax
import jax.numpy as jnp

INTERPOLATIONS = ("flat1d", "grid2d", "grid2d_offset")


def wave_positions(grid_hw: tuple[int, int], width: int) -> jax.Array:
  """Returns fixed positions of a grid, (h * w, D) float32: sines and cosines of the column, then those of the row.

  Args:
    grid_hw: rows and columns.
    width: D, a multiple of 4; wavelengths go from 2 pi to 10,000 times that in D / 4 steps.

  Source: MAE (He et al. 2022, arXiv 2111.06377); CroCo (Weinzaepfel et al. 2022, arXiv 2210.10716) has the same.
  """
  if width % 4:
    raise ValueError(f"fixed positions need a width that is a multiple of 4: got {width}")
  frequencies = 10000.0 ** -(jnp.arange(width // 4) / (width // 4))
  waves = lambda n: jnp.concatenate([f(jnp.arange(n)[:, None] * frequencies) for f in (jnp.sin, jnp.cos)], axis=-1)
  rows, columns = (waves(n) for n in grid_hw)  # (n, D / 2)
  shape = (*grid_hw, width // 2)
  both = jnp.broadcast_to(columns[None], shape), jnp.broadcast_to(rows[:, None], shape)
  return jnp.concatenate(both, axis=-1).reshape(-1, width)


def interpolate_positions(
  table: jax.Array, stored_hw: tuple[int, int], grid_hw: tuple[int, int], mode: str
) -> jax.Array:
  """Resamples a table of patch positions with PyTorch's bicubic kernel (a = -0.75, not antialiased).

  `flat1d`, of the published SAIP, resizes the raster of N patches as one line of length N: rows stay in place, columns
  drift. `grid2d` resizes the grid. `grid2d_offset`, of the published DINO, resizes it by (new + 0.1) / stored, which
  guards against rounding and samples the last positions up to 0.1 of a cell too far up and left.

  Args:
    table: (N, D) embeddings of the stored grid in raster order.
    stored_hw: (h, w) of the table, N = h * w.
    grid_hw: (h, w) of the result.
    mode: one of `INTERPOLATIONS`.

  Returns:
    (h * w, D) embeddings of the new grid. With `flat1d` a grid of equal length is returned unchanged.
  """
  h, w = grid_hw
  width = table.shape[-1]
  method = jax.image.ResizeMethod.CUBIC_PYTORCH
  if mode == "flat1d":
    if h * w == len(table):
      return table
    return jax.image.resize(table, (h * w, width), method, antialias=False)
  if mode in ("grid2d", "grid2d_offset"):
    if grid_hw == stored_hw:
      return table
    grid, shape = table.reshape(*stored_hw, width), (h, w, width)
    if mode == "grid2d":
      grid = jax.image.resize(grid, shape, method, antialias=False)
    else:
      factors = jnp.array([(wanted + 0.1) / stored for wanted, stored in zip(grid_hw, stored_hw)])
      grid = jax.image.scale_and_translate(grid, shape, (0, 1), factors, jnp.zeros(2), method, antialias=False)
    return grid.reshape(h * w, width)
  raise ValueError(f"position interpolation {mode!r} is not one of {', '.join(INTERPOLATIONS)}")
