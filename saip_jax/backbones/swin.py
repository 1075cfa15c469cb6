"""Swin transformer: attention in windows that every other block shifts, on rectangular images of any size."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.extent import Extent, extent_of, keep, mean_of_real_cells, shrunk
from saip_jax.backbones.features import Features, Views
from saip_jax.backbones.initial_values import uniform_initializer
from saip_jax.backbones.linear import layer_norm
from saip_jax.backbones.pyramid import (
  STEM_STRIDE,
  TAPPED_STAGE,
  WEIGHT_INIT,
  PatchConv,
  StagedBackbone,
  TimmMlp,
  dense,
  mean_first,
  rematerialized,
  standardized,
)
from saip_jax.backbones.windows import Windows, relative_positions
from saip_jax.masking.tokens import select_tokens

_MASKED_LOGIT = -100.0  # timm adds it to the logits of cells from the opposite end of the map


def swin_norm(dtype) -> nn.LayerNorm:
  """Returns the layer norm of timm's Swin: epsilon 1e-5, statistics in float32."""
  return nn.LayerNorm(epsilon=1e-5, dtype=dtype)


class SwinWindowAttention(nn.Module):
  """Self-attention within windows; each head has a bias for every offset between two cells.

  Padding cells of a window are keys too, as in timm. They are zero before the projection, so their projection is its
  bias; only cells of the map are projected.

  Attributes:
    heads: attention heads.
    window: side in cells.
    shift: shift of the windows against the grid, in cells.
    dtype: computation dtype.
  """

  heads: int
  window: int
  shift: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    channels = x.shape[-1]
    windows = Windows(x.shape[1:3], self.window, self.shift, extent)
    qkv = windows.cut(dense(3 * channels, self.dtype, use_bias=False, name="qkv")(x))
    qkv += self.param("qkv_bias", initializers.zeros, (3 * channels,)).astype(self.dtype)
    qkv = qkv.reshape(*qkv.shape[:3], 3, self.heads, channels // self.heads)
    q, k, v = (qkv[:, :, :, part] for part in range(3))  # (B, windows, cells, heads, d)
    table = self.param("relative_position_bias_table", WEIGHT_INIT, ((2 * self.window - 1) ** 2, self.heads))
    offsets = jnp.asarray(relative_positions(self.window))
    bias = select_tokens(table[None], offsets.reshape(1, -1)).reshape(*offsets.shape, self.heads)
    bias = bias.transpose(2, 0, 1)  # (heads, cells, cells)
    masked = windows.masked_pairs()
    if masked is not None:
      bias = bias + jnp.where(masked, _MASKED_LOGIT, 0.0)[:, :, None]
    with jax.named_scope("attention"):
      logits = jnp.einsum("bnqhd,bnkhd->bnhqk", q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype), k)
      weights = jax.nn.softmax(logits.astype(jnp.float32) + bias, axis=-1).astype(v.dtype)
      mixed = jnp.einsum("bnhqk,bnkhd->bnqhd", weights, v).reshape(*qkv.shape[:3], channels)
    return dense(channels, self.dtype, name="proj")(windows.join(mixed))


class SwinBlock(nn.Module):
  """Transformer block: x + attention(norm(x)), then x + mlp(norm(x)); attributes as in `SwinWindowAttention`."""

  heads: int
  window: int
  shift: int
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.norm1, self.norm2 = swin_norm(self.dtype), swin_norm(self.dtype)
    self.attn = SwinWindowAttention(self.heads, self.window, self.shift, self.dtype)
    self.mlp = TimmMlp(self.dtype)

  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    x = x + self.attn(self.norm1(x), extent)
    return x + self.mlp(self.norm2(x))


class SwinPatchEmbed(nn.Module):
  """Patch embedding: patches to cells, then a norm."""

  width: int
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    bound = (STEM_STRIDE * STEM_STRIDE * 3) ** -0.5
    inits = initializers.variance_scaling(1 / 3, "fan_in", "uniform"), uniform_initializer(-bound, bound)
    self.proj = PatchConv(self.width, STEM_STRIDE, self.dtype, *inits)
    self.norm = swin_norm(self.dtype)

  def __call__(self, images: jax.Array) -> jax.Array:
    return self.norm(self.proj(images))


