"""TinyViT-5M as modified by MobileSAM: convolutions, then window attention, a final stride of 16, and a neck."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.conv_norm import Conv, ConvNorm
from saip_jax.backbones.extent import Extent, extent_of, keep, mean_of_real_cells, shrunk
from saip_jax.backbones.features import Backbone, Features, Views
from saip_jax.backbones.linear import gelu, layer_norm
from saip_jax.backbones.pyramid import TimmMlp, dense, mean_first, rematerialized, stage_layers, standardized
from saip_jax.backbones.windows import Windows

TIMM_EPSILON = 1e-5  # of the norms of timm's TinyViT; neck and tap have `layer_norm`
_EXPANSION = 4  # inner channels / outer channels of a convolution block


class TinyViTPatchEmbed(nn.Module):
  """Patch embedding: two convolutions of stride 2, from pixels to cells of 4."""

  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    x = gelu(ConvNorm(self.width // 2, 3, 2, dtype=self.dtype, name="conv1")(x, extent))
    return ConvNorm(self.width, 3, 2, dtype=self.dtype, name="conv2")(x, shrunk(extent, 2, ceil=True))


class ConvBlock(nn.Module):
  """Inverted residual block: expand channels by `_EXPANSION`, depthwise convolution, project back."""

  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    inner = _EXPANSION * self.width
    y = gelu(ConvNorm(inner, dtype=self.dtype, name="conv1")(x, extent))
    y = gelu(ConvNorm(inner, 3, depthwise=True, dtype=self.dtype, name="conv2")(y, extent))
    return gelu(x + ConvNorm(self.width, idle=True, dtype=self.dtype, name="conv3")(y, extent))


class TinyViTPatchMerging(nn.Module):
  """Changes the number of channels and, with the stride of a depthwise convolution, the size of the map."""

  width: int
  stride: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    x = gelu(ConvNorm(self.width, dtype=self.dtype, name="conv1")(x, extent))
    x = gelu(ConvNorm(self.width, 3, self.stride, depthwise=True, dtype=self.dtype, name="conv2")(x, extent))
    return ConvNorm(self.width, dtype=self.dtype, name="conv3")(x, shrunk(extent, self.stride, ceil=True))


def biases_by_distance(table: jax.Array, window: int) -> jax.Array:
  """Returns the logit bias (heads, window**2, window**2) of a query (row) for a key (column).

  Args:
    table: (heads, window**2), a bias for every distance in rows and columns, raster order.
    window: side in cells.
  """
  place = np.arange(window)
  one_hot = np.eye(window, dtype=np.float32)[np.abs(place[:, None] - place)]  # (place, place, distance)
  products = "hij,rsi,cdj->hrcsd"  # the gradient of a gather would be a scatter
  table = table.reshape(-1, window, window)
  bias = jnp.einsum(products, table, one_hot, one_hot, precision=jax.lax.Precision.HIGHEST)
  return bias.reshape(-1, window**2, window**2)


class TinyViTWindowAttention(nn.Module):
  """Self-attention within windows; each head has a bias for every distance between two cells.

  Padding cells of a window pass through the norm and are keys, as in timm. They are all equal: norm and projection are
  computed for one of them and for the cells of the map.

  Attributes:
    heads: attention heads.
    window: side in cells.
    dtype: computation dtype.
  """

  heads: int
  window: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    channels = x.shape[-1]
    windows = Windows(x.shape[1:3], self.window, 0, extent)
    norm = nn.LayerNorm(epsilon=TIMM_EPSILON, dtype=self.dtype, name="norm")
    project = dense(3 * channels, self.dtype, name="qkv")
    added = 1 - windows.cut(jnp.ones((len(x), *x.shape[1:3], 1), self.dtype))  # (B, windows, cells, 1)
    qkv = windows.cut(project(norm(x))) + added * project(norm(jnp.zeros((1, 1, 1, channels), x.dtype)))
    q, k, v = jnp.split(qkv.reshape(*qkv.shape[:3], self.heads, -1), 3, axis=-1)  # (B, windows, cells, heads, d)
    biases = self.param("attention_biases", initializers.zeros, (self.heads, self.window**2))
    with jax.named_scope("attention"):
      logits = jnp.einsum("bnqhd,bnkhd->bnhqk", q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype), k)
      logits = logits.astype(jnp.float32) + biases_by_distance(biases, self.window)
      weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
      mixed = jnp.einsum("bnhqk,bnkhd->bnqhd", weights, v).reshape(*qkv.shape[:3], channels)
    return dense(channels, self.dtype, name="proj")(windows.join(mixed))


class NormMlp(TimmMlp):
  """Layer norm, then `TimmMlp`."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return super().__call__(nn.LayerNorm(epsilon=TIMM_EPSILON, dtype=self.dtype, name="norm")(x))


class AttentionBlock(nn.Module):
  """Residual window attention, a depthwise convolution across windows, and a residual MLP."""

  heads: int
  window: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    x = x + TinyViTWindowAttention(self.heads, self.window, self.dtype, name="attn")(x, extent)
    x = ConvNorm(x.shape[-1], 3, depthwise=True, dtype=self.dtype, name="local_conv")(x, extent)
    return x + NormMlp(self.dtype, name="mlp")(x)


