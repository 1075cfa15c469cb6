"""Convolution followed by batch norm, on maps of which a part is real."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.batch_norm import BATCH_NORM_MOMENTUM, make_batch_norm
from saip_jax.backbones.convolution import convolve
from saip_jax.backbones.extent import Extent, keep, real_cells, shrunk
from saip_jax.backbones.initial_values import TORCH_DEFAULT


class Conv(nn.Module):
  """Convolution without bias: (B, h, w, C) -> (B, ceil(h / stride), ceil(w / stride), features).

  Attributes:
    features: number of outputs.
    side: side of the kernel in cells, odd.
    stride: stride in cells of the input.
    depthwise: each output reads one input channel; features equals C.
    dtype: computation dtype.
    kernel_init: initializer of the kernel (side, side, C, features), with C = 1 if depthwise.
  """

  features: int
  side: int = 1
  stride: int = 1
  depthwise: bool = False
  dtype: jnp.dtype = jnp.float32
  kernel_init: initializers.Initializer = TORCH_DEFAULT  # also timm's

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = self.side, self.side, 1 if self.depthwise else x.shape[-1], self.features
    kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
    return convolve(x.astype(self.dtype), kernel, self.stride)


class ConvNorm(nn.Module):
  """Convolution and batch norm, see `make_batch_norm` for the statistics.

  Attributes:
    features: see `Conv`.
    side: see `Conv`.
    stride: see `Conv`.
    depthwise: see `Conv`.
    idle: initialize the scale to zero, so that a residual branch adds nothing at first.
    dtype: computation dtype.
    kernel_init: see `Conv`.
    momentum: weight of the old running statistics in an update.
  """

  features: int
  side: int = 1
  stride: int = 1
  depthwise: bool = False
  idle: bool = False
  dtype: jnp.dtype = jnp.float32
  kernel_init: initializers.Initializer = TORCH_DEFAULT
  momentum: float = BATCH_NORM_MOMENTUM

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    """Computes (B, h, w, C) -> (B, ceil(h / stride), ceil(w / stride), features); `extent` is the real part of x."""
    if self.side > 1:
      x = keep(x, extent)  # zero padding at the edge of the real part
    conv = Conv(self.features, self.side, self.stride, self.depthwise, self.dtype, self.kernel_init, name="conv")
    x = conv(x)
    scale_init = initializers.zeros if self.idle else initializers.ones
    norm = make_batch_norm(self, self.dtype, self.momentum, name="bn", scale_init=scale_init)
    return norm(x, mask=real_cells(x, shrunk(extent, self.stride, ceil=True)))
