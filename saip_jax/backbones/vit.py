"""Vision transformer on rectangular images of any size, with a tapped layer and maskable input."""

from typing import Iterable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.nn import initializers

from saip_jax.backbones.features import Features
from saip_jax.backbones.patches import patchify
from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.backbones.transformer import (
    Block, Linear, init_stack, layer, layer_norm, run_stack, uniform_initializer,
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
    reads = frozenset(reads)
    assert not {"tokens", "attention"} <= reads, "attention maps are read with the class token only"
    grid = images.shape[1] // self.patch, images.shape[2] // self.patch
    x = self.patch_embed(patchify(images, self.patch))  # (B, N, D)
    positions = self._positions(grid) if padded is None else self._padded_positions(padded)
    key_mask = None if padded is None else padded.key_mask()
    x = x + positions.astype(self.dtype)
    if select is not None:
      x = select(x)  # (B, M, D)
    first = (self.cls_token + self.pos_embed[:, :1]).astype(self.dtype)
    x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.width)), x], axis=1)

    tap = self.tapped_block + 1
    run = lambda x, start, stop: run_stack(
        self.block, self.blocks, x, key_mask, start=start, stop=stop, unroll=self.unroll
    )
    x = run(x, 0, tap)
    features = Features(grid=grid)
    if "hidden" in reads:
      features = features.replace(hidden=self.inter_norm(x))
    if reads == {"hidden"}:
      return features

    if "tokens" in reads:
      x = self.norm(run(x, tap, self.depth))
      return features.replace(cls=x[:, 0], tokens=x[:, 1:])
    x = run(x, tap, self.depth - 1)
    last = {"params": layer(self.blocks, self.depth - 1)}
    if "attention" in reads:
      first, maps = self.block.apply(last, x, method=Block.read_first_and_maps)
      features = features.replace(attention=maps)
    else:
      first = self.block.apply(last, x, key_mask, method=Block.read_first)
    return features.replace(cls=self.norm(first))
