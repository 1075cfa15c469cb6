"""Decoder block with cross-attention to another image."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.attention import attention_map, split_heads
from saip_jax.backbones.block import ATTEND
from saip_jax.backbones.initial_values import KERNEL_INITS, in_parts
from saip_jax.backbones.linear import Linear, Mlp, layer_norm
from saip_jax.backbones.rope import turn


class CrossBlock(nn.Module):
  """Transformer block: self-attention, cross-attention to a memory, MLP, each pre-norm and residual.

  Attributes:
    width: D.
    heads: attention heads.
    dtype: computation dtype.
    norm_memory: whether the block normalizes the memory.
    attention: a key of `ATTEND`.

  Source: CroCo (Weinzaepfel et al. 2022, arXiv 2210.10716); also the decoder of SAIP's cross-view reconstruction
  (arXiv 2503.08201).
  """

  width: int
  heads: int
  dtype: jnp.dtype = jnp.float32
  norm_memory: bool = False
  attention: str = "xla"

  def setup(self):
    self.norm1, self.norm2, self.norm3 = (layer_norm(self.dtype) for _ in range(3))
    self.qkv, self.proj = Linear(3 * self.width, self.dtype), Linear(self.width, self.dtype)
    self.cross_q = Linear(self.width, self.dtype)
    self.cross_kv = Linear(2 * self.width, self.dtype, kernel_init=in_parts(KERNEL_INITS["xavier"], 2))
    self.cross_proj = Linear(self.width, self.dtype)
    self.mlp = Mlp(self.dtype)
    if self.norm_memory:
      self.memory_norm = layer_norm(self.dtype)

  def _heads(self, projected: jax.Array, parts: int) -> list[jax.Array]:
    return [split_heads(part, self.heads) for part in jnp.split(projected, parts, axis=-1)]

  def _attend(self, *qkv: jax.Array) -> jax.Array:
    """Returns attention (B, L, D) of queries, keys and values (B, L or M, heads, d)."""
    attend = ATTEND["xla" if self.is_initializing() else self.attention]
    return attend(*(x.reshape(*x.shape[:2], -1) for x in qkv), heads=self.heads)

  def _attend_to_self(self, x: jax.Array, memory: jax.Array, angles, memory_angles) -> tuple[jax.Array, ...]:
    """Returns x after self-attention, and the queries, keys and values of cross-attention."""
    q, k, v = self._heads(self.qkv(self.norm1(x)), 3)
    x = x + self.proj(self._attend(turn(q, angles), turn(k, angles), v))
    if self.norm_memory:
      memory = self.memory_norm(memory)
    (q,), (k, v) = self._heads(self.cross_q(self.norm2(x)), 1), self._heads(self.cross_kv(memory), 2)
    return x, turn(q, angles), turn(k, memory_angles), v

  def __call__(
    self, x: jax.Array, memory: jax.Array, angles: jax.Array | None = None, memory_angles: jax.Array | None = None
  ) -> jax.Array:
    """Computes the block.

    Args:
      x: (B, L, D).
      memory: (B, M, D) tokens of the other image.
      angles: (B or 1, L, d / 2) rotation of queries and keys of x, see `rope.turn`; None for no rotation.
      memory_angles: (B or 1, M, d / 2) rotation of the keys of the memory.

    Returns:
      (B, L, D).
    """
    x, *qkv = self._attend_to_self(x, memory, angles, memory_angles)
    x = x + self.cross_proj(self._attend(*qkv))
    return x + self.mlp(self.norm3(x))

  def cross_map(self, x: jax.Array, memory: jax.Array, angles=None, memory_angles=None) -> jax.Array:
    """Returns the cross-attention map (B, heads, L, M) float32; arguments as in `__call__`."""
    _, q, k, _ = self._attend_to_self(x, memory, angles, memory_angles)
    return attention_map(q, k)
