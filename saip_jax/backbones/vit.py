"""Vision transformer on rectangular images of any size, with a tapped layer and maskable input."""

import dataclasses
from typing import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.nn import initializers

from saip_jax.backbones.features import Features
from saip_jax.backbones.patches import patchify
from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.backbones.transformer import (
    Block, Linear, Packing, init_stack, layer, layer_norm, run_stack, uniform_initializer,
)


@struct.dataclass
class PaddedGrid:
  """Images of several sizes in one batch: each lies top left on a canvas as large as the largest.

  Attributes:
    choices: the (h, w) patch grids an image can have.
    index: (B,) int32, which of them each image has.
  """

  choices: tuple[tuple[int, int], ...] = struct.field(pytree_node=False)
  index: jax.Array

  def on_canvas(self, per_choice: list[jax.Array]) -> jax.Array:
    """Lays one (h, w, D) array per choice on the canvas, zero around it: (choices, h_max * w_max, D)."""
    canvas = [max(sides) for sides in zip(*self.choices)]
    padded = [
        jnp.pad(a, ((0, canvas[0] - a.shape[0]), (0, canvas[1] - a.shape[1]), (0, 0))) for a in per_choice
    ]
    return jnp.stack(padded).reshape(len(padded), canvas[0] * canvas[1], -1)

  def key_mask(self) -> jax.Array:
    """Returns (B, 1 + h_max * w_max) bool: the class token and the patches that an image really has."""
    real = self.on_canvas([jnp.ones((h, w, 1), bool) for h, w in self.choices])[..., 0]
    return jnp.pad(real, ((0, 0), (1, 0)), constant_values=True)[self.index]


@dataclasses.dataclass(frozen=True)
class Views:
  """Images of one size, and what is wanted of them; see `ViT.__call__` for what the fields mean.

  Attributes:
    images: (B, V, H, W, 3), normalised.
    reads: names of `Features`.
    select: None, or a function (B * V, N, D) -> (B * V, M, D).
    padded: None, or the true grids of the B * V images.
  """

  images: jax.Array
  reads: Iterable[str]
  select: Callable[[jax.Array], jax.Array] | None = None
  padded: PaddedGrid | None = None