class ConvStage(nn.Module):
  """First stage: a sequence of `ConvBlock`s."""

  width: int
  depth: int
  dtype: jnp.dtype = jnp.float32
  remat: str = "none"

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> tuple[jax.Array, Extent | None]:
    block = rematerialized(ConvBlock, self.remat)
    for i in range(self.depth):
      x = block(self.width, self.dtype, name=f"blocks_{i}")(x, extent)
    return x, extent


class AttentionStage(nn.Module):
  """Later stage: `TinyViTPatchMerging`, then a sequence of `AttentionBlock`s."""

  width: int
  depth: int
  heads: int
  window: int
  stride: int
  dtype: jnp.dtype = jnp.float32
  remat: str = "none"

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> tuple[jax.Array, Extent | None]:
    x = TinyViTPatchMerging(self.width, self.stride, self.dtype, name="downsample")(x, extent)
    extent = shrunk(extent, self.stride, ceil=True)
    block = rematerialized(AttentionBlock, self.remat)
    for i in range(self.depth):
      x = block(self.heads, self.window, self.dtype, name=f"blocks_{i}")(x, extent)
    return x, extent


class Neck(nn.Module):
  """Convolutions 1x1 and 3x3, each followed by a layer norm over the channels."""

  width: int
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.conv1, self.norm1 = Conv(self.width, dtype=self.dtype), layer_norm(self.dtype)
    self.conv2, self.norm2 = Conv(self.width, 3, dtype=self.dtype), layer_norm(self.dtype)

  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    return self.norm2(self.conv2(keep(self.norm1(self.conv1(x)), extent)))


class TinyViT(Backbone, kw_only=True):
  """TinyViT with a final stride of 16 and a neck; the image feature is the mean of the neck's cells.

  timm's `tiny_vit_5m_224` without drop path and head, with MobileSAM's changes, as in the published SAIP: the last
  `TinyViTPatchMerging` keeps the size of the map, and a neck follows. The tapped layer is the last stage, before the
  neck. Initial values are timm's: convolutions U(+-1/sqrt(fan in)), linear layers N(0, 0.02), biases zero; convolution
  blocks are the identity before their GELU at first.

  Attributes:
    dims: channels of the four stages.
    depths: number of blocks of each stage.
    heads: attention heads of the last three stages; the first stage has only convolutions.
    windows: sides of the attention windows of the last three stages, in cells.
    neck_width: D.
  """

  dims: tuple[int, int, int, int] = (64, 128, 160, 320)
  depths: tuple[int, int, int, int] = (2, 2, 6, 2)
  heads: tuple[int, int, int] = (4, 5, 10)
  windows: tuple[int, int, int] = (7, 14, 7)
  neck_width: int = 256

  @property
  def feature_width(self) -> int:
    return self.neck_width

  @property
  def hidden_width(self) -> int:
    return self.dims[-1]

  @property
  def map_strides(self) -> tuple[int, ...]:
    return 4, 8, 16, 16

  @property
  def map_widths(self) -> tuple[int, ...]:
    return *self.dims[:3], self.neck_width  # the neck replaces the last stage

  @property
  def parameter_layers(self) -> tuple[tuple[str, int], ...]:
    return stage_layers("patch_embed/", "stages_", len(self.dims))

  def hidden_grid(self, image_hw: tuple[int, int]) -> tuple[int, int]:
    """Returns (h, w) of both grids for images of a size in pixels: every stride rounds up."""
    return -(-image_hw[0] // self.stride), -(-image_hw[1] // self.stride)

  def setup(self):
    self.patch_embed = TinyViTPatchEmbed(self.dims[0], self.dtype)
    strides = 2, 2, 1
    self.stages = [
      ConvStage(self.dims[0], self.depths[0], self.dtype, self.remat),
      *(
        AttentionStage(*sizes, self.dtype, self.remat)
        for sizes in zip(self.dims[1:], self.depths[1:], self.heads, self.windows, strides, strict=True)
      ),
    ]
    self.inter_norm = layer_norm(self.dtype)
    self.neck = Neck(self.neck_width, self.dtype)

  def _encode(self, views: Views) -> Features:
    """Encodes one kind of views, which has its own batch statistics."""
    assert views.keep_ids is None, "TinyViT takes whole images only"
    reads = frozenset(views.reads)
    assert reads <= {"cls", "tokens", "hidden", "maps"}, "TinyViT has no attention maps of whole images"
    x = views.images.reshape(-1, *views.images.shape[2:])  # (B * V, H, W, 3)
    extent = extent_of(views.padded)
    x = self.patch_embed(x, extent)
    extent = shrunk(extent, 4, ceil=True)
    maps = []
    for stage in self.stages:
      x, extent = stage(x, extent)
      maps.append(x)
    grid = x.shape[1:3]
    features = Features(grid=grid, hidden_grid=grid)
    if "hidden" in reads:
      hidden, mask = mean_first(self.inter_norm(x), extent)
      features = features.replace(hidden=hidden, hidden_mask=mask)
    if reads & {"cls", "tokens", "maps"}:
      x = self.neck(x, extent)
      features = features.replace(
        cls=mean_of_real_cells(x, extent) if "cls" in reads else None,
        tokens=x.reshape(len(x), -1, self.neck_width) if "tokens" in reads else None,
        maps=(*map(standardized, maps[:-1]), x) if "maps" in reads else None,
      )
    return features
