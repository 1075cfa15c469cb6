"""Positions that are added to tokens: fixed sine waves, and interpolation of learned ones to other grids."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

INTERPOLATIONS = ("flat1d", "grid2d", "grid2d_offset", "grid2d_antialiased")


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


def _bicubic(stored: int, wanted: int, factor: float) -> np.ndarray:
  """Returns the matrix (wanted, stored) float32 that resamples a line as PyTorch does: a = -0.75, edges repeated.

  Own code, as JAX has this kernel from 0.10 on (`ResizeMethod.CUBIC_PYTORCH`); its CUBIC is another one (a = -0.5).

  Args:
    stored: length of the line.
    wanted: length of the result.
    factor: enlargement; position i of the result lies at (i + 0.5) / factor - 0.5 of the line.

  Source: Keys 1981, "Cubic convolution interpolation for digital image processing", eq. 4 with free a.
  """
  a = -0.75
  at = (np.arange(wanted)[:, None] + 0.5) / factor - 0.5
  taps = np.floor(at).astype(int) + np.arange(-1, 3)
  x = np.abs(at - taps)
  near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
  matrix = np.zeros((wanted, stored))
  np.add.at(matrix, (np.arange(wanted)[:, None], taps.clip(0, stored - 1)), np.where(x <= 1, near, far))
  return matrix.astype(np.float32)


def interpolate_positions(
  table: jax.Array, stored_hw: tuple[int, int], grid_hw: tuple[int, int], mode: str
) -> jax.Array:
  """Resamples a table of patch positions with PyTorch's bicubic kernels (a = -0.75; antialiased: a = -0.5).

  `flat1d`, of the published SAIP, resizes the raster of N patches as one line of length N: rows stay in place, columns
  drift. `grid2d` resizes the grid. `grid2d_offset`, of the published DINO, resizes it by (new + 0.1) / stored, which
  guards against rounding and samples the last positions up to 0.1 of a cell too far up and left. `grid2d_antialiased`,
  of DINOv2 in timm, widens the kernel where the grid shrinks.

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
  if mode == "flat1d":
    if h * w == len(table):
      return table
    matrix = _bicubic(len(table), h * w, h * w / len(table)).astype(table.dtype)
    return jnp.matmul(matrix, table, precision=jax.lax.Precision.HIGHEST)
  if mode in ("grid2d", "grid2d_offset"):
    if grid_hw == stored_hw:
      return table
    offset = 0.1 if mode == "grid2d_offset" else 0.0
    rows, columns = (
      _bicubic(stored, wanted, (wanted + offset) / stored).astype(table.dtype)
      for stored, wanted in zip(stored_hw, grid_hw)
    )
    grid = table.reshape(*stored_hw, width)
    grid = jnp.einsum("Hh,Ww,hwd->HWd", rows, columns, grid, precision=jax.lax.Precision.HIGHEST)
    return grid.reshape(h * w, width)
  if mode == "grid2d_antialiased":
    if grid_hw == stored_hw:
      return table
    grid = table.reshape(*stored_hw, width)
    resize = functools.partial(jax.image.resize, method="cubic", precision=jax.lax.Precision.HIGHEST)
    return resize(grid, (*grid_hw, width)).reshape(h * w, width)
  raise ValueError(f"position interpolation {mode!r} is not one of {', '.join(INTERPOLATIONS)}")
