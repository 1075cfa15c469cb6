"""ConvNeXt: depthwise convolutions and MLPs, on rectangular images of any size, with a tapped layer and masks."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.depthwise import depthwise_conv, native_depthwise_conv
from saip_jax.backbones.extent import Extent, extent_of, keep, mean_of_real_cells, shrunk
from saip_jax.backbones.features import Features, Views
from saip_jax.backbones.linear import layer_norm
from saip_jax.backbones.pyramid import (
  STEM_STRIDE,
  TAPPED_STAGE,
  WEIGHT_INIT,
  PatchConv,
  StagedBackbone,
  TimmMlp,
  mean_first,
  rematerialized,
  standardized,
)
from saip_jax.masking.tokens import select_tokens

KERNEL = 7  # side of the depthwise kernels, in cells
LAYER_SCALE = 1e-6  # initial value


class DepthwiseConv(nn.Module):
  """Depthwise convolution: each channel has its own kernel.

  Attributes:
    dtype: computation dtype.
    unroll: see `Backbone`.
  """

  dtype: jnp.dtype = jnp.float32
  unroll: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("kernel", WEIGHT_INIT, (KERNEL, KERNEL, 1, x.shape[-1])).astype(self.dtype)
    bias = self.param("bias", initializers.zeros, (x.shape[-1],)).astype(self.dtype)
    convolve = native_depthwise_conv if self.unroll else depthwise_conv
    return convolve(x.astype(self.dtype), kernel) + bias


class ConvNeXtBlock(nn.Module):
  """Residual block x + gamma * mlp(norm(depthwise convolution(x)))."""

  width: int
  dtype: jnp.dtype = jnp.float32
  unroll: bool = False

  def setup(self):
    self.conv_dw = DepthwiseConv(self.dtype, self.unroll)
    self.norm, self.mlp = layer_norm(self.dtype), TimmMlp(self.dtype)
    self.gamma = self.param("gamma", initializers.constant(LAYER_SCALE), (self.width,))

  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    y = self.mlp(self.norm(self.conv_dw(keep(x, extent))))
    return x + y * self.gamma.astype(self.dtype)


class Downsample(nn.Module):
  """Norm, then a convolution that merges 2x2 cells; the last row or column of an odd number is dropped.

  A side of one cell is padded with zeros instead, so that small crops have features; PyTorch rejects them.
  """

  width: int
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.norm, self.conv = layer_norm(self.dtype), PatchConv(self.width, 2, self.dtype)

  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    x = keep(self.norm(x), extent)
    return self.conv(jnp.pad(x, ((0, 0), *((0, int(side == 1)) for side in x.shape[1:3]), (0, 0))))


class ConvNeXtStem(nn.Module):
  """Patch embedding: patches to cells, then a norm."""

  width: int
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.conv, self.norm = PatchConv(self.width, STEM_STRIDE, self.dtype), layer_norm(self.dtype)

  def __call__(self, images: jax.Array) -> jax.Array:
    return self.norm(self.conv(images))


class ConvNeXtStage(nn.Module):
  """`Downsample`, except in the first stage, then blocks.

  Attributes:
    width: channels.
    depth: number of blocks.
    shrinks: whether the stage begins with `Downsample`.
    dtype: computation dtype.
    unroll: see `Backbone`.
    remat: see `Backbone`.
  """

  width: int
  depth: int
  shrinks: bool
  dtype: jnp.dtype = jnp.float32
  unroll: bool = False
  remat: str = "none"

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> tuple[jax.Array, Extent | None]:
    if self.shrinks:
      x = Downsample(self.width, self.dtype, name="downsample")(x, extent)
      extent = shrunk(extent, 2)
    block = rematerialized(ConvNeXtBlock, self.remat)
    for i in range(self.depth):
      x = block(self.width, self.dtype, self.unroll, name=f"blocks_{i}")(x, extent)
    return x, extent


class ConvNeXt(StagedBackbone, kw_only=True):
  """ConvNeXt, by default timm's `convnext_femto` without drop path and classifier.

  The image feature is the norm of the mean of the cells of the last stage, as in timm; the cells themselves have no
  norm. The tapped layer is the third stage, after its own norm. In masked input the hidden cells are zero before every
  convolution over cells, as in SparK and ConvNeXt V2, so that they never influence visible ones. Initial values are
  timm's: weights N(0, 0.02), biases zero, layer scale 1e-6.

  Attributes:
    dims: channels of the four stages.
    depths: number of blocks of each stage.
  """

  dims: tuple[int, int, int, int] = (48, 96, 192, 384)
  depths: tuple[int, int, int, int] = (2, 2, 6, 2)

  maskable = True

  def hidden_grid(self, image_hw: tuple[int, int]) -> tuple[int, int]:
    """Returns (h, w) of `Features.hidden`, rounded down to 1 or more."""
    return tuple(max(1, side // self.stride) for side in image_hw)

  def setup(self):
    self.stem = ConvNeXtStem(self.dims[0], self.dtype)
    self.stages = [
      ConvNeXtStage(*sizes, i > 0, self.dtype, self.unroll, self.remat)
      for i, sizes in enumerate(zip(self.dims, self.depths, strict=True))
    ]
    self.inter_norm, self.head_norm = layer_norm(self.dtype), layer_norm(self.dtype)

  def _encode(self, views: Views) -> Features:
    """Stops at the tapped layer if only "hidden" is read."""
    reads = frozenset(views.reads)
    assert reads <= {"cls", "tokens", "hidden", "maps"}, "ConvNeXt has no attention maps"
    assert views.keep_ids is None or "maps" not in reads, "maps are read of whole images only"
    extent = self._extent(views, reads)
    x = self.stem(keep(views.images.reshape(-1, *views.images.shape[2:]), extent))
    extent = shrunk(extent, STEM_STRIDE)
    features, maps = Features(hidden_grid=self.hidden_grid(views.images.shape[2:4])), []
    for i, stage in enumerate(self.stages):
      x, extent = stage(x, extent)
      maps.append(x)
      if i == TAPPED_STAGE and "hidden" in reads:
        features = self._tap(features, self.inter_norm(x), extent, views.keep_ids)
        if reads == {"hidden"}:
          return features
    tokens = x.reshape(len(x), -1, self.feature_width) if "tokens" in reads else None
    if tokens is not None and views.keep_ids is not None:
      tokens = select_tokens(tokens, views.keep_ids)  # (B * V, K, D)
    return features.replace(
      cls=self.head_norm(mean_of_real_cells(x, extent)) if "cls" in reads else None,
      tokens=tokens,
      maps=(*map(standardized, maps[:-1]), self.head_norm(x)) if "maps" in reads else None,
      grid=x.shape[1:3],
    )

  def _extent(self, views: Views, reads: frozenset[str]) -> Extent | None:
    """Returns the real part of the images, in pixels."""
    if views.keep_ids is None:
      return extent_of(views.padded)
    assert views.padded is None, "masked input must have images of one size"
    assert reads == {"hidden"} or "hidden" not in reads, "masked input has one grid: read `hidden` alone or not at all"
    cell = self.stride if reads == {"hidden"} else self.last_stride
    image_hw = views.images.shape[2:4]
    h, w = (max(1, side // cell) for side in image_hw)
    visible = jax.nn.one_hot(views.keep_ids, h * w).max(axis=1).reshape(-1, h, w) > 0
    return Extent(jnp.broadcast_to(jnp.asarray(image_hw), (len(visible), 2)), visible, cell)

  def _tap(self, features: Features, x: jax.Array, extent: Extent | None, keep_ids: jax.Array | None) -> Features:
    if keep_ids is None:
      hidden, mask = mean_first(x, extent)
      return features.replace(hidden=hidden, hidden_mask=mask)
    seen = select_tokens(x.reshape(len(x), -1, x.shape[-1]), keep_ids)  # (B * V, K, E)
    return features.replace(hidden=mean_first(seen[:, None], None)[0])
