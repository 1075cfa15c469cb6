"""HRNetV2: parallel maps of four resolutions that exchange features in every block, on images of any size."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers, relu

from saip_jax.backbones.conv_norm import ConvNorm
from saip_jax.backbones.enlarge import enlarge_like
from saip_jax.backbones.extent import Extent, extent_of, mean_of_real_cells, shrunk
from saip_jax.backbones.features import Backbone, Features, Views
from saip_jax.backbones.linear import layer_norm
from saip_jax.backbones.pyramid import mean_first, rematerialized

HRNET_TAPPED_STAGE = 2
_STEM_WIDTH = 64  # channels before the first stage and inside its blocks
_EXPANSION = 4  # output channels / inner channels of the blocks of the first stage
_MOMENTUM = 0.99  # weight of the old running statistics, from the published code of dense tasks

_CONV_INIT = initializers.variance_scaling(2.0, "fan_out", "normal")  # timm's: He et al. 2015

Maps, Extents = list[jax.Array], list[Extent | None]


def _conv_norm(features: int, side: int, dtype, stride: int = 1, name: str | None = None) -> ConvNorm:
  """Returns a convolution and its batch norm with timm's initial values and HRNet's momentum."""
  return ConvNorm(features, side, stride, dtype=dtype, kernel_init=_CONV_INIT, momentum=_MOMENTUM, name=name)


def _scanned(block: type[nn.Module], times: int, unroll: bool) -> Any:
  """Returns a module that applies `times` equal blocks as one scan, which compiles in a third of the time.

  Parameters and statistics are stacked along a leading axis.

  Args:
    block: module (carry, constant) -> (carry, None).
    times: number of blocks.
    unroll: see `Backbone`.
  """
  return nn.scan(
    block,
    variable_axes={"params": 0, "batch_stats": 0},
    split_rngs={"params": True},
    in_axes=nn.broadcast,
    length=times,
    unroll=times if unroll else 1,
  )


class Bottleneck(nn.Module):
  """Block of the first stage, relu(x + 1x1(relu(3x3(relu(1x1(x)))))); the first one projects x to more channels."""

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    width = _EXPANSION * _STEM_WIDTH
    y = relu(_conv_norm(_STEM_WIDTH, 1, self.dtype, name="conv1")(x, extent))
    y = relu(_conv_norm(_STEM_WIDTH, 3, self.dtype, name="conv2")(y, extent))
    y = _conv_norm(width, 1, self.dtype, name="conv3")(y, extent)
    return relu(y + (x if x.shape[-1] == width else _conv_norm(width, 1, self.dtype, name="downsample")(x, extent)))


class BasicBlock(nn.Module):
  """Residual block relu(x + 3x3(relu(3x3(x)))), one step of a scan."""

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> tuple[jax.Array, None]:
    y = relu(_conv_norm(x.shape[-1], 3, self.dtype, name="conv1")(x, extent))
    return relu(x + _conv_norm(x.shape[-1], 3, self.dtype, name="conv2")(y, extent)), None


class Shrinking(nn.Module):
  """Sequence of convolutions of stride 2 with ReLUs between; the last one changes the channels.

  Attributes:
    width: channels of the result.
    times: number of convolutions.
    dtype: computation dtype.
  """

  width: int
  times: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    for i in range(self.times - 1):
      x = relu(_conv_norm(x.shape[-1], 3, self.dtype, 2, name=f"convs_{i}")(x, extent))
      extent = shrunk(extent, 2, ceil=True)
    return _conv_norm(self.width, 3, self.dtype, 2, name=f"convs_{self.times - 1}")(x, extent)


class MultiResolutionBlock(nn.Module):
  """Basic blocks on each map, then fusion: each map becomes the ReLU of the sum of all maps. One step of a scan.

  Attributes:
    units: basic blocks on each map.
    enlarging: see `HRNet`.
    dtype: computation dtype.
    unroll: see `Backbone`.
    remat: see `Backbone`.
  """

  units: int
  enlarging: str
  dtype: jnp.dtype = jnp.float32
  unroll: bool = False
  remat: str = "none"

  @nn.compact
  def __call__(self, maps: Maps, extents: Extents) -> tuple[Maps, None]:
    branch = _scanned(rematerialized(BasicBlock, self.remat), self.units, self.unroll)
    maps = [branch(self.dtype, name=f"branches_{i}")(x, extents[i])[0] for i, x in enumerate(maps)]
    fused = []
    for to in range(len(maps)):
      fused.append(relu(sum(self._brought(maps, extents, origin, to) for origin in range(len(maps)))))
    return fused, None

  def _brought(self, maps: Maps, extents: Extents, origin: int, to: int) -> jax.Array:
    """Returns the map of branch `origin` in the resolution and the channels of branch `to`."""
    x, like, name = maps[origin], maps[to], f"from_{origin}_to_{to}"
    if origin < to:
      return Shrinking(like.shape[-1], to - origin, self.dtype, name=name)(x, extents[origin])
    if origin > to:
      x = _conv_norm(like.shape[-1], 1, self.dtype, name=name)(x, extents[origin])
      return enlarge_like(x, like, self.enlarging, extents[origin], extents[to])
    return x


class FirstStage(nn.Module):
  """Sequence of `Bottleneck` blocks on one map."""

  depth: int
  dtype: jnp.dtype = jnp.float32
  remat: str = "none"

  @nn.compact
  def __call__(self, x: jax.Array, extent: Extent | None) -> jax.Array:
    block = rematerialized(Bottleneck, self.remat)
    for i in range(self.depth):
      x = block(self.dtype, name=f"blocks_{i}")(x, extent)
    return x


class HRNetStage(nn.Module):
  """Later stage: adds a map of half the coarsest resolution, then applies `MultiResolutionBlock`s.

  Attributes:
    dims: channels of the maps, including the new one.
    depth: multi-resolution blocks.
    units: see `MultiResolutionBlock`.
    enlarging: see `HRNet`.
    dtype: computation dtype.
    unroll: see `Backbone`.
    remat: see `Backbone`.
  """

  dims: tuple[int, ...]
  depth: int
  units: int
  enlarging: str
  dtype: jnp.dtype = jnp.float32
  unroll: bool = False
  remat: str = "none"

  @nn.compact
  def __call__(self, maps: Maps, extents: Extents) -> tuple[Maps, Extents]:
    added = relu(_conv_norm(self.dims[-1], 3, self.dtype, 2, name="added")(maps[-1], extents[-1]))
    if len(maps) == 1:  # output of the first stage, which is wider
      maps = [relu(_conv_norm(self.dims[0], 3, self.dtype, name="narrowed")(maps[0], extents[0]))]
    maps, extents = [*maps, added], [*extents, shrunk(extents[-1], 2, ceil=True)]
    blocks = _scanned(MultiResolutionBlock, self.depth, self.unroll)
    block = blocks(self.units, self.enlarging, self.dtype, self.unroll, self.remat, name="blocks")
    return block(maps, extents)[0], extents


class HRNet(Backbone, kw_only=True):
  """HRNetV2, by default W18: timm's `hrnet_w18` without the convolutions before its classifier.

  timm and the published classification code, which provides the usual pre-trained weights, enlarge maps by repeating
  cells; the published code of dense tasks, including HCMoCo's, interpolates.

  Its maps are outputs of a ReLU. The tokens are HRNetV2's representation: each cell of the finest map with the features
  of the cells of all four maps that cover it. The image feature concatenates the means of the four maps. The tapped
  layer is the coarsest map of the third stage, after a norm. Initial values are timm's: weights N(0, 2 / fan out).

  Source: Wang et al. 2020, arXiv 1908.07919.

  Attributes:
    dims: channels of the four maps.
    depths: number of bottlenecks of the first stage and of multi-resolution blocks of the others.
    units: basic blocks on each map of a multi-resolution block.
    enlarging: how maps are enlarged, one of `enlarge.ENLARGE_RULES`.
  """

  dims: tuple[int, int, int, int] = (18, 36, 72, 144)
  depths: tuple[int, int, int, int] = (4, 1, 4, 3)
  units: int = 4
  enlarging: str = "nearest"

  last_stride = 4

  @property
  def feature_width(self) -> int:
    return sum(self.dims)

  @property
  def hidden_width(self) -> int:
    return self.dims[2]

  @property
  def map_strides(self) -> tuple[int, ...]:
    return 4, 8, 16, 32

  @property
  def map_widths(self) -> tuple[int, ...]:
    return self.dims

  @property
  def parameter_layers(self) -> tuple[tuple[str, int], ...]:
    return ("conv[12]/", 0), *((f"stage{n}/", n) for n in range(1, 5))

  def hidden_grid(self, image_hw: tuple[int, int]) -> tuple[int, int]:
    """Returns (h, w) of `Features.hidden` for images of a size in pixels: every stride rounds up."""
    return -(-image_hw[0] // self.stride), -(-image_hw[1] // self.stride)

  def setup(self):
    self.conv1, self.conv2 = _conv_norm(_STEM_WIDTH, 3, self.dtype, 2), _conv_norm(_STEM_WIDTH, 3, self.dtype, 2)
    self.stage1 = FirstStage(self.depths[0], self.dtype, self.remat)
    stage = lambda n: HRNetStage(
      self.dims[:n], self.depths[n - 1], self.units, self.enlarging, self.dtype, self.unroll, self.remat
    )
    self.stage2, self.stage3, self.stage4 = stage(2), stage(3), stage(4)
    self.inter_norm = layer_norm(self.dtype)

  def _encode(self, views: Views) -> Features:
    """Stops at the tapped layer if only "hidden" is read; each kind of views has its own batch statistics."""
    assert views.keep_ids is None, "HRNet takes whole images only"
    reads = frozenset(views.reads)
    assert reads <= {"cls", "tokens", "hidden", "maps"}, "HRNet has no attention maps"
    x, extent = views.images.reshape(-1, *views.images.shape[2:]), extent_of(views.padded)  # (B * V, H, W, 3)
    for convolution in (self.conv1, self.conv2):
      x, extent = relu(convolution(x, extent)), shrunk(extent, 2, ceil=True)
    maps, extents = self.stage2([self.stage1(x, extent)], [extent])
    maps, extents = self.stage3(maps, extents)
    features = Features(grid=x.shape[1:3], hidden_grid=maps[-1].shape[1:3])
    if "hidden" in reads:
      hidden, mask = mean_first(self.inter_norm(maps[-1]), extents[-1])
      features = features.replace(hidden=hidden, hidden_mask=mask)
      if reads == {"hidden"}:
        return features
    maps, extents = self.stage4(maps, extents)
    join = lambda parts: jnp.concatenate(list(parts), axis=-1)
    tokens = None
    if "tokens" in reads:
      fine = [
        maps[0],
        *(enlarge_like(x, maps[0], self.enlarging, e, extents[0]) for x, e in zip(maps[1:], extents[1:])),
      ]
      tokens = join(fine).reshape(len(x), -1, self.feature_width)
    return features.replace(
      cls=join(map(mean_of_real_cells, maps, extents)) if "cls" in reads else None,
      tokens=tokens,
      maps=tuple(maps) if "maps" in reads else None,
    )