class ViT(nn.Module):
  """ViT with a class token, learned positions, and a layer norm of its own on a tapped layer.

  Initial values follow the published SAIP: positions U[0, 1), class token N(0, 0.02), Xavier-uniform weights.

  Attributes:
    width: D.
    depth: blocks.
    heads: attention heads.
    image_hw: size the positions are stored for, in pixels.
    patch: patch side in pixels.
    tapped_block: index of the block whose output, after `inter_norm`, is `Features.hidden`.
    pos_interpolation: see `pos_embed.interpolate_positions`.
    dtype: computation dtype; parameters stay float32.
    unroll: write the blocks out instead of scanning them (for counting operations).
    remat: what is computed again in the backward pass, a key of `transformer.REMAT`.
  """

  width: int
  depth: int
  heads: int
  image_hw: tuple[int, int] = (256, 128)
  patch: int = 16
  tapped_block: int = 6
  pos_interpolation: str = "flat1d"
  dtype: jnp.dtype = jnp.float32
  unroll: bool = False
  remat: str = "none"

  @property
  def stored_grid(self) -> tuple[int, int]:
    return self.image_hw[0] // self.patch, self.image_hw[1] // self.patch

  def setup(self):
    h, w = self.stored_grid
    self.block = Block(self.width, self.heads, self.dtype, parent=None)
    self.blocks = self.param("blocks", init_stack, self.block, self.depth)
    self.patch_embed = Linear(self.width, self.dtype, uniform_bias=True)
    self.cls_token = self.param("cls_token", initializers.normal(0.02), (1, 1, self.width))
    self.pos_embed = self.param("pos_embed", uniform_initializer(0.0, 1.0), (1, h * w + 1, self.width))
    self.inter_norm, self.norm = layer_norm(self.dtype), layer_norm(self.dtype)

  def _positions(self, grid_hw: tuple[int, int]) -> jax.Array:
    return interpolate_positions(self.pos_embed[0, 1:], self.stored_grid, grid_hw, self.pos_interpolation)

  def _padded_positions(self, padded: PaddedGrid) -> jax.Array:
    """Returns (B, N, D) positions of the patches of each image, zero beyond them."""
    tables = padded.on_canvas([self._positions((h, w)).reshape(h, w, -1) for h, w in padded.choices])
    one_hot = jax.nn.one_hot(padded.index, len(tables))
    return jnp.einsum("bs,snd->bnd", one_hot, tables, precision=jax.lax.Precision.HIGHEST)

  def __call__(
      self,
      images: jax.Array,
      reads: Iterable[str] = ("cls", "tokens"),
      select=None,
      padded: PaddedGrid | None = None,
  ) -> Features:
    """Encodes images; only what `reads` names is computed.

    Args:
      images: (B, H, W, 3), normalised; patches cut at multiples of `patch`.
      reads: of "cls" and "tokens" (after the final norm), "hidden" (tapped layer), "attention" (maps of
        the last block, not together with "tokens"). With "hidden" alone the encoder stops at the tap; with "cls"
        but not "tokens" the last block is computed for the class token only.
      select: None, or a function (B, N, D) -> (B, M, D) that keeps some patch tokens (masked input).
      padded: the true grid of each image where sizes differ within the batch.

    Returns:
      `Features`.
    """
    return self.encode([Views(images[:, None], reads, select, padded)])[0]

  def encode(self, views: Sequence[Views]) -> list[Features]:
    """Encodes images of several sizes together: they share all layers but attention, see `transformer.Packing`.

    Args:
      views: of one B each.

    Returns:
      `Features` of each, with a leading axis of B * V.
    """
    reads = [frozenset(v.reads) for v in views]
    assert not any({"tokens", "attention"} <= r for r in reads), "attention maps are read with the class token only"
    whole = any("tokens" in r for r in reads)
    assert not whole or len(views) == 1, "patch tokens are read of one kind of views only"
    features = [
        Features(grid=(v.images.shape[2] // self.patch, v.images.shape[3] // self.patch)) for v in views
    ]
    rows = [self._embed(v, f.grid) for v, f in zip(views, features)]
    masks = [v.padded and v.padded.key_mask() for v in views]
    packing = Packing(tuple((v.images.shape[1], row.shape[1]) for v, row in zip(views, rows)))
    x = packing.join(rows)
    run = lambda x, start, stop: run_stack(
        self.block, self.blocks, x, packing, masks, start=start, stop=stop, unroll=self.unroll, remat=self.remat
    )

    start = 0
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
    else:
      deeper = list(range(len(views)))

    if whole:
      x = self.norm(run(x, start, self.depth))
      return [features[0].replace(cls=x[:, 0], tokens=x[:, 1:])]
    x = run(x, start, self.depth - 1)
    mapped = [place for place, i in enumerate(deeper) if "attention" in reads[i]]
    assert len(mapped) <= 1, "attention maps are read of one kind of views only"
    firsts, maps = self.block.apply(
        {"params": layer(self.blocks, self.depth - 1)}, x, packing, masks, *mapped, method=Block.read_first
    )
    firsts = self.norm(firsts)  # (B, sequences, D)
    stops = [0]
    for place, i in enumerate(deeper):
      stops.append(stops[-1] + packing.groups[place][0])
      cls = firsts[:, stops[-2] : stops[-1]].reshape(-1, self.width)
      features[i] = features[i].replace(cls=cls, attention=maps if place in mapped else None)
    return features

  def _embed(self, views: Views, grid_hw: tuple[int, int]) -> jax.Array:
    """Returns the tokens (B * V, 1 + N, D) that enter the first block."""
    x = self.patch_embed(patchify(views.images.reshape(-1, *views.images.shape[2:]), self.patch))  # (B * V, N, D)
    positions = self._positions(grid_hw) if views.padded is None else self._padded_positions(views.padded)
    x = x + positions.astype(self.dtype)
    if views.select is not None:
      x = views.select(x)  # (B * V, M, D)
    first = (self.cls_token + self.pos_embed[:, :1]).astype(self.dtype)
    return jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.width)), x], axis=1)
