"""Square windows of a map, on the grid or shifted against it (Swin, Liu et al. 2021, arXiv 2103.14030)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.extent import Extent, keep

_EXACT = jax.lax.Precision.HIGHEST  # products with one-hot rows copy elements exactly


def relative_positions(window: int) -> np.ndarray:
  """Returns (window**2, window**2) int: the row of the bias table of each query (row) and key (column)."""
  row, column = np.divmod(np.arange(window * window), window)
  row_offset, column_offset = (place[:, None] - place + window - 1 for place in (row, column))
  return row_offset * (2 * window - 1) + column_offset


@dataclasses.dataclass(frozen=True)
class Windows:
  """The windows of a batch of maps, cut as in timm.

  A map is rolled up and left by `shift` cells, then padded with zeros to whole windows, so that its first rows come
  directly after its last one. Maps with different real parts are rolled and padded by their real part: their windows
  hold the same cells as without a canvas, and windows beyond the real part are zero.

  Attributes:
    map_hw: (h, w).
    window: side in cells.
    shift: shift of the windows in cells.
    extent: the real part of each map; None if all cells are real.
  """

  map_hw: tuple[int, int]
  window: int
  shift: int
  extent: Extent | None

  @property
  def _counts(self) -> tuple[int, int]:
    return tuple(-(-side // self.window) for side in self.map_hw)

  def cut(self, x: jax.Array) -> jax.Array:
    """Returns the windows (B, windows, window**2, C) of maps (B, h, w, C)."""
    rows, columns = self._counts
    if self.extent is not None and self.shift:
      x = self._moved(x, "brh,bhwc->brwc", "brw,bhwc->bhrc")
    else:
      x = jnp.roll(keep(x, self.extent), (-self.shift, -self.shift), (1, 2))
      pads = [(0, count * self.window - side) for count, side in zip((rows, columns), self.map_hw)]
      x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    x = x.reshape(len(x), rows, self.window, columns, self.window, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(len(x), rows * columns, self.window**2, -1)

  def join(self, windows: jax.Array) -> jax.Array:
    """Inverse of `cut`; values beyond the real part are arbitrary."""
    rows, columns = self._counts
    x = windows.reshape(len(windows), rows, columns, self.window, self.window, -1).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(len(x), rows * self.window, columns * self.window, -1)
    if self.extent is not None and self.shift:
      return self._moved(x, "brh,brwc->bhwc", "brw,bhrc->bhwc")
    return jnp.roll(x[:, : self.map_hw[0], : self.map_hw[1]], (self.shift, self.shift), (1, 2))

  def masked_pairs(self) -> jax.Array | None:
    """Returns (1 or B, windows, window**2, window**2) bool, True for two cells that come from opposite ends of a map.

    Such windows lie at the lower or right end of a shifted map; attention masks these pairs. None without shift.
    """
    if not self.shift:
      return None
    real = jnp.asarray(self.map_hw)[None] if self.extent is None else self.extent.hw
    by_axis = []
    for axis, count in enumerate(self._counts):
      end = -(-real[:, axis, None] // self.window) * self.window  # (B, 1): end of the last window of each map
      place = jnp.arange(count * self.window)
      by_axis.append((place >= end - self.window).astype(int) + (place >= end - self.shift))
    rows, columns = self._counts
    region = 3 * by_axis[0][:, :, None] + by_axis[1][:, None]  # (B, rows * window, columns * window)
    region = region.reshape(-1, rows, self.window, columns, self.window).transpose(0, 1, 3, 2, 4)
    region = region.reshape(-1, rows * columns, self.window**2)
    return region[..., :, None] != region[..., None, :]

  def _moved(self, x: jax.Array, *products: str) -> jax.Array:
    """Moves rows, then columns, between the map and its rolled form with products of one-hot matrices."""
    for axis, product in enumerate(products):
      place = jnp.arange(self._counts[axis] * self.window)
      real = self.extent.hw[:, axis, None]
      source = jnp.where(place < real, (place + self.shift) % real, -1)  # (B, places)
      matrix = jax.nn.one_hot(source, self.map_hw[axis], dtype=x.dtype)
      x = jnp.einsum(product, matrix, x, precision=_EXACT)
    return x
