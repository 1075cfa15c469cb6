"""What every backbone takes and returns."""

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn, struct


@struct.dataclass
class Features:
  """Outputs of a backbone; those that the caller did not ask for are None.

  Attributes:
    cls: (B, D) image feature after the final norm: the class token, or the mean of the cells where there is none.
    tokens: (B, N, D) features of the cells of the last grid after the final norm, raster order.
    hidden: (B, 1 + M, E) tapped layer after its own norm: the class token or the mean first, then cells in raster
      order.
    hidden_mask: (B, 1 + M) bool, False where a cell of `hidden` is padding; None where none is.
    attention: (query-key, value-value) maps of the last block, each (B, heads, L, L) float32.
    maps: for dense use, finest first, each (B, h, w, C): see `Backbone.map_strides`. What lies beyond an image's true
      size means nothing.
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
  """True sizes of images that lie top left on a canvas as large as the largest of them.

  Attributes:
    choices: the (height, width) in pixels that an image can have.
    index: (B,) int32, which of them each image has.
  """

  choices: tuple[tuple[int, int], ...] = struct.field(pytree_node=False)
  index: jax.Array

  def of_each(self) -> jax.Array:
    """Returns (B, 2) int32, height and width of each image in pixels."""
    return jnp.asarray(self.choices, jnp.int32)[self.index]


@dataclasses.dataclass(frozen=True)
class Views:
  """Images of one canvas size, and what is wanted of them.

  Attributes:
    images: (B, V, H, W, 3), normalized.
    reads: names of `Features`: "cls", "tokens", "hidden", "attention", "maps"; only what they need is computed.
    keep_ids: None, or (B * V, K) int32: the only cells that are seen; what is read holds these alone and in this order
      (masked input, for backbones that are `maskable`). Cells of the hidden grid if "hidden" alone is read; if "cls"
      and "tokens" are, of the last one.
    padded: None, or the true sizes of the B * V images: what lies beyond them has no influence.
  """

  images: jax.Array
  reads: Iterable[str]
  keep_ids: jax.Array | None = None
  padded: PaddedSizes | None = None


class Backbone(nn.Module):
  """An image encoder for rectangular images of any size.

  Running statistics, where a network has some, are Linen's `batch_stats`: if the caller makes them mutable, those of
  the batch are used and the running ones move; else the running ones are used.

  Attributes:
    image_hw: size of the images it is made for, in pixels; what is stored for positions fits it.
    dtype: computation dtype; parameters stay float32.
    unroll: write equal blocks out instead of scanning them (for counting operations).
    remat: what is computed again in the backward pass, a key of `stack.REMAT`.
  """

  image_hw: tuple[int, int] = (256, 128)
  dtype: jnp.dtype = jnp.float32
  unroll: bool = False
  remat: str = "none"

  stride = 16  # pixels from one cell of the hidden grid to the next
  last_stride = 32  # the same for the last grid
  has_attention = False  # "attention" can be read
  maskable = False  # takes `Views.keep_ids`
  rope = False  # tells places by turning queries and keys, see `rope.turn`

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

    Each map is normalized over its channels: the last as the network's own output is, those of earlier stages by
    `pyramid.standardized`. HRNet's are as they come, from a ReLU.
    """
    raise NotImplementedError

  @property
  def map_widths(self) -> tuple[int, ...]:
    """C of each of `Features.maps`."""
    raise NotImplementedError

  @property
  def parameter_layers(self) -> tuple[tuple[str, int | tuple[int, ...]], ...]:
    """Depth of parameters: (regex for the start of names below the backbone, layer counted from the pixels, 0).

    A tuple gives one layer for each index of the leading axis, where blocks are stacked. What no pattern finds comes
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
    """Encodes images (B, H, W, 3); the arguments are fields of `Views`."""
    return self.encode([Views(images[:, None], reads, keep_ids, padded)])[0]

  def encode(self, views: Sequence[Views]) -> list[Features]:
    """Encodes several kinds of views, one after the other unless a network knows better.

    Args:
      views: of one B each.

    Returns:
      `Features` of each, with a leading axis of B * V.
    """
    return [self._encode(v) for v in views]

  def _encode(self, views: Views) -> Features:
    """Encodes one kind of views."""
    raise NotImplementedError
