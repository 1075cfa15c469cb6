"""Learned position embeddings on other grids than the one they were learned on."""

import jax

INTERPOLATIONS = ("flat1d", "grid2d")


def interpolate_positions(
    table: jax.Array, stored_hw: tuple[int, int], grid_hw: tuple[int, int], mode: str
) -> jax.Array:
  """Resamples a table of patch positions with PyTorch's bicubic kernel (a = -0.75, not antialiased).

  `flat1d` is what the published SAIP does: the raster of N patches is resized as one line of length N, which keeps
  rows but lets columns drift. `grid2d` resizes the grid.

  Args:
    table: (N, D) embeddings of the stored grid in raster order.
    stored_hw: (h, w) the table was made for, N = h * w.
    grid_hw: (h, w) wanted.
    mode: one of `INTERPOLATIONS`.

  Returns:
    (h * w, D) embeddings of the wanted grid. With `flat1d` a grid of equal length is returned as it is.
  """
  h, w = grid_hw
  width = table.shape[-1]
  method = jax.image.ResizeMethod.CUBIC_PYTORCH
  if mode == "flat1d":
    if h * w == len(table):
      return table
    return jax.image.resize(table, (h * w, width), method, antialias=False)
  if mode == "grid2d":
    if grid_hw == stored_hw:
      return table
    grid = jax.image.resize(table.reshape(*stored_hw, width), (h, w, width), method, antialias=False)
    return grid.reshape(h * w, width)
  raise ValueError(f"position interpolation {mode!r} is not one of {', '.join(INTERPOLATIONS)}")
