"""From the coarse map of an encoder to numbers that depend on where things are in it."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.linear import gelu


class MapRegressor(nn.Module):
  """A linear layer on each cell, GELU, and a linear layer on all cells: (B, h, w, C) -> (B, outputs) float32.

  Attributes:
    outputs: how many numbers.
    width: of what the first layer says of a cell.
    dtype: computation dtype.
  """

  outputs: int
  width: int = 64
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = gelu(nn.Dense(self.width, dtype=self.dtype, name="cells")(x))
    x = x.reshape(len(x), -1).astype(jnp.float32)
    return nn.Dense(self.outputs, name="out")(x)
