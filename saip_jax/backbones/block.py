"""Pre-norm transformer block for rows of one or several sequences."""

import itertools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.attention import allowed_keys, attend, attention_map, mix, split_heads
from saip_jax.backbones.initial_values import KERNEL_INITS
from saip_jax.backbones.linear import NORM_EPSILON, LayerScale, Linear, Mlp, layer_norm
from saip_jax.backbones.pallas_attention import attend_by_kernel
from saip_jax.backbones.pallas_block import block_rows, fits
from saip_jax.backbones.pallas_rows import key_segments
from saip_jax.backbones.rope import turn

ATTEND = {"xla": attend, "pallas": attend_by_kernel}
"""How attention is computed: by XLA, or by kernels for TPUs."""


class Block(nn.Module):
  """Transformer block as in ViT: x + attention(norm(x)), then x + mlp(norm(x)).

  Attributes:
    width: D.
    heads: attention heads.
    dtype: computation dtype.
    weights: initializer of the kernels, a key of `KERNEL_INITS`.
    attention: a key of `ATTEND`; "pallas" computes whole blocks in a kernel, see `is_kernel`.
    norm_eps: epsilon of both norms.
    layer_scale: multiply the outputs of attention and MLP by learned factors, see `linear.LayerScale`.
    k_bias: keys have a bias, as queries and values do.
  """

  width: int
  heads: int
  dtype: jnp.dtype = jnp.float32
  weights: str = "xavier"
  attention: str = "xla"
  norm_eps: float = NORM_EPSILON
  layer_scale: bool = False
  k_bias: bool = True

  def setup(self):
    self.norm1, self.norm2 = (layer_norm(self.dtype, self.norm_eps) for _ in range(2))
    linear = lambda features, **options: Linear(features, self.dtype, kernel_init=KERNEL_INITS[self.weights], **options)
    self.qkv, self.proj = linear(3 * self.width, use_bias=self.k_bias), linear(self.width)
    if not self.k_bias:
      self.q_bias, self.v_bias = (self.param(name, initializers.zeros, (self.width,)) for name in ("q_bias", "v_bias"))
    if self.layer_scale:
      self.ls1, self.ls2 = LayerScale(self.dtype), LayerScale(self.dtype)
    self.mlp = Mlp(self.dtype, self.weights)

  def _heads(self, projected: jax.Array) -> jax.Array:
    """(B, L, D) -> (B, L, heads, D / heads)."""
    return split_heads(projected, self.heads)

  def _project(self, y: jax.Array, part: int, angles: jax.Array | None = None) -> jax.Array:
    """Returns queries (part 0), keys (1) or values (2) of normalized tokens, (B, L, D).

    Three products instead of one: no result has to be cut at a multiple of a width that fits no register.
    """
    projected = self.qkv(y, slice(part * self.width, (part + 1) * self.width))
    if not self.k_bias and part != 1:
      projected = projected + (self.v_bias if part else self.q_bias).astype(self.dtype)
    if angles is not None:
      projected = turn(self._heads(projected), angles).reshape(projected.shape)
    return projected

  def _finish(self, x: jax.Array, mixed: jax.Array) -> jax.Array:
    scale1, scale2 = (self.ls1, self.ls2) if self.layer_scale else (lambda x: x,) * 2
    x = x + scale1(self.proj(mixed))
    return x + scale2(self.mlp(self.norm2(x)))

  def __call__(
    self,
    x: jax.Array,
    key_mask: jax.Array | None = None,
    angles: jax.Array | None = None,
    lengths: tuple[int, ...] = (),
  ) -> jax.Array:
    """Computes the block.

    Args:
      x: (B, L, D).
      key_mask: (B, L) bool, False where a key is padding; None for no padding.
      angles: (B or 1, L, d / 2) rotation of queries and keys, see `rope.turn`; None for no rotary positions.
      lengths: tokens of the sequences that share a row, see `packing.Rows`; empty for a single sequence.

    Returns:
      (B, L, D).
    """
    initializing = self.is_initializing()
    if self.is_kernel(angles) and not initializing:
      return block_rows(self.variables["params"], x, self.heads, key_segments(x.shape[1], lengths, key_mask))
    y, attend = self.norm1(x), ATTEND["xla" if initializing else self.attention]
    q, k, v = self._project(y, 0, angles), self._project(y, 1, angles), self._project(y, 2)
    return self._finish(x, attend(q, k, v, key_mask, self.heads, lengths))

  def is_kernel(self, angles: jax.Array | None) -> bool:
    """Returns whether the whole block is a kernel and not attention alone, see `pallas_block.fits`."""
    plain = angles is None and self.k_bias and not self.layer_scale
    return self.attention == "pallas" and plain and fits(self.width, self.norm_eps)

  def read_first(
    self,
    x: jax.Array,
    key_mask: jax.Array | None = None,
    angles: jax.Array | None = None,
    lengths: tuple[int, ...] = (),
  ) -> jax.Array:
    """Computes the output of the first token of each sequence only; arguments as in `__call__`.

    Returns:
      (B, sequences in a row, D).
    """
    starts = tuple(itertools.accumulate(lengths or (x.shape[1],), initial=0))[:-1]
    y, x = self.norm1(x), _at(x, starts)
    q = self._project(_at(y, starts), 0, None if angles is None else _at(angles, starts))
    weights = attention_map(
      *map(self._heads, (q, self._project(y, 1, angles))), allowed_keys(lengths, key_mask, starts)
    )
    return self._finish(x, mix(weights, self._heads(self._project(y, 2))).reshape(x.shape))

  def maps(
    self, x: jax.Array, key_mask: jax.Array | None = None, angles: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the query-key and the value-value map of sequences alone in their rows; arguments as in `__call__`.

    The block itself does not use the value-value map, softmax(v v^T / sqrt(d)): SAIP's matching reads it.

    Returns:
      Two arrays (B, heads, L, L) float32.
    """
    y, mask = self.norm1(x), allowed_keys((), key_mask)
    q, k, v = (self._heads(self._project(y, part, turned)) for part, turned in enumerate((angles, angles, None)))
    return attention_map(q, k, mask), attention_map(v, v, mask)


def _at(row: jax.Array, places: tuple[int, ...]) -> jax.Array:
  """Returns the tokens of a row (B, L, D) at static places: (B, places, D)."""
  parts = [row[:, place : place + 1] for place in places]
  return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)
