"""Upsampling of the coarse map of an encoder to fine logits or heat maps."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers, relu

from saip_jax.backbones.batch_norm import make_batch_norm

FINE_STRIDE = 4  # pixels per cell of the result

_INIT = initializers.normal(0.001)


class Deconvolution(nn.Module):
  """4x4 transposed convolution of stride 2 without bias, as a matrix product.

  The gradient of `nn.ConvTranspose` took 20 times as long.

  Attributes:
    width: channels of the result.
    dtype: computation dtype.
  """

  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (B, h, w, C) to (B, 2 h, 2 w, width)."""
    kernel = self.param("kernel", _INIT, (4, 4, x.shape[-1], self.width))
    x = jnp.einsum("bhwc,yxcd->yxbhwd", x.astype(self.dtype), kernel.astype(self.dtype))
    rows = [_interleaved(taps, axis=1) for taps in x.swapaxes(0, 1)]  # each column of the kernel
    return _interleaved(rows, axis=2)


def _interleaved(taps, axis: int) -> jax.Array:
  """Adds the outputs of the four taps along an axis, (B, h, w, D) each, into one of twice the length."""
  first, second, third, fourth = taps
  edge = lambda side: [side if i == axis else (0, 0) for i in range(first.ndim)]
  before = jax.lax.slice_in_dim(jnp.pad(first, edge((1, 0))), 0, -1, axis=axis)
  after = jax.lax.slice_in_dim(jnp.pad(fourth, edge((0, 1))), 1, None, axis=axis)
  both = jnp.stack([before + third, second + after], axis=axis + 1)
  return both.reshape(*first.shape[:axis], -1, *first.shape[axis + 1 :])


class UpsamplingHead(nn.Module):
  """4x4 deconvolutions of stride 2, each with batch norm and ReLU, up to cells of 4 pixels, then a 1x1 convolution.

  A map of stride 16 needs two deconvolutions, as ViTPose's classic decoder; stride 32 needs three, as SimpleBaseline.

  Attributes:
    outputs: channels of the result.
    stride: pixels per cell of the input: 4 times a power of 2.
    width: channels of the deconvolutions.
    dtype: computation dtype.

  Source: Xu et al. 2022, arXiv 2204.12484, section 3.1; Xiao et al. 2018, arXiv 1804.06208.
  """

  outputs: int
  stride: int
  width: int = 256
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (B, h, w, C) to (B, h * stride / 4, w * stride / 4, outputs) float32."""
    for i in range((self.stride // FINE_STRIDE).bit_length() - 1):
      x = Deconvolution(self.width, self.dtype, name=f"deconv_{i}")(x)
      x = relu(make_batch_norm(self, self.dtype, name=f"bn_{i}")(x))
    return nn.Conv(self.outputs, (1, 1), dtype=jnp.float32, kernel_init=_INIT, name="out")(x.astype(jnp.float32))
