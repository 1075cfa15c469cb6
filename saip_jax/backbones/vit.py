"""Vision transformer on rectangular images of any size, with a tapped layer and maskable input."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.nn import initializers

from saip_jax.backbones.block import Block
from saip_jax.backbones.features import Backbone, Features, PaddedSizes, Views
from saip_jax.backbones.initial_values import KERNEL_INITS, TOKEN_INITS, TORCH_DEFAULT
from saip_jax.backbones.linear import Linear, layer_norm
from saip_jax.backbones.packing import Packing, row_capacity
from saip_jax.backbones.patches import patchify
from saip_jax.backbones.pos_embed import interpolate_positions, wave_positions
from saip_jax.backbones.rope import grid_angles, with_class_token
from saip_jax.backbones.stack import init_stack, layer, read_firsts, run_stack
from saip_jax.masking.tokens import select_tokens


def _on_canvas(per_choice: list[jax.Array]) -> jax.Array:
  """Pads (h, w, D) arrays with zeros to the size of the largest: (choices, h_max * w_max, D)."""
  h, w = (max(a.shape[axis] for a in per_choice) for axis in (0, 1))
  padded = [jnp.pad(a, ((0, h - a.shape[0]), (0, w - a.shape[1]), (0, 0))) for a in per_choice]
  return jnp.stack(padded).reshape(len(padded), h * w, -1)


class ViT(Backbone, kw_only=True):
  """ViT with a class token, positions and a tapped layer with its own layer norm.

  The class token is initialized from N(0, 0.02), all kernels according to `weights`.

  Attributes:
    width: D.
    depth: blocks.
    heads: attention heads.
    last_heads: attention heads of the last block; None for `heads`. Students distilled from a ViT-B have 12 there. The
      parameters have the same shapes.
    patch: patch side in pixels.
    tapped_block: index of the block whose output, after `inter_norm`, is `Features.hidden`.
    pos_interpolation: see `pos_embed.interpolate_positions`.
    tokens: initializer of learned positions, a key of `initial_values.TOKEN_INITS`.
    positions: "learned"; or "cosine", not trained, initialized with `pos_embed.wave_positions`.
    rope: rotary positions instead: every block rotates queries and keys, see `rope.turn`.
    weights: initializer of kernels: "xavier" for all, as in MAE and SAIP; "normal", N(0, 0.02), with PyTorch's default
      for convolutions in the patch embedding, as in DINO.
  """

  width: int
  depth: int
  heads: int
  last_heads: int | None = None
  patch: int = 16
  tapped_block: int = 6
  pos_interpolation: str = "flat1d"
  tokens: str = "uniform"
  positions: str = "learned"
  rope: bool = False
  weights: str = "xavier"

  has_attention = True
  maskable = True

  @property
  def stride(self) -> int:
    return self.patch

  @property
  def last_stride(self) -> int:
    return self.patch

  @property
  def feature_width(self) -> int:
    return self.width

  @property
  def hidden_width(self) -> int:
    return self.width

  @property
  def map_strides(self) -> tuple[int, ...]:
    return (self.patch,)

  @property
  def map_widths(self) -> tuple[int, ...]:
    return (self.width,)

  @property
  def parameter_layers(self) -> tuple[tuple[str, int | tuple[int, ...]], ...]:
    return (r"patch_embed/|cls_token$|pos_embed$", 0), (r"blocks/", tuple(range(1, self.depth + 1)))

  @property
  def stored_grid(self) -> tuple[int, int]:
    """The grid of the stored positions."""
    return self.hidden_grid(self.image_hw)

  def setup(self):
    block = lambda heads: Block(self.width, heads, self.dtype, self.weights, self.attention, parent=None)
    self.block, self.last_block = block(self.heads), block(self.last_heads or self.heads)
    self.blocks = self.param("blocks", init_stack, self.block, self.depth)
    patch_init = KERNEL_INITS["xavier"] if self.weights == "xavier" else TORCH_DEFAULT
    self.patch_embed = Linear(self.width, self.dtype, uniform_bias=True, kernel_init=patch_init)
    self.cls_token = self.param("cls_token", initializers.normal(0.02), (1, 1, self.width))
    self.pos_embed = None if self.rope else self._table()
    self.inter_norm, self.norm = layer_norm(self.dtype), layer_norm(self.dtype)

  def _table(self) -> jax.Array:
    """Returns the stored positions (1, 1 + N, D), the class token's first."""
    h, w = self.stored_grid
    if self.positions == "cosine":  # that of the class token is zero
      waves = lambda key: jnp.pad(wave_positions((h, w), self.width), ((1, 0), (0, 0)))[None]
      return jax.lax.stop_gradient(self.param("pos_embed", waves))
    return self.param("pos_embed", TOKEN_INITS[self.tokens], (1, h * w + 1, self.width))

  def _positions(self, grid_hw: tuple[int, int]) -> jax.Array:
    return interpolate_positions(self.pos_embed[0, 1:], self.stored_grid, grid_hw, self.pos_interpolation)

  def _padded_positions(self, padded: PaddedSizes) -> jax.Array:
    """Returns (B, N, D) positions of the patches of each image, zero beyond them."""
    grids = [self.hidden_grid(hw) for hw in padded.choices]
    tables = _on_canvas([self._positions((h, w)).reshape(h, w, -1) for h, w in grids])
    one_hot = jax.nn.one_hot(padded.index, len(tables))
    return jnp.einsum("bs,snd->bnd", one_hot, tables, precision=jax.lax.Precision.HIGHEST)

  def _key_mask(self, padded: PaddedSizes) -> jax.Array:
    """Returns (B, 1 + N) bool, True for the class token and the patches inside each image."""
    grids = [self.hidden_grid(hw) for hw in padded.choices]
    real = _on_canvas([jnp.ones((h, w, 1), bool) for h, w in grids])[..., 0]
    return jnp.pad(real, ((0, 0), (1, 0)), constant_values=True)[padded.index]

  def encode(self, views: Sequence[Views]) -> list[Features]:
    """See `Backbone.encode`.

    Views that read only "hidden" leave after the tapped block. The last block is computed for the class tokens only,
    except of views that read "tokens" or "maps". All sizes run through the blocks together, see `packing.Packing`.
    """
    views = [dataclasses.replace(view, reads=frozenset(view.reads)) for view in views]
    kinds, start = self._kinds(views), 0
    grids = [self.hidden_grid(view.images.shape[2:4]) for view in views]
    features = [Features(hidden_mask=mask, grid=grid, hidden_grid=grid) for mask, grid in zip(kinds.key_masks, grids)]
    if any("hidden" in view.reads for view in views):
      if self.tapped_block == self.depth - 1 and any("attention" in view.reads for view in views):
        kinds, start = self._run(kinds, 0, self.tapped_block), self.tapped_block
        self._read_maps(kinds, features)
      kinds, start = self._to_tap(kinds, start, features), self.tapped_block + 1
    if not kinds.views:
      return features
    whole = [bool(view.reads & {"tokens", "maps"}) for view in kinds.views]
    if start < self.depth and (not all(whole) or any("attention" in view.reads for view in kinds.views)):
      kinds, start = self._run(kinds, start, self.depth - 1), self.depth - 1
      self._read_maps(kinds, features)
    self._to_end(kinds.only([kind for kind, is_whole in enumerate(whole) if is_whole]), start, features)
    self._to_class_tokens(kinds.only([kind for kind, is_whole in enumerate(whole) if not is_whole]), start, features)
    return features

  def _to_tap(self, kinds: "_Kinds", start: int, features: list[Features]) -> "_Kinds":
    """Runs the blocks from `start` up to the tapped one and sets `Features.hidden` where it is read.

    Returns the views that read more than "hidden".
    """
    kinds = self._run(kinds, start, self.tapped_block + 1)
    for place, view, part in zip(kinds.places, kinds.views, kinds.parts):
      if "hidden" in view.reads:
        features[place] = features[place].replace(hidden=self.inter_norm(part))
    return kinds.only([kind for kind, view in enumerate(kinds.views) if view.reads != {"hidden"}])

  def _to_end(self, kinds: "_Kinds", start: int, features: list[Features]) -> None:
    """Runs the blocks from `start` on for all tokens and sets `Features.cls`, `tokens` and `maps`."""
    if not kinds.views:
      return
    kinds = self._run(kinds, start, self.depth)
    for place, view, part in zip(kinds.places, kinds.views, map(self.norm, kinds.parts)):  # (B * V, 1 + N, D)
      tokens, maps = part[:, 1:], None
      if "maps" in view.reads:
        assert view.keep_ids is None, "maps are read of whole images only"
        maps = (tokens.reshape(len(part), *features[place].grid, self.width),)
      tokens = tokens if "tokens" in view.reads else None
      features[place] = features[place].replace(cls=part[:, 0], tokens=tokens, maps=maps)

  def _to_class_tokens(self, kinds: "_Kinds", start: int, features: list[Features]) -> None:
    """Runs the last block, unless `start` is beyond it, for class tokens only and sets `Features.cls`."""
    if not kinds.views:
      return
    if start == self.depth:
      firsts = [part[:, 0] for part in kinds.parts]
    else:
      firsts = read_firsts(self.last_block, layer(self.blocks, self.depth - 1), *self._rows(kinds, self.last_block))
    for place, first in zip(kinds.places, firsts):  # (B * V, D)
      features[place] = features[place].replace(cls=self.norm(first))

  def _read_maps(self, kinds: "_Kinds", features: list[Features]) -> None:
    """Sets `Features.attention` where it is read, from the tokens before the last block."""
    last = {"params": layer(self.blocks, self.depth - 1)}
    for place, view, mask, x in zip(kinds.places, kinds.views, kinds.key_masks, kinds.parts):
      if "attention" in view.reads:
        angles = self._angles(view, self.last_block) if self.rope else None
        maps = self.last_block.apply(last, x, mask, angles, method=Block.maps)
        features[place] = features[place].replace(attention=maps)

  def _kinds(self, views: Sequence[Views]) -> "_Kinds":
    """Returns the tokens that enter the first block."""
    masks = tuple(None if view.padded is None else self._key_mask(view.padded) for view in views)
    return _Kinds(tuple(range(len(views))), tuple(views), masks, tuple(map(self._embed, views)))

  def _rows(self, kinds: "_Kinds", block: Block):
    """Returns the tokens in rows, and how they are packed, masked and rotated in a block, see `stack.run_stack`."""
    groups = tuple((view.images.shape[1], part.shape[1]) for view, part in zip(kinds.views, kinds.parts))
    packing = Packing(groups, row_capacity(self.dtype))
    masks = packing.join_masks(kinds.key_masks, len(kinds.views[0].images))
    angles = packing.join([self._angles(view, block) for view in kinds.views]) if self.rope else None
    return packing.join(kinds.parts), packing, masks, angles

  def _run(self, kinds: "_Kinds", start: int, stop: int) -> "_Kinds":
    """Runs blocks start..stop-1 as one scan; the last block runs apart if it has its own number of heads."""
    stacks = [(self.block, start, stop)]
    if self.last_block.heads != self.heads and start < stop == self.depth:
      stacks = [(self.block, start, stop - 1), (self.last_block, stop - 1, stop)]
    for block, first, end in stacks:
      if first == end:
        continue
      arrays, packing, *others = self._rows(kinds, block)
      options = {"start": first, "stop": end, "unroll": self.unroll, "remat": self.remat}
      arrays = run_stack(block, self.blocks, arrays, packing, *others, **options)
      kinds = dataclasses.replace(kinds, parts=tuple(packing.split(arrays)))
    return kinds

  def _embed(self, view: Views) -> jax.Array:
    """Returns the tokens (B * V, 1 + N, D) of one kind of views that enter the first block."""
    images = view.images.reshape(-1, *view.images.shape[2:])
    x = self.patch_embed(patchify(images, self.patch))  # (B * V, N, D)
    first = self.cls_token
    if not self.rope:
      grid_hw = self.hidden_grid(images.shape[1:3])
      positions = self._positions(grid_hw) if view.padded is None else self._padded_positions(view.padded)
      x, first = x + positions.astype(self.dtype), first + self.pos_embed[:, :1]
    if view.keep_ids is not None:
      x = select_tokens(x, view.keep_ids)  # (B * V, K, D)
    first = first.astype(self.dtype)
    return jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.width)), x], axis=1)

  def _angles(self, view: Views, block: Block) -> jax.Array:
    """Returns the rotation of the tokens of one kind of views in a block, (B * V, 1 + N, d / 2)."""
    patches = grid_angles(self.hidden_grid(view.images.shape[2:4]), self.width // block.heads)
    patches = jnp.broadcast_to(patches, (view.images.shape[0] * view.images.shape[1], *patches.shape))
    return with_class_token(patches if view.keep_ids is None else select_tokens(patches, view.keep_ids))


@dataclasses.dataclass(frozen=True)
class _Kinds:
  """The tokens of several kinds of views on their way through the blocks.

  Attributes:
    places: index of each kind among the arguments of `ViT.encode`.
    views: the kinds of views.
    key_masks: of each kind None or (B * V, 1 + N) bool, False where a key is padding.
    parts: tokens of each kind, (B * V, 1 + N, D).
  """

  places: tuple[int, ...]
  views: tuple[Views, ...]
  key_masks: tuple[jax.Array | None, ...]
  parts: tuple[jax.Array, ...]

  def only(self, kinds: Sequence[int]) -> "_Kinds":
    """Returns some of the kinds."""
    return _Kinds(*(tuple(values[kind] for kind in kinds) for values in vars(self).values()))
