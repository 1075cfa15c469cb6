"""Convolution and batch norm, on maps of which a part is real."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.batch_norm import MOMENTUM, batch_norm
from saip_jax.backbones.convolution import convolve
from saip_jax.backbones.extent import Extent, keep, real_cells, shrunk
from saip_jax.backbones.initial_values import TORCH_DEFAULT


class Conv(nn.Module):
  """Convolution without bias that gives ceil(n / stride) cells for n, for odd sides.

  Attributes:
    features: outputs.
    side: of the kernel, in cells.
    stride: cells of the input from one of the output to the next.
    depthwise: each output sees one channel; there are as many as inputs.
    dtype: computation dtype.
    kernel_init: of the kernel (side, side, C, features), with 1 for C if depthwise.
  """

  features: int
  side: int = 1
  stride: int = 1
  depthwise: bool = False
  dtype: jnp.dtype = jnp.float32
  kernel_init: initializers.Initializer = TORCH_DEFAULT  # timm leaves it as it is

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = self.side, self.side, 1 if self.depthwise else x.shape[-1], self.features
    kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
    return convolve(x.astype(self.dtype), kernel, self.stride)


class ConvNorm(nn.Module):
  """Convolution and batch norm; statistics are those of the batch while the collection `batch_stats` is mutable.

  Attributes:
    features: see `Conv`.
    side: see `Conv`.
    stride: see `Conv`.
    depthwise: see `Conv`.
    idle: start with a scale of zero, so that a residual branch adds nothing.
    dtype: computation dtype.
    kernel_init: see `Conv`.
    momentum: share of the running statistics that is kept at each step.
  """

  features: int
  side: int = 1
  stride: int = 1
  depthwise: bool = False
  idle: bool = False
  dtype: jnp.dtype = jnp.float32
  kernel_init: initializers.Initializer = TORCH_DEFAULT
  momentum: float = MOMENTUM

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    """Maps (B, h, w, C), of which `extent` is real, to (B, ceil(h / stride), ceil(w / stride), features)."""
    if self.side > 1:
      x = keep(x, extent)  # the zeros that the convolution would find around the image alone
    conv = Conv(self.features, self.side, self.stride, self.depthwise, self.dtype, self.kernel_init, name="conv")
    x = conv(x)
    scale_init = initializers.zeros if self.idle else initializers.ones
    norm = batch_norm(self, self.dtype, self.momentum, name="bn", scale_init=scale_init)
    return norm(x, mask=real_cells(x, shrunk(extent, self.stride, ceil=True)))