class SwinPatchMerging(nn.Module):
  """Merges 2x2 cells into one with other channels; odd sides are padded with zeros.

  Attributes:
    width: channels of the merged cells.
    bias: whether the linear layer has a bias, see `Swin.merging_bias`.
    dtype: computation dtype.
  """

  width: int
  bias: bool
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.norm, self.reduction = swin_norm(self.dtype), dense(self.width, self.dtype, use_bias=self.bias)

  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    batch, height, width, channels = x.shape
    x = jnp.pad(keep(x, extent), ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    x = x.reshape(batch, x.shape[1] // 2, 2, x.shape[2] // 2, 2, channels)
    x = x.transpose(0, 1, 3, 4, 2, 5)  # order of the four: left column first
    return self.reduction(self.norm(x.reshape(*x.shape[:3], 4 * channels)))


class SwinStage(nn.Module):
  """`SwinPatchMerging`, except in the first stage, then blocks; every second block has shifted windows.

  Attributes:
    width: channels.
    depth: number of blocks.
    heads: attention heads.
    window: side in cells.
    merges: whether the stage begins with `SwinPatchMerging`.
    merging_bias: see `Swin`.
    dtype: computation dtype.
    remat: see `Backbone`.
  """

  width: int
  depth: int
  heads: int
  window: int
  merges: bool
  merging_bias: bool
  dtype: jnp.dtype = jnp.float32
  remat: str = "none"

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> tuple[jax.Array, Extent | None]:
    if self.merges:
      x = SwinPatchMerging(self.width, self.merging_bias, self.dtype, name="downsample")(x, extent)
      extent = shrunk(extent, 2, ceil=True)
    block = rematerialized(SwinBlock, self.remat)
    for i in range(self.depth):
      x = block(self.heads, self.window, i % 2 * (self.window // 2), self.dtype, name=f"blocks_{i}")(x, extent)
    return x, extent


class Swin(StagedBackbone, kw_only=True):
  """Swin transformer with a fixed window size, so that its weights fit images of every size.

  Defaults are Swin-T: timm's `swin_tiny_patch4_window7_224` created with `always_partition=True` and
  `strict_img_size=False`, without drop path and head. The image feature is the mean of the cells of the last stage
  after the norm; the tapped layer is the third stage, after its own norm. Initial values are timm's: weights and
  relative position biases N(0, 0.02), other biases zero, PyTorch's default for the patch embedding.

  Attributes:
    dims: channels of the four stages.
    depths: number of blocks of each stage.
    heads: attention heads of each stage.
    window: side of the attention windows, in cells.
    merging_bias: whether the linear layers between stages have a bias. timm's have none; SOLIDER's Swin has what equals
      one once its semantic weight is chosen, see `interop.solider`.
  """

  dims: tuple[int, int, int, int] = (96, 192, 384, 768)
  depths: tuple[int, int, int, int] = (2, 2, 6, 2)
  heads: tuple[int, int, int, int] = (3, 6, 12, 24)
  window: int = 7
  merging_bias: bool = False

  def hidden_grid(self, image_hw: tuple[int, int]) -> tuple[int, int]:
    """Returns (h, w) of `Features.hidden`: the stem rounds down to whole patches, every merging rounds up."""
    return tuple(-(-(side // STEM_STRIDE) // 2**TAPPED_STAGE) for side in image_hw)

  def setup(self):
    self.patch_embed = SwinPatchEmbed(self.dims[0], self.dtype)
    self.layers = [
      SwinStage(*sizes, self.window, i > 0, self.merging_bias, self.dtype, self.remat)
      for i, sizes in enumerate(zip(self.dims, self.depths, self.heads, strict=True))
    ]
    self.inter_norm, self.norm = layer_norm(self.dtype), swin_norm(self.dtype)

  def _encode(self, views: Views) -> Features:
    """Stops at the tapped layer if only "hidden" is read."""
    assert views.keep_ids is None, "Swin takes whole images only"
    reads = frozenset(views.reads)
    assert reads <= {"cls", "tokens", "hidden", "maps"}, "Swin has no attention maps of whole images"
    extent = extent_of(views.padded)
    x = self.patch_embed(keep(views.images.reshape(-1, *views.images.shape[2:]), extent))
    extent = shrunk(extent, STEM_STRIDE)
    features, maps = Features(hidden_grid=self.hidden_grid(views.images.shape[2:4])), []
    for i, stage in enumerate(self.layers):
      x, extent = stage(x, extent)
      maps.append(x)
      if i == TAPPED_STAGE and "hidden" in reads:
        hidden, mask = mean_first(self.inter_norm(x), extent)
        features = features.replace(hidden=hidden, hidden_mask=mask)
        if reads == {"hidden"}:
          return features
    x = self.norm(x)
    return features.replace(
      cls=mean_of_real_cells(x, extent) if "cls" in reads else None,
      tokens=x.reshape(len(x), -1, self.feature_width) if "tokens" in reads else None,
      maps=(*map(standardized, maps[:-1]), x) if "maps" in reads else None,
      grid=x.shape[1:3],
    )
