"""What every backbone returns."""

import jax
from flax import struct


@struct.dataclass
class Features:
  """Outputs of a backbone; those that the caller did not ask for are None.

  Attributes:
    cls: (B, D) image feature after the final norm.
    tokens: (B, N, D) patch features after the final norm, raster order.
    hidden: (B, 1 + N, D) tapped layer after its own norm, class token first.
    attention: (query-key, value-value) maps of the last block, each (B, heads, L, L) float32.
    grid: (h, w) patch grid of the input.
  """

  cls: jax.Array | None = None
  tokens: jax.Array | None = None
  hidden: jax.Array | None = None
  attention: tuple[jax.Array, jax.Array] | None = None
  grid: tuple[int, int] = struct.field(pytree_node=False, default=(0, 0))
