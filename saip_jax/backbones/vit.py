"""Vision transformer on rectangular images of any size, with a tapped layer and maskable input."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.nn import initializers

from saip_jax.backbones.features import Backbone, Features, PaddedSizes, Views
from saip_jax.backbones.patches import patchify
from saip_jax.backbones.pos_embed import interpolate_positions, wave_positions
from saip_jax.backbones.rope import grid_angles, with_class_token
from saip_jax.backbones.transformer import (
  TOKENS,
  TORCH_DEFAULT,
  WEIGHTS,
  Block,
  KeyMasks,
  Linear,
  Packing,
  init_stack,
  layer,
  layer_norm,
  run_stack,
)
from saip_jax.masking.tokens import select_tokens


def _on_canvas(per_choice: list[jax.Array]) -> jax.Array:
  """Lays (h, w, D) arrays on a canvas as large as the largest, zero around them: (choices, h_max * w_max, D)."""
  h, w = (max(a.shape[axis] for a in per_choice) for axis in (0, 1))
  padded = [jnp.pad(a, ((0, h - a.shape[0]), (0, w - a.shape[1]), (0, 0))) for a in per_choice]
  return jnp.stack(padded).reshape(len(padded), h * w, -1)


class ViT(Backbone, kw_only=True):
  """ViT with a class token, positions, and a layer norm of its own on a tapped layer.

  The class token starts at N(0, 0.02), patches and other weights as `weights` says.

  Attributes:
    width: D.
    depth: blocks.
    heads: attention heads.
    last_heads: attention heads of the last block; None: `heads`. Students distilled from a ViT-B have its 12 there. The
      parameters are the same ones.
    patch: patch side in pixels.
    tapped_block: index of the block whose output, after `inter_norm`, is `Features.hidden`.
    pos_interpolation: see `pos_embed.interpolate_positions`.
    tokens: how learned positions start, a key of `transformer.TOKENS`.
    positions: what they are: "learned"; "cosine", fixed, at first those of `pos_embed.wave_positions`.
    rope: there are none, but queries and keys are turned in every block, see `rope.turn`.
    weights: how kernels start: "xavier", those of patches too, as in MAE and SAIP; "normal", N(0, 0.02), and patches as
      PyTorch's convolutions, as in DINO.
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
    """The grid that positions are stored for."""
    return self.hidden_grid(self.image_hw)

  def setup(self):
    block = lambda heads: Block(self.width, heads, self.dtype, self.weights, parent=None)
    self.block, self.last_block = block(self.heads), block(self.last_heads or self.heads)
    self.blocks = self.param("blocks", init_stack, self.block, self.depth)
    patch_init = WEIGHTS["xavier"] if self.weights == "xavier" else TORCH_DEFAULT
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
    return self.param("pos_embed", TOKENS[self.tokens], (1, h * w + 1, self.width))

  def _positions(self, grid_hw: tuple[int, int]) -> jax.Array:
    return interpolate_positions(self.pos_embed[0, 1:], self.stored_grid, grid_hw, self.pos_interpolation)

  def _padded_positions(self, padded: PaddedSizes) -> jax.Array:
    """Returns (B, N, D) positions of the patches of each image, zero beyond them."""
    grids = [self.hidden_grid(hw) for hw in padded.choices]
    tables = _on_canvas([self._positions((h, w)).reshape(h, w, -1) for h, w in grids])
    one_hot = jax.nn.one_hot(padded.index, len(tables))
    return jnp.einsum("bs,snd->bnd", one_hot, tables, precision=jax.lax.Precision.HIGHEST)

  def _key_mask(self, padded: PaddedSizes) -> jax.Array:
    """Returns (B, 1 + N) bool: the class token and the patches that an image really has."""
    grids = [self.hidden_grid(hw) for hw in padded.choices]
    real = _on_canvas([jnp.ones((h, w, 1), bool) for h, w in grids])[..., 0]
    return jnp.pad(real, ((0, 0), (1, 0)), constant_values=True)[padded.index]

  def encode(self, views: Sequence[Views]) -> list[Features]:
    """See `Backbone.encode`.

    With "hidden" alone the encoder stops at the tap; with "cls" but neither "tokens" nor "maps" the last block is
    computed for the class token only. All sizes share all layers but attention, see `transformer.Packing`.
    """
    reads = [frozenset(v.reads) for v in views]
    wholes = [bool(r & {"tokens", "maps"}) for r in reads]
    whole = any(wholes)
    assert not (whole and any("attention" in r for r in reads)), "attention maps are read with the class token only"
    assert not whole or all(wholes), "patch tokens are read of all kinds of views or of none"
    grids = [self.hidden_grid(v.images.shape[2:4]) for v in views]
    rows = [self._embed(v, grid) for v, grid in zip(views, grids)]
    masks = [None if v.padded is None else self._key_mask(v.padded) for v in views]
    features = [Features(hidden_mask=mask, grid=grid, hidden_grid=grid) for mask, grid in zip(masks, grids)]
    packing = Packing(tuple((v.images.shape[1], row.shape[1]) for v, row in zip(views, rows)))
    x = packing.join(rows)
    run = lambda x, start, stop: self._run(x, packing, masks, packed, start, stop)
    packed, start = views, 0
    if any("hidden" in r for r in reads):
      start = self.tapped_block + 1
      x = run(x, 0, start)
      parts = packing.split(x)
      features = [
        f.replace(hidden=self.inter_norm(part)) if "hidden" in r else f for f, r, part in zip(features, reads, parts)
      ]
      deeper = [i for i, r in enumerate(reads) if r != {"hidden"}]
      if not deeper:
        return features
      if len(deeper) < len(views):
        masks = [masks[i] for i in deeper]
        packing = Packing(tuple(packing.groups[i] for i in deeper))
        x = packing.join([parts[i] for i in deeper])
        packed = [views[i] for i in deeper]
    else:
      deeper = list(range(len(views)))

    if whole:
      for i, part in enumerate(packing.split(self.norm(run(x, start, self.depth)))):  # (B * V, 1 + N, D)
        tokens, maps = part[:, 1:], None
        if "maps" in reads[i]:
          assert views[i].keep_ids is None, "maps are read of whole images only"
          maps = (tokens.reshape(len(part), *grids[i], self.width),)
        tokens = tokens if "tokens" in reads[i] else None
        features[i] = features[i].replace(cls=part[:, 0], tokens=tokens, maps=maps)
      return features
    x = run(x, start, self.depth - 1)
    mapped = [place for place, i in enumerate(deeper) if "attention" in reads[i]]
    assert len(mapped) <= 1, "attention maps are read of one kind of views only"
    firsts, maps = self.last_block.apply(
      {"params": layer(self.blocks, self.depth - 1)},
      x,
      packing,
      masks,
      *mapped,
      angles=self._angles(packed, packing, self.last_block),
      method=Block.read_first,
    )
    firsts = self.norm(firsts)  # (B, sequences, D)
    stops = [0]
    for place, i in enumerate(deeper):
      stops.append(stops[-1] + packing.groups[place][0])
      cls = firsts[:, stops[-2] : stops[-1]].reshape(-1, self.width)
      features[i] = features[i].replace(cls=cls, attention=maps if place in mapped else None)
    return features

  def _run(
    self, x: jax.Array, packing: Packing, masks: KeyMasks, views: Sequence[Views], start: int, stop: int
  ) -> jax.Array:
    """Runs blocks start..stop-1: one scan, and the last block apart if it has its own number of heads."""
    stacks = [(self.block, start, stop)]
    if self.last_block.heads != self.heads and start < stop == self.depth:
      stacks = [(self.block, start, stop - 1), (self.last_block, stop - 1, stop)]
    for block, first, end in stacks:
      x = run_stack(
        block,
        self.blocks,
        x,
        packing,
        masks,
        self._angles(views, packing, block),
        start=first,
        stop=end,
        unroll=self.unroll,
        remat=self.remat,
      )
    return x

  def _embed(self, views: Views, grid_hw: tuple[int, int]) -> jax.Array:
    """Returns the tokens (B * V, 1 + N, D) that enter the first block."""
    x = self.patch_embed(patchify(views.images.reshape(-1, *views.images.shape[2:]), self.patch))  # (B * V, N, D)
    first = self.cls_token
    if not self.rope:
      positions = self._positions(grid_hw) if views.padded is None else self._padded_positions(views.padded)
      x, first = x + positions.astype(self.dtype), first + self.pos_embed[:, :1]
    if views.keep_ids is not None:
      x = select_tokens(x, views.keep_ids)  # (B * V, K, D)
    first = first.astype(self.dtype)
    return jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.width)), x], axis=1)

  def _angles(self, views: Sequence[Views], packing: Packing, block: Block) -> jax.Array | None:
    """Returns what the tokens of a row are turned by in a block, (B, L, d / 2); None without rotary positions."""
    if not self.rope:
      return None
    parts = []
    for v in views:
      patches = grid_angles(self.hidden_grid(v.images.shape[2:4]), self.width // block.heads)
      patches = jnp.broadcast_to(patches, (v.images.shape[0] * v.images.shape[1], *patches.shape))
      parts.append(with_class_token(patches if v.keep_ids is None else select_tokens(patches, v.keep_ids)))
    return packing.join(parts)
