"""The real cells of maps: images of several sizes share one canvas, or parts of them are hidden.

In all functions an extent of None means that all cells are real; no mask is computed then.
"""

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.backbones.features import PaddedSizes


@struct.dataclass
class Extent:
  """The real cells of each map of a batch.

  Attributes:
    hw: (B, 2) int32, height and width in cells of the real part, at the top left of the current map.
    visible: None, or (B, h, w) bool: the visible cells of the hidden grid; it stays at that resolution.
    hidden_cell: side of a cell of the hidden grid, in cells of the current map.
  """

  hw: jax.Array
  visible: jax.Array | None = None
  hidden_cell: int = struct.field(pytree_node=False, default=1)

  def mask(self, map_hw: tuple[int, int]) -> jax.Array:
    """Returns (B, h, w, 1) bool for a map of size (h, w), True for real cells.

    Cells outside the visible cells of the hidden grid are not real.
    """
    rows, columns = (jnp.arange(side) < self.hw[:, axis, None] for axis, side in enumerate(map_hw))  # (B, side)
    real = rows[:, :, None] & columns[:, None, :]
    if self.visible is not None:
      seen = jnp.repeat(jnp.repeat(self.visible, self.hidden_cell, 1), self.hidden_cell, 2)
      rest = [(0, side - covered, 0) for side, covered in zip(map_hw, seen.shape[1:])]  # negative: cropped
      real &= jax.lax.pad(seen, False, [(0, 0, 0), *rest])
    return real[..., None]


def extent_of(padded: PaddedSizes | None) -> Extent | None:
  """Returns the real part of padded images, in pixels."""
  return None if padded is None else Extent(padded.of_each())


def shrunk(extent: Extent | None, factor: int, ceil: bool = False) -> Extent | None:
  """Returns the extent on a map with `factor` times fewer cells a side, rounded up, or down to at least 1."""
  if extent is None or factor == 1:
    return extent
  hw = -(-extent.hw // factor) if ceil else jnp.maximum(extent.hw // factor, 1)
  return extent.replace(hw=hw, hidden_cell=extent.hidden_cell // factor)


def real_cells(x: jax.Array, extent: Extent | None) -> jax.Array | None:
  """Returns the mask (B, h, w, 1) of a map x (B, h, w, C), or None where all cells are real."""
  return None if extent is None else extent.mask(x.shape[1:3])


def keep(x: jax.Array, extent: Extent | None) -> jax.Array:
  """Returns a map x (B, h, w, C) with zeros in the cells that are not real."""
  return x if extent is None else jnp.where(extent.mask(x.shape[1:3]), x, 0)


def mean_of_real_cells(x: jax.Array, extent: Extent | None) -> jax.Array:
  """Returns the mean (B, C) of the real cells of a map x (B, h, w, C), summed in float32, in the dtype of x."""
  mask = real_cells(x, extent)
  return jnp.mean(x, axis=(1, 2), dtype=jnp.float32, where=mask).astype(x.dtype)
