"""Decoder that paints hidden patches, as in MAE, with an optional context token (SAIP's CSR)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.backbones.transformer import (
    Block, Linear, init_stack, layer_norm, run_stack, uniform_initializer,
)
from saip_jax.masking.tokens import restore_tokens


class MaeDecoder(nn.Module):
  """Self-attention over [class token, context token?, all patches], linear to pixels.

  Attributes:
    outputs: values per patch (patch * patch * 3).
    stored_grid: grid the position table is made for.
    width: decoder width.
    depth: blocks.
    heads: attention heads.
    pos_interpolation: see `pos_embed.interpolate_positions`.
    dtype: computation dtype.
    unroll: write the blocks out instead of scanning them.
    remat: what is computed again in the backward pass, a key of `transformer.REMAT`.
  """

  outputs: int
  stored_grid: tuple[int, int]
  width: int = 512
  depth: int = 8
  heads: int = 16
  pos_interpolation: str = "flat1d"
  dtype: jnp.dtype = jnp.float32
  unroll: bool = False
  remat: str = "none"

  def setup(self):
    h, w = self.stored_grid
    self.embed = Linear(self.width, self.dtype)
    self.mask_token = self.param("mask_token", uniform_initializer(0.0, 1.0), (1, 1, self.width))
    self.pos_embed = self.param("pos_embed", uniform_initializer(0.0, 1.0), (1, h * w + 1, self.width))
    self.block = Block(self.width, self.heads, self.dtype, parent=None)
    self.blocks = self.param("blocks", init_stack, self.block, self.depth)
    self.norm = layer_norm(self.dtype)
    self.pred = Linear(self.outputs, self.dtype)

  def _positions(self, grid_hw: tuple[int, int], contexts: int) -> jax.Array:
    """Returns (1, 1 + contexts + h * w, width) positions.

    As published, a context token takes the first of the resized patch positions and shifts the patches by one.
    """
    table = self.pos_embed[0, 1:]
    if contexts:
      assert self.pos_interpolation == "flat1d", "a context token has a place on a line of patches only"
      h, w = grid_hw
      patches = interpolate_positions(table, self.stored_grid, (1, contexts + h * w), "flat1d")
    else:
      patches = interpolate_positions(table, self.stored_grid, grid_hw, self.pos_interpolation)
    return jnp.concatenate([self.pos_embed[:, :1], patches[None]], axis=1)

  def __call__(
      self, visible: jax.Array, restore_ids: jax.Array, grid_hw: tuple[int, int], context: jax.Array | None = None
  ) -> jax.Array:
    """Predicts every patch of the grid.

    Args:
      visible: (B, 1 + M, D) class token and visible patches, in shuffled order, from the encoder.
      restore_ids: (B, h * w) int32, place of each patch in that order.
      grid_hw: grid to predict.
      context: (B, D) feature of another view, or None.

    Returns:
      (B, h * w, outputs).
    """
    contexts = 0 if context is None else 1
    if context is not None:
      visible = jnp.concatenate([visible[:, :1], context[:, None], visible[:, 1:]], axis=1)
    prefix, kept = jnp.split(self.embed(visible), [1 + contexts], axis=1)
    x = jnp.concatenate([prefix, restore_tokens(kept, restore_ids, self.mask_token[0, 0])], axis=1)
    x = x + self._positions(grid_hw, contexts).astype(self.dtype)
    x = run_stack(self.block, self.blocks, x, unroll=self.unroll, remat=self.remat)
    return self.pred(self.norm(x[:, 1 + contexts :]))
