"""Decoder block that looks at another image: self-attention, cross-attention, MLP."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.transformer import Linear, Mlp, attend, layer_norm


class CrossBlock(nn.Module):
  """x + attention(norm(x)), then x + attention(norm(x) to the memory), then x + mlp(norm(x)).

  Source: the decoder of CroCo and of the figure of SAIP's CSR.

  Attributes:
    width: D.
    heads: attention heads.
    dtype: computation dtype.
  """

  width: int
  heads: int
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.norm1, self.norm2, self.norm3 = (layer_norm(self.dtype) for _ in range(3))
    self.qkv, self.proj = Linear(3 * self.width, self.dtype), Linear(self.width, self.dtype)
    self.cross_q, self.cross_kv = Linear(self.width, self.dtype), Linear(2 * self.width, self.dtype)
    self.cross_proj = Linear(self.width, self.dtype)
    self.mlp = Mlp(self.dtype)

  def _heads(self, projected: jax.Array, parts: int) -> list[jax.Array]:
    return [p.reshape(*p.shape[:2], self.heads, -1) for p in jnp.split(projected, parts, axis=-1)]

  def __call__(self, x: jax.Array, memory: jax.Array) -> jax.Array:
    """Args: x (B, L, D), memory (B, M, D) of the other image. Returns (B, L, D)."""
    mixed = attend(*self._heads(self.qkv(self.norm1(x)), 3))
    x = x + self.proj(mixed.reshape(x.shape))
    (q,), (k, v) = self._heads(self.cross_q(self.norm2(x)), 1), self._heads(self.cross_kv(memory), 2)
    x = x + self.cross_proj(attend(q, k, v).reshape(x.shape))
    return x + self.mlp(self.norm3(x))
