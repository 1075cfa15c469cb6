"""Decoder that paints hidden patches, as in MAE, perhaps with a look at another view (SAIP's CSR)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.backbones.transformer import TOKENS, Block, Linear, init_stack, layer_norm, scan_blocks
from saip_jax.heads.cross_block import CrossBlock
from saip_jax.masking.tokens import restore_tokens


class MaeDecoder(nn.Module):
  """Self-attention over [first token, context token?, all patches], linear to pixels.

  Attributes:
    outputs: values per patch (patch * patch * 3).
    stored_grid: grid the position table is made for.
    width: decoder width.
    depth: blocks.
    heads: attention heads.
    context: what another view gives: "none"; "token", one token among the others; "memory", any number of tokens that
      every block attends to besides.
    pos_interpolation: see `pos_embed.interpolate_positions`.
    tokens: how positions and the mask token start, a key of `transformer.TOKENS`.
    dtype: computation dtype.
    unroll: write the blocks out instead of scanning them.
    remat: what is computed again in the backward pass, a key of `transformer.REMAT`.
  """

  outputs: int
  stored_grid: tuple[int, int]
  width: int = 512
  depth: int = 8
  heads: int = 16
  context: str = "none"
  pos_interpolation: str = "flat1d"
  tokens: str = "uniform"
  dtype: jnp.dtype = jnp.float32
  unroll: bool = False
  remat: str = "none"

  def setup(self):
    h, w = self.stored_grid
    self.embed = Linear(self.width, self.dtype)
    self.mask_token = self.param("mask_token", TOKENS[self.tokens], (1, 1, self.width))
    self.pos_embed = self.param("pos_embed", TOKENS[self.tokens], (1, h * w + 1, self.width))
    if self.context == "memory":
      self.memory_embed, self.memory_norm = Linear(self.width, self.dtype), layer_norm(self.dtype)
      self.block = CrossBlock(self.width, self.heads, self.dtype, parent=None)
    else:
      self.block = Block(self.width, self.heads, self.dtype, parent=None)
    inputs = 2 if self.context == "memory" else 1
    self.blocks = self.param("blocks", init_stack, self.block, self.depth, inputs)
    self.norm = layer_norm(self.dtype)
    self.pred = Linear(self.outputs, self.dtype)

  def _positions(self, grid_hw: tuple[int, int], contexts: int) -> jax.Array:
    """Returns (1, 1 + contexts + h * w, width) positions.

    Along a line of patches a context token takes the first of the resized positions and shifts the patches by one, as
    published; beside a grid it has none.
    """
    table, (h, w) = self.pos_embed[0, 1:], grid_hw
    if self.pos_interpolation == "flat1d":
      patches = interpolate_positions(table, self.stored_grid, (1, contexts + h * w), "flat1d")
    else:
      patches = interpolate_positions(table, self.stored_grid, grid_hw, self.pos_interpolation)
      patches = jnp.pad(patches, ((contexts, 0), (0, 0)))
    return jnp.concatenate([self.pos_embed[:, :1], patches[None]], axis=1)

  def __call__(
      self, visible: jax.Array, restore_ids: jax.Array, grid_hw: tuple[int, int], context: jax.Array | None = None
  ) -> jax.Array:
    """Predicts every patch of the grid.

    Args:
      visible: (B, 1 + M, D) first token and visible patches, in shuffled order, from the encoder.
      restore_ids: (B, h * w) int32, place of each patch in that order.
      grid_hw: grid to predict.
      context: None, (B, 1, D) a token or (B, L, D) a memory of another view, as the attribute says.

    Returns:
      (B, h * w, outputs).
    """
    assert (context is None) == (self.context == "none"), f"context is {self.context!r}"
    contexts = 1 if self.context == "token" else 0
    if contexts:
      visible = jnp.concatenate([visible[:, :1], context, visible[:, 1:]], axis=1)
    prefix, kept = jnp.split(self.embed(visible), [1 + contexts], axis=1)
    x = jnp.concatenate([prefix, restore_tokens(kept, restore_ids, self.mask_token[0, 0])], axis=1)
    x = x + self._positions(grid_hw, contexts).astype(self.dtype)
    memory = (self.memory_norm(self.memory_embed(context)),) if self.context == "memory" else ()
    apply = lambda params, x: self.block.apply({"params": params}, x, *memory)
    x = scan_blocks(apply, self.blocks, x, unroll=self.unroll, remat=self.remat)
    return self.pred(self.norm(x[:, 1 + contexts :]))
