"""Vision transformer on rectangular images of any size, with a tapped layer and maskable input."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.nn import initializers

from saip_jax.backbones.block import Block
from saip_jax.backbones.features import Backbone, Features, PaddedSizes, Views
from saip_jax.backbones.initial_values import KERNEL_INITS, TOKEN_INITS, TORCH_DEFAULT
from saip_jax.backbones.kinds import Kinds, on_canvas
from saip_jax.backbones.linear import NORM_EPSILON, Linear, layer_norm
from saip_jax.backbones.packing import Packing, row_capacity
from saip_jax.backbones.patches import patchify
from saip_jax.backbones.pos_embed import interpolate_positions, wave_positions
from saip_jax.backbones.rope import grid_angles, with_class_token
from saip_jax.backbones.stack import init_stack, layer, read_firsts, run_stack
from saip_jax.masking.tokens import select_tokens


class ViT(Backbone, kw_only=True):
  """ViT with positions and a tapped layer with its own layer norm.

  A sequence is the class token, the prefix tokens, the patches. `Features.attention` has maps of all of them, the other
  features leave the prefix tokens out. Without a class token, the mean of the patches takes its place in `Features`.

  Class and prefix tokens are initialized from N(0, 0.02), all kernels according to `weights`.

  Attributes:
    width: D.
    depth: blocks.
    heads: attention heads.
    last_heads: attention heads of the last block; None for `heads`. Students distilled from a ViT-B have 12 there. The
      parameters have the same shapes.
    patch: patch side in pixels.
    patch_padding: zero pixels around an image; patches lie that much further up and left, and are as many. ViTPose and
      the models of Sapiens for dense tasks have 2.
    class_token: there is a class token.
    prefix_tokens: further learned tokens: registers, or parts of the body.
    prefix_positions: class and prefix tokens have positions, the first rows of the table.
    tapped_block: index of the block whose output, after `inter_norm`, is `Features.hidden`.
    pos_interpolation: see `pos_embed.interpolate_positions`.
    tokens: initializer of learned positions, a key of `initial_values.TOKEN_INITS`.
    positions: "learned"; or "cosine", not trained, initialized with `pos_embed.wave_positions`.
    rope: rotary positions instead: every block rotates queries and keys of patches, see `rope.turn`.
    rope_coordinates: a key of `rope.COORDINATES`.
    norm_eps: epsilon of the norms; that of the tapped layer has 1e-6.
    layer_scale: see `block.Block`.
    k_bias: see `block.Block`.
    weights: initializer of kernels: "xavier" for all, as in MAE and SAIP; "normal", N(0, 0.02), with PyTorch's default
      for convolutions in the patch embedding, as in DINO.
  """

  width: int
  depth: int
  heads: int
  last_heads: int | None = None
  patch: int = 16
  patch_padding: int = 0
  class_token: bool = True
  prefix_tokens: int = 0
  prefix_positions: bool = True
  tapped_block: int = 6
  pos_interpolation: str = "flat1d"
  tokens: str = "uniform"
  positions: str = "learned"
  rope: bool = False
  rope_coordinates: str = "cells"
  norm_eps: float = NORM_EPSILON
  layer_scale: bool = False
  k_bias: bool = True
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
    return (r"patch_embed/|cls_token$|reg_token$|pos_embed$", 0), (r"blocks/", tuple(range(1, self.depth + 1)))

  @property
  def stored_grid(self) -> tuple[int, int]:
    """The grid of the stored positions."""
    return self.hidden_grid(self.image_hw)

  def setup(self):
    options = {"norm_eps": self.norm_eps, "layer_scale": self.layer_scale, "k_bias": self.k_bias, "parent": None}
    block = lambda heads: Block(self.width, heads, self.dtype, self.weights, self.attention, **options)
    self.block, self.last_block = block(self.heads), block(self.last_heads or self.heads)
    self.blocks = self.param("blocks", init_stack, self.block, self.depth)
    patch_init = KERNEL_INITS["xavier"] if self.weights == "xavier" else TORCH_DEFAULT
    self.patch_embed = Linear(self.width, self.dtype, uniform_bias=True, kernel_init=patch_init)
    counts = {"cls_token": int(self.class_token), "reg_token": self.prefix_tokens}
    token = lambda name: self.param(name, initializers.normal(0.02), (1, counts[name], self.width))
    self.prefix = [token(name) for name in counts if counts[name]]
    self.pos_embed = None if self.rope else self._table()
    self.inter_norm, self.norm = layer_norm(self.dtype), layer_norm(self.dtype, self.norm_eps)

  @property
  def before_patches(self) -> int:
    """Number of tokens before the patches."""
    return int(self.class_token) + self.prefix_tokens

  @property
  def prefix_rows(self) -> int:
    """Rows of the table of positions before those of the patches."""
    return self.before_patches if self.prefix_positions else 0

  def _table(self) -> jax.Array:
    """Returns the stored positions (1, prefix_rows + N, D)."""
    h, w = self.stored_grid
    if self.positions == "cosine":  # those of class and prefix tokens are zero
      waves = lambda key: jnp.pad(wave_positions((h, w), self.width), ((self.prefix_rows, 0), (0, 0)))[None]
      return jax.lax.stop_gradient(self.param("pos_embed", waves))
    return self.param("pos_embed", TOKEN_INITS[self.tokens], (1, self.prefix_rows + h * w, self.width))

  def _positions(self, grid_hw: tuple[int, int]) -> jax.Array:
    table = self.pos_embed[0, self.prefix_rows :]
    return interpolate_positions(table, self.stored_grid, grid_hw, self.pos_interpolation)

  def _padded_positions(self, padded: PaddedSizes) -> jax.Array:
    """Returns (B, N, D) positions of the patches of each image, zero beyond them."""
    grids = [self.hidden_grid(hw) for hw in padded.choices]
    tables = on_canvas([self._positions((h, w)).reshape(h, w, -1) for h, w in grids])
    one_hot = jax.nn.one_hot(padded.index, len(tables))
    return jnp.einsum("bs,snd->bnd", one_hot, tables, precision=jax.lax.Precision.HIGHEST)

  def _key_mask(self, padded: PaddedSizes) -> jax.Array:
    """Returns (B, P + N) bool, True for the P tokens before the patches and the patches inside each image."""
    grids = [self.hidden_grid(hw) for hw in padded.choices]
    real = on_canvas([jnp.ones((h, w, 1), bool) for h, w in grids])[..., 0]
    return jnp.pad(real, ((0, 0), (self.before_patches, 0)), constant_values=True)[padded.index]

  def _read(self, tokens: jax.Array, key_mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns the image feature (B, 1, D) of tokens (B, P + N, D) after a norm, and those of the patches (B, N, D)."""
    patches = tokens[:, self.before_patches :]
    if self.class_token:
      return tokens[:, :1], patches
    if key_mask is None:
      return patches.mean(axis=1, keepdims=True), patches
    real = key_mask[:, self.before_patches :, None]
    return patches.mean(axis=1, keepdims=True, where=real), patches

  def encode(self, views: Sequence[Views]) -> list[Features]:
    """See `Backbone.encode`.

    Views that read only "hidden" leave after the tapped block. The last block is computed for the class tokens only
    where nothing else is read. All sizes run through the blocks together, see `packing.Packing`.
    """
    views = [dataclasses.replace(view, reads=frozenset(view.reads)) for view in views]
    kinds, start = self._kinds(views), 0
    grids = [self.hidden_grid(view.images.shape[2:4]) for view in views]
    masks = [None if mask is None else mask[:, self.before_patches :] for mask in kinds.key_masks]
    masks = [None if mask is None else jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True) for mask in masks]
    features = [Features(hidden_mask=mask, grid=grid, hidden_grid=grid) for mask, grid in zip(masks, grids)]
    if any("hidden" in view.reads for view in views):
      if self.tapped_block == self.depth - 1 and any("attention" in view.reads for view in views):
        kinds, start = self._run(kinds, 0, self.tapped_block), self.tapped_block
        self._read_maps(kinds, features)
      kinds, start = self._to_tap(kinds, start, features), self.tapped_block + 1
    if kinds.views:
      self._to_end(kinds, start, features)
    return features

  def _to_tap(self, kinds: Kinds, start: int, features: list[Features]) -> Kinds:
    """Runs the blocks from `start` up to the tapped one and sets `Features.hidden` where it is read.

    Returns the views that read more than "hidden".
    """
    kinds = self._run(kinds, start, self.tapped_block + 1)
    for place, view, mask, part in zip(kinds.places, kinds.views, kinds.key_masks, kinds.parts):
      if "hidden" in view.reads:
        hidden = self.inter_norm(part)
        if self.before_patches != 1 or not self.class_token:
          hidden = jnp.concatenate(self._read(hidden, mask), axis=1)
        features[place] = features[place].replace(hidden=hidden)
    return kinds.only([kind for kind, view in enumerate(kinds.views) if view.reads != {"hidden"}])

  def _to_end(self, kinds: Kinds, start: int, features: list[Features]) -> None:
    """Runs the blocks from `start` on and sets `Features.cls`, `tokens`, `maps` and `attention`."""
    whole = [kind for kind, view in enumerate(kinds.views) if self._reads_patches(view)]
    firsts = [kind for kind in range(len(kinds.views)) if kind not in whole]
    if start < self.depth and (firsts or any("attention" in view.reads for view in kinds.views)):
      kinds, start = self._run(kinds, start, self.depth - 1), self.depth - 1
      self._read_maps(kinds, features)
    if whole:
      self._read_patches(self._run(kinds.only(whole), start, self.depth), features)
    if firsts:
      self._read_class_tokens(kinds.only(firsts), start, features)

  def _reads_patches(self, view: Views) -> bool:
    """Returns whether the patches after the last block are read."""
    return bool(view.reads & {"tokens", "maps"}) or not self.class_token

  def _read_patches(self, kinds: Kinds, features: list[Features]) -> None:
    """Sets `Features.cls`, `tokens` and `maps` from the tokens after the last block."""
    for place, view, mask, part in zip(kinds.places, kinds.views, kinds.key_masks, map(self.norm, kinds.parts)):
      (first, tokens), maps = self._read(part, mask), None
      if "maps" in view.reads:
        assert view.keep_ids is None, "maps are read of whole images only"
        maps = (tokens.reshape(len(part), *features[place].grid, self.width),)
      tokens = tokens if "tokens" in view.reads else None
      features[place] = features[place].replace(cls=first[:, 0], tokens=tokens, maps=maps)

  def _read_class_tokens(self, kinds: Kinds, start: int, features: list[Features]) -> None:
    """Sets `Features.cls`; the last block, if it is left, is computed for class tokens only."""
    if start == self.depth:
      firsts = [part[:, 0] for part in kinds.parts]
    else:
      firsts = read_firsts(self.last_block, layer(self.blocks, self.depth - 1), *self._rows(kinds, self.last_block))
    for place, first in zip(kinds.places, firsts):  # (B * V, D)
      features[place] = features[place].replace(cls=self.norm(first))

  def _read_maps(self, kinds: Kinds, features: list[Features]) -> None:
    """Sets `Features.attention` where it is read, from the tokens before the last block."""
    last = {"params": layer(self.blocks, self.depth - 1)}
    for place, view, mask, x in zip(kinds.places, kinds.views, kinds.key_masks, kinds.parts):
      if "attention" in view.reads:
        angles = self._angles(view, self.last_block) if self.rope else None
        maps = self.last_block.apply(last, x, mask, angles, method=Block.maps)
        features[place] = features[place].replace(attention=maps)

  def _kinds(self, views: Sequence[Views]) -> Kinds:
    """Returns the tokens that enter the first block."""
    masks = tuple(None if view.padded is None else self._key_mask(view.padded) for view in views)
    return Kinds(tuple(range(len(views))), tuple(views), masks, tuple(map(self._embed, views)))

  def _rows(self, kinds: Kinds, block: Block):
    """Returns the tokens in rows, and how they are packed, masked and rotated in a block, see `stack.run_stack`."""
    groups = tuple((view.images.shape[1], part.shape[1]) for view, part in zip(kinds.views, kinds.parts))
    packing = Packing(groups, row_capacity(self.dtype))
    masks = packing.join_masks(kinds.key_masks, len(kinds.views[0].images))
    angles = packing.join([self._angles(view, block) for view in kinds.views]) if self.rope else None
    return packing.join(kinds.parts), packing, masks, angles

  def _run(self, kinds: Kinds, start: int, stop: int) -> Kinds:
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
    """Returns the tokens (B * V, P + N, D) of one kind of views that enter the first block."""
    images = view.images.reshape(-1, *view.images.shape[2:])
    grid_hw = self.hidden_grid(images.shape[1:3])
    x = self.patch_embed(patchify(self._padded(images, grid_hw), self.patch))  # (B * V, N, D)
    prefix, start = [], 0
    for tokens in self.prefix:
      rows = slice(start, start := start + tokens.shape[1])
      prefix.append(tokens if self.rope or not self.prefix_positions else tokens + self.pos_embed[:, rows])
    if not self.rope:
      positions = self._positions(grid_hw) if view.padded is None else self._padded_positions(view.padded)
      x = x + positions.astype(self.dtype)
    if view.keep_ids is not None:
      x = select_tokens(x, view.keep_ids)  # (B * V, K, D)
    prefix = [tokens.astype(self.dtype) for tokens in prefix]
    prefix = [jnp.broadcast_to(tokens, (len(x), *tokens.shape[1:])) for tokens in prefix]
    return jnp.concatenate([*prefix, x], axis=1)

  def _padded(self, images: jax.Array, grid_hw: tuple[int, int]) -> jax.Array:
    """Returns images with `patch_padding` pixels around them, cut to the pixels of a grid of patches."""
    if not self.patch_padding:
      return images
    frame = (self.patch_padding,) * 2
    height, width = (n * self.patch for n in grid_hw)
    return jnp.pad(images, ((0, 0), frame, frame, (0, 0)))[:, :height, :width]

  def _angles(self, view: Views, block: Block) -> jax.Array:
    """Returns the rotation of the tokens of one kind of views in a block, (B * V, P + N, d / 2)."""
    angles = lambda hw: grid_angles(self.hidden_grid(hw), self.width // block.heads, self.rope_coordinates)
    if view.padded is not None and self.rope_coordinates == "centered":  # of each image, not of the canvas
      grids = [self.hidden_grid(hw) for hw in view.padded.choices]
      tables = [angles(hw).reshape(*grid, -1) for hw, grid in zip(view.padded.choices, grids)]
      patches = on_canvas(tables)[view.padded.index]
    else:
      patches = angles(view.images.shape[2:4])
      patches = jnp.broadcast_to(patches, (view.images.shape[0] * view.images.shape[1], *patches.shape))
    patches = patches if view.keep_ids is None else select_tokens(patches, view.keep_ids)
    return with_class_token(patches, self.before_patches)
