"""Regression of numbers from the coarse map of an encoder."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.linear import gelu


class MapRegressor(nn.Module):
  """Linear layer on each cell, GELU, and a linear layer on all cells: (B, h, w, C) -> (B, outputs) float32.

  Attributes:
    outputs: number of outputs.
    width: outputs of the first layer per cell.
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
