"""Layers and base class of the networks whose maps shrink from stage to stage."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.extent import Extent, mean_of_real_cells, real_cells
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.linear import NORM_EPSILON, gelu
from saip_jax.backbones.patches import patchify

STEM_STRIDE = 4  # pixels per cell of the first stage
TAPPED_STAGE = 2

REMAT = {
  "light": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # products with weights, not attention
  "full": jax.checkpoint_policies.nothing_saveable,  # except the input of the block
}
"""What the forward pass saves of a block of a stage for the backward pass, which recomputes the rest."""

# timm's normal distribution is truncated at 100 standard deviations, which has no effect.
WEIGHT_INIT = initializers.normal(0.02)


def dense(features: int, dtype, use_bias: bool = True, name: str | None = None) -> nn.Dense:
  """Returns a linear layer with timm's initial values: weights N(0, 0.02), zero bias."""
  return nn.Dense(features, use_bias=use_bias, dtype=dtype, kernel_init=WEIGHT_INIT, name=name)


class TimmMlp(nn.Module):
  """Linear, exact GELU, Linear; the hidden layer is four times as wide, initial values are timm's."""

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return dense(x.shape[-1], self.dtype, name="fc2")(gelu(dense(4 * x.shape[-1], self.dtype, name="fc1")(x)))


class PatchConv(nn.Module):
  """Convolution with stride equal to its side, as one matrix product: (B, h, w, C) -> (B, h // side, w // side, D).

  Attributes:
    features: D.
    side: side of a patch, in cells.
    dtype: computation dtype.
    kernel_init: initializer of the kernel (side, side, C, D).
    bias_init: initializer of the bias (D,).
  """

  features: int
  side: int
  dtype: jnp.dtype = jnp.float32
  kernel_init: initializers.Initializer = WEIGHT_INIT
  bias_init: initializers.Initializer = initializers.zeros

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    kernel = self.param("kernel", self.kernel_init, (self.side, self.side, channels, self.features))
    bias = self.param("bias", self.bias_init, (self.features,))
    patches = patchify(x.astype(self.dtype), self.side)
    out = patches @ kernel.reshape(-1, self.features).astype(self.dtype) + bias.astype(self.dtype)
    return out.reshape(batch, height // self.side, width // self.side, self.features)


class StagedBackbone(Backbone, kw_only=True):
  """Base class of networks of stages, each of half the resolution of the previous one; the tapped layer is the third.

  Attributes:
    dims: channels of each stage.
  """

  dims: tuple[int, int, int, int]

  @property
  def feature_width(self) -> int:
    return self.dims[-1]

  @property
  def hidden_width(self) -> int:
    return self.dims[TAPPED_STAGE]

  @property
  def map_strides(self) -> tuple[int, ...]:
    return tuple(STEM_STRIDE * 2**i for i in range(len(self.dims)))

  @property
  def map_widths(self) -> tuple[int, ...]:
    return self.dims

  @property
  def parameter_layers(self) -> tuple[tuple[str, int], ...]:
    return stage_layers("(patch_embed|stem)/", "(layers|stages)_", len(self.dims))


def stage_layers(first: str, stages: str, count: int) -> tuple[tuple[str, int], ...]:
  """Returns `Backbone.parameter_layers` of a network of stages; each stage is one layer.

  Args:
    first: regex for the names of the parameters before the stages.
    stages: regex for the names of stages, without their numbers.
    count: number of stages, counted from 0.
  """
  return (first, 0), *((f"{stages}{i}/", i + 1) for i in range(count))


def rematerialized(block: type[nn.Module], remat: str) -> type[nn.Module]:
  """Returns the block with the rematerialization policy of a key of `REMAT`; unchanged for "none"."""
  return block if remat == "none" else nn.remat(block, policy=REMAT[remat])


def standardized(x: jax.Array) -> jax.Array:
  """Returns a map x (B, h, w, C) with mean 0 and variance 1 over its channels, computed in float32, in the dtype of x.

  Detectors and segmentation networks apply a layer norm to every stage they read. Its scale and bias can be folded into
  the following linear layer, so the encoder does not store them.
  """
  return jax.nn.standardize(x.astype(jnp.float32), axis=-1, epsilon=NORM_EPSILON).astype(x.dtype)


def mean_first(x: jax.Array, extent: Extent | None) -> tuple[jax.Array, jax.Array | None]:
  """Returns `Features.hidden` and `hidden_mask` of a map x (B, h, w, C): the mean of its real cells, then all cells."""
  cells = x.reshape(len(x), -1, x.shape[-1])
  real = real_cells(x, extent)
  if real is not None:
    real = jnp.pad(real.reshape(len(x), -1), ((0, 0), (1, 0)), constant_values=True)
  return jnp.concatenate([mean_of_real_cells(x, extent)[:, None], cells], axis=1), real
