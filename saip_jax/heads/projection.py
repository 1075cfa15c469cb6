"""One linear map of the feature maps of a backbone, of their means or place by place."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers


class MapProjection(nn.Module):
  """A linear layer on maps of several strides, joined along their channels.

  Each map has a kernel of its own, and what they give is added: the same as joining first, with fewer operations,
  since coarse maps are enlarged after the product.

  Attributes:
    width: D.
    maps: number of maps.
    dtype: computation dtype.

  Source: methods, HCMoCo section 2: `pooled` is its sample head, `dense` its mapper.
  """

  width: int
  maps: int
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.linear = [
        nn.Dense(self.width, use_bias=i == 0, dtype=self.dtype, kernel_init=initializers.lecun_normal())
        for i in range(self.maps)
    ]

  def pooled(self, maps: tuple[jax.Array, ...]) -> jax.Array:
    """Returns (B, D) of the means of maps (B, h_i, w_i, C_i); it is also the mean of `dense`, if sizes divide."""
    return sum(linear(jnp.mean(x, axis=(1, 2))) for linear, x in zip(self.linear, maps, strict=True))

  def dense(self, maps: tuple[jax.Array, ...]) -> jax.Array:
    """Returns (B, h, w, D) at the size of the first map; the others are enlarged bilinearly."""
    rows = [linear(x) for linear, x in zip(self.linear, maps, strict=True)]
    return sum(jax.image.resize(x, rows[0].shape, "bilinear") for x in rows)
