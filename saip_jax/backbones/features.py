"""Inputs, outputs and base class of all backbones."""

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn, struct


@struct.dataclass
class Features:
  """Outputs of a backbone; those that were not requested are None.

  Attributes:
    cls: (B, D) image feature after the final norm: the class token, or the mean of the cells in networks without one.
    tokens: (B, N, D) features of the cells of the last grid after the final norm, raster order.
    hidden: (B, 1 + M, E) tapped layer after its own norm: the class token or the mean first, then cells in raster
      order.
    hidden_mask: (B, 1 + M) bool, False where a cell of `hidden` is padding; None without padding.
    attention: (query-key, value-value) maps of the last block, each (B, heads, L, L) float32.
    maps: feature maps for dense tasks, finest first, each (B, h, w, C): see `Backbone.map_strides`. Values beyond the
      true size of an image are arbitrary.
    grid: (h, w) of `tokens`.
    hidden_grid: (h, w) of `hidden`.
  """

  cls: jax.Array | None = None
  tokens: jax.Array | None = None
  hidden: jax.Array | None = None
  hidden_mask: jax.Array | None = None
  attention: tuple[jax.Array, jax.Array] | None = None
  maps: tuple[jax.Array, ...] | None = None
  grid: tuple[int, int] = struct.field(pytree_node=False, default=(0, 0))
  hidden_grid: tuple[int, int] = struct.field(pytree_node=False, default=(0, 0))


@struct.dataclass
class PaddedSizes:
  """True sizes of images, each at the top left of a canvas as large as the largest.

  Attributes:
    choices: the possible (height, width) in pixels.
    index: (B,) int32, the choice of each image.
  """

  choices: tuple[tuple[int, int], ...] = struct.field(pytree_node=False)
  index: jax.Array

  def of_each(self) -> jax.Array:
    """Returns (B, 2) int32, height and width of each image in pixels."""
    return jnp.asarray(self.choices, jnp.int32)[self.index]


@dataclasses.dataclass(frozen=True)
class Views:
  """V views of each of B images, of one canvas size, and the features to compute from them.

  Attributes:
    images: (B, V, H, W, 3) float, normalized.
    reads: the requested fields of `Features`: "cls", "tokens", "hidden", "attention", "maps"; nothing else is computed.
    keep_ids: None, or (B * V, K) int32: the visible cells of masked input, for backbones that are `maskable`. Features
      hold only these cells, in this order. They index the hidden grid if only "hidden" is read, and the last grid if
      "cls" and "tokens" are.
    padded: None, or the true sizes of the B * V images: pixels beyond them have no influence.
  """

  images: jax.Array
  reads: Iterable[str]
  keep_ids: jax.Array | None = None
  padded: PaddedSizes | None = None


class Backbone(nn.Module):
  """An image encoder for rectangular images of any size.

  Running statistics of batch norms are Linen's collection `batch_stats`: if it is mutable, the statistics of the batch
  are used and the running ones are updated; otherwise the running ones are used.

  Attributes:
    image_hw: nominal image size in pixels; stored positions have this size.
    dtype: computation dtype; parameters stay float32.
    unroll: unroll equal blocks instead of scanning them, see `RunConfig.unroll`.
    remat: what the backward pass recomputes, see `RunConfig.remat`.
    attention: how transformer blocks are computed, a key of `block.ATTEND`; other networks have "xla" alone.
  """

  image_hw: tuple[int, int] = (256, 128)
  dtype: jnp.dtype = jnp.float32
  unroll: bool = False
  remat: str = "none"
  attention: str = "xla"

  stride = 16  # pixels from one cell of the hidden grid to the next
  last_stride = 32  # the same for the last grid
  has_attention = False  # "attention" can be read
  maskable = False  # takes `Views.keep_ids`
  rope = False  # rotary positions, see `rope.turn`

  @property
  def feature_width(self) -> int:
    """D of `Features.cls` and `Features.tokens`."""
    raise NotImplementedError

  @property
  def hidden_width(self) -> int:
    """E of `Features.hidden`."""
    raise NotImplementedError

  @property
  def map_strides(self) -> tuple[int, ...]:
    """Pixels from one cell to the next of each of `Features.maps`.

    Each map is normalized over its channels: the last by the final norm of the network, those of earlier stages by
    `pyramid.standardized`. HRNet's maps are outputs of a ReLU, without a norm.
    """
    raise NotImplementedError

  @property
  def map_widths(self) -> tuple[int, ...]:
    """C of each of `Features.maps`."""
    raise NotImplementedError

  @property
  def parameter_layers(self) -> tuple[tuple[str, int | tuple[int, ...]], ...]:
    """Depth of parameters: pairs of a regex for the start of parameter names and a layer, counted from 0 at the pixels.

    A tuple gives one layer for each index of the leading axis of stacked blocks. Parameters that match no pattern come
    after all layers.
    """
    raise NotImplementedError

  def hidden_grid(self, image_hw: tuple[int, int]) -> tuple[int, int]:
    """Returns (h, w) of `Features.hidden` for images of a size in pixels."""
    return image_hw[0] // self.stride, image_hw[1] // self.stride

  def __call__(
    self,
    images: jax.Array,
    reads: Iterable[str] = ("cls", "tokens"),
    keep_ids: jax.Array | None = None,
    padded: PaddedSizes | None = None,
  ) -> Features:
    """Encodes images (B, H, W, 3); see `Views` for the arguments."""
    return self.encode([Views(images[:, None], reads, keep_ids, padded)])[0]

  def encode(self, views: Sequence[Views]) -> list[Features]:
    """Encodes several kinds of views, by default one after the other.

    Args:
      views: the kinds of views, all with the same B.

    Returns:
      `Features` of each kind, with a leading axis of B * V.
    """
    return [self._encode(v) for v in views]

  def _encode(self, views: Views) -> Features:
    """Encodes one kind of views."""
    raise NotImplementedError
