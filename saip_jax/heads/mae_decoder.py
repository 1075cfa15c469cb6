"""Decoder that reconstructs hidden patches, as in MAE, optionally from another view too (SAIP, CroCo)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.block import Block
from saip_jax.backbones.initial_values import TOKEN_INITS
from saip_jax.backbones.linear import Linear, layer_norm
from saip_jax.backbones.pos_embed import interpolate_positions, wave_positions
from saip_jax.backbones.rope import grid_angles, with_class_token
from saip_jax.backbones.stack import init_stack, layer, scan_blocks
from saip_jax.heads.cross_block import CrossBlock
from saip_jax.masking.tokens import restore_tokens


class MaeDecoder(nn.Module):
  """Transformer over [first token, optional context token, all patches], then a linear layer to pixels.

  Attributes:
    outputs: values per patch (patch * patch * 3).
    stored_grid: grid of the stored positions.
    width: decoder width.
    depth: number of blocks.
    heads: attention heads.
    context: input from another view: "none"; "token", one more token in the sequence; "memory", any number of tokens
      that every block cross-attends to; "image", all tokens of another image with the same grid, embedded with the same
      layer and positions, that every block normalizes and cross-attends to.
    pos_interpolation: see `pos_embed.interpolate_positions`.
    tokens: initializer of learned positions and of the mask token, a key of `initial_values.TOKEN_INITS`.
    dtype: computation dtype.
    unroll: unroll the blocks instead of scanning them.
    remat: what the backward pass recomputes, a key of `stack.REMAT`.
    positions: "learned"; or "cosine", fixed, see `pos_embed.wave_positions`.
    rope: rotary positions instead: every block rotates queries and keys, see `rope.turn`.
    attention: how blocks are computed, a key of `block.ATTEND`.
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
  positions: str = "learned"
  rope: bool = False
  attention: str = "xla"

  def setup(self):
    h, w = self.stored_grid
    self.embed = Linear(self.width, self.dtype)
    self.mask_token = self.param("mask_token", TOKEN_INITS[self.tokens], (1, 1, self.width))
    if self.positions == "learned" and not self.rope:
      self.pos_embed = self.param("pos_embed", TOKEN_INITS[self.tokens], (1, h * w + 1, self.width))
    if self.context == "memory":
      self.memory_embed, self.memory_norm = Linear(self.width, self.dtype), layer_norm(self.dtype)
    if self.context in ("memory", "image"):
      own = self.context == "image"
      self.block = CrossBlock(
        self.width, self.heads, self.dtype, norm_memory=own, attention=self.attention, parent=None
      )
      inputs = 2
    else:
      self.block, inputs = Block(self.width, self.heads, self.dtype, attention=self.attention, parent=None), 1
    self.blocks = self.param("blocks", init_stack, self.block, self.depth, inputs)
    self.norm = layer_norm(self.dtype)
    self.pred = Linear(self.outputs, self.dtype)

  @property
  def _contexts(self) -> int:
    """Number of context tokens in the sequence."""
    return 1 if self.context == "token" else 0

  def _positions(self, grid_hw: tuple[int, int]) -> jax.Array:
    """Returns (1, 1 + contexts + h * w, width) positions.

    With "flat1d" a context token takes the first of the resized positions and shifts the patches by one, as in the
    published SAIP; with the other interpolations its position is zero.
    """
    (h, w), contexts = grid_hw, self._contexts
    if self.positions == "cosine":
      return jnp.pad(wave_positions(grid_hw, self.width), ((1 + contexts, 0), (0, 0)))[None]
    table = self.pos_embed[0, 1:]
    if self.pos_interpolation == "flat1d":
      patches = interpolate_positions(table, self.stored_grid, (1, contexts + h * w), "flat1d")
    else:
      patches = interpolate_positions(table, self.stored_grid, grid_hw, self.pos_interpolation)
      patches = jnp.pad(patches, ((contexts, 0), (0, 0)))
    return jnp.concatenate([self.pos_embed[:, :1], patches[None]], axis=1)

  def _start(self, visible: jax.Array, restore_ids: jax.Array, grid_hw: tuple[int, int], context: jax.Array | None):
    """Returns the tokens that enter the first block, and the other arguments of every block."""
    assert (context is None) == (self.context == "none"), f"context is {self.context!r}"
    if self._contexts:
      visible = jnp.concatenate([visible[:, :1], context, visible[:, 1:]], axis=1)
    prefix, patches = jnp.split(self.embed(visible), [1 + self._contexts], axis=1)
    x = jnp.concatenate([prefix, restore_tokens(patches, restore_ids, self.mask_token[0, 0])], axis=1)
    places = 0.0 if self.rope else self._positions(grid_hw).astype(self.dtype)
    x, arguments = x + places, {}
    if self.context == "memory":
      arguments["memory"] = self.memory_norm(self.memory_embed(context))
    elif self.context == "image":
      arguments["memory"] = self.embed(context) + places
    if self.rope:
      angles = with_class_token(grid_angles(grid_hw, self.width // self.heads)[None])
      arguments |= {"angles": angles} | ({"memory_angles": angles} if self.context == "image" else {})
    return x, arguments

  def __call__(
    self, visible: jax.Array, restore_ids: jax.Array, grid_hw: tuple[int, int], context: jax.Array | None = None
  ) -> jax.Array:
    """Predicts every patch of the grid.

    Args:
      visible: (B, 1 + M, D) first token and visible patches, in shuffled order, from the encoder.
      restore_ids: (B, h * w) int32, place of each patch in that order.
      grid_hw: grid to predict.
      context: depends on the attribute `context`: None; (B, 1, D), a token; (B, L, D), a memory of another view;
        (B, 1 + h * w, D), the first token and all patches of another image.

    Returns:
      (B, h * w, outputs).
    """
    x, arguments = self._start(visible, restore_ids, grid_hw, context)
    x = self._run(x, arguments, self.depth)
    return self.pred(self.norm(x[:, 1 + self._contexts :]))

  def _run(self, x: jax.Array, arguments: dict, stop: int) -> jax.Array:
    apply = lambda params, x: self.block.apply({"params": params}, x, **arguments)
    return scan_blocks(apply, self.blocks, x, stop=stop, unroll=self.unroll, remat=self.remat)

  def cross_map(
    self, visible: jax.Array, restore_ids: jax.Array, grid_hw: tuple[int, int], context: jax.Array
  ) -> jax.Array:
    """Returns the cross-attention map of the patches in the last block, (B, h * w, h * w), averaged over heads.

    Arguments as in `__call__`, for context "image".
    """
    x, arguments = self._start(visible, restore_ids, grid_hw, context)
    x, last = self._run(x, arguments, self.depth - 1), {"params": layer(self.blocks, self.depth - 1)}
    return jnp.mean(self.block.apply(last, x, **arguments, method=CrossBlock.cross_map), axis=1)[:, 1:, 1:]
