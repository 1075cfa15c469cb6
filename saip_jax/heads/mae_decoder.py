"""Decoder that paints hidden patches, as in MAE, perhaps with a look at another view (SAIP's CSR, CroCo)."""

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
  """Self-attention over [first token, context token?, all patches], linear to pixels.

  Attributes:
    outputs: values per patch (patch * patch * 3).
    stored_grid: grid the position table is made for.
    width: decoder width.
    depth: blocks.
    heads: attention heads.
    context: what another view gives: "none"; "token", one token among the others; "memory", any number of tokens that
      every block attends to besides; "image", the tokens of a whole image of the same grid, embedded and placed as
      this one's, that every block norms and attends to besides.
    pos_interpolation: see `pos_embed.interpolate_positions`.
    tokens: how learned positions and the mask token start, a key of `initial_values.TOKEN_INITS`.
    dtype: computation dtype.
    unroll: write the blocks out instead of scanning them.
    remat: what is computed again in the backward pass, a key of `stack.REMAT`.
    positions: what they are: "learned"; "cosine", fixed, those of `pos_embed.wave_positions`.
    rope: there are none, but queries and keys are turned in every block, see `rope.turn`.
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

  def setup(self):
    h, w = self.stored_grid
    self.embed = Linear(self.width, self.dtype)
    self.mask_token = self.param("mask_token", TOKEN_INITS[self.tokens], (1, 1, self.width))
    if self.positions == "learned" and not self.rope:
      self.pos_embed = self.param("pos_embed", TOKEN_INITS[self.tokens], (1, h * w + 1, self.width))
    if self.context == "memory":
      self.memory_embed, self.memory_norm = Linear(self.width, self.dtype), layer_norm(self.dtype)
    if self.context in ("memory", "image"):
      self.block = CrossBlock(self.width, self.heads, self.dtype, norm_memory=self.context == "image", parent=None)
      inputs = 2
    else:
      self.block, inputs = Block(self.width, self.heads, self.dtype, parent=None), 1
    self.blocks = self.param("blocks", init_stack, self.block, self.depth, inputs)
    self.norm = layer_norm(self.dtype)
    self.pred = Linear(self.outputs, self.dtype)

  @property
  def _contexts(self) -> int:
    """Tokens of context among the others."""
    return 1 if self.context == "token" else 0

  def _positions(self, grid_hw: tuple[int, int]) -> jax.Array:
    """Returns (1, 1 + contexts + h * w, width) positions.

    Along a line of patches a context token takes the first of the resized positions and shifts the patches by one, as
    published; beside a grid it has none.
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
    """Returns the tokens that enter the first block, and what every block takes beside them."""
    assert (context is None) == (self.context == "none"), f"context is {self.context!r}"
    if self._contexts:
      visible = jnp.concatenate([visible[:, :1], context, visible[:, 1:]], axis=1)
    prefix, kept = jnp.split(self.embed(visible), [1 + self._contexts], axis=1)
    x = jnp.concatenate([prefix, restore_tokens(kept, restore_ids, self.mask_token[0, 0])], axis=1)
    places = 0.0 if self.rope else self._positions(grid_hw).astype(self.dtype)
    x, beside = x + places, {}
    if self.context == "memory":
      beside["memory"] = self.memory_norm(self.memory_embed(context))
    elif self.context == "image":
      beside["memory"] = self.embed(context) + places
    if self.rope:
      angles = with_class_token(grid_angles(grid_hw, self.width // self.heads)[None])
      beside |= {"angles": angles} | ({"memory_angles": angles} if self.context == "image" else {})
    return x, beside

  def __call__(
    self, visible: jax.Array, restore_ids: jax.Array, grid_hw: tuple[int, int], context: jax.Array | None = None
  ) -> jax.Array:
    """Predicts every patch of the grid.

    Args:
      visible: (B, 1 + M, D) first token and visible patches, in shuffled order, from the encoder.
      restore_ids: (B, h * w) int32, place of each patch in that order.
      grid_hw: grid to predict.
      context: None, (B, 1, D) a token, (B, L, D) a memory of another view or (B, 1 + h * w, D) the first token and all
        patches of another image, as the attribute says.

    Returns:
      (B, h * w, outputs).
    """
    x, beside = self._start(visible, restore_ids, grid_hw, context)
    x = self._run(x, beside, self.depth)
    return self.pred(self.norm(x[:, 1 + self._contexts :]))

  def _run(self, x: jax.Array, beside: dict, stop: int) -> jax.Array:
    apply = lambda params, x: self.block.apply({"params": params}, x, **beside)
    return scan_blocks(apply, self.blocks, x, stop=stop, unroll=self.unroll, remat=self.remat)

  def cross_map(
    self, visible: jax.Array, restore_ids: jax.Array, grid_hw: tuple[int, int], context: jax.Array
  ) -> jax.Array:
    """Returns how much each patch looks at each of another image in the last block, (B, h * w, h * w), heads averaged.

    Arguments are those of `__call__`, for context "image".
    """
    x, beside = self._start(visible, restore_ids, grid_hw, context)
    x, last = self._run(x, beside, self.depth - 1), {"params": layer(self.blocks, self.depth - 1)}
    return jnp.mean(self.block.apply(last, x, **beside, method=CrossBlock.cross_map), axis=1)[:, 1:, 1:]
