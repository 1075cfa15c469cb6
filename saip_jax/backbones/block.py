"""Pre-norm transformer block for packed sequences."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.attention import attend, attention_map, mix
from saip_jax.backbones.initial_values import KERNEL_INITS
from saip_jax.backbones.linear import Linear, Mlp, layer_norm
from saip_jax.backbones.packing import KeyMasks, Packing
from saip_jax.backbones.pallas_attention import attend_heads
from saip_jax.backbones.pallas_block import as_rows_of, block_rows, fits, from_rows_of
from saip_jax.backbones.rope import turn

ATTEND = {"xla": attend, "pallas": attend_heads}
"""How attention is computed: by XLA, or by kernels for TPUs."""


class Block(nn.Module):
  """Transformer block as in ViT: x + attention(norm(x)), then x + mlp(norm(x)).

  Attributes:
    width: D.
    heads: attention heads.
    dtype: computation dtype.
    weights: initializer of the kernels, a key of `KERNEL_INITS`.
    attention: a key of `ATTEND`; "pallas" computes whole blocks in a kernel, see `is_kernel`.
  """

  width: int
  heads: int
  dtype: jnp.dtype = jnp.float32
  weights: str = "xavier"
  attention: str = "xla"

  def setup(self):
    self.norm1, self.norm2 = layer_norm(self.dtype), layer_norm(self.dtype)
    linear = lambda features: Linear(features, self.dtype, kernel_init=KERNEL_INITS[self.weights])
    self.qkv, self.proj = linear(3 * self.width), linear(self.width)
    self.mlp = Mlp(self.dtype, self.weights)

  def _split(self, projected: jax.Array, parts: int) -> list[jax.Array]:
    batch, length, _ = projected.shape
    split = jnp.split(projected, parts, axis=-1)
    return [part.reshape(batch, length, self.heads, self.width // self.heads) for part in split]

  def _finish(self, x: jax.Array, mixed: jax.Array) -> jax.Array:
    x = x + self.proj(mixed.reshape(x.shape))
    return x + self.mlp(self.norm2(x))

  def __call__(
    self, x: jax.Array, packing: Packing | None = None, key_masks: KeyMasks = None, angles: jax.Array | None = None
  ) -> jax.Array:
    """Computes the block.

    Args:
      x: (B, L, D).
      packing: the sequences of a row; None for a single sequence.
      key_masks: for each group None or (B * sequences, tokens) bool, False where a key is padding; None for no mask.
      angles: (B or 1, L, d / 2) rotation of queries and keys, see `rope.turn`; None for no rotary positions.

    Returns:
      (B, L, D).
    """
    packing, key_masks = _defaults(x, packing, key_masks)
    attend = ATTEND["xla" if self.is_initializing() else self.attention]
    if self.is_kernel(angles) and not self.is_initializing():
      rows = zip(*as_rows_of(packing, x, key_masks))
      params = self.variables["params"]
      return from_rows_of(packing, [block_rows(params, row, self.heads, segments) for row, segments in rows])
    q, k, v = self._split(self.qkv(self.norm1(x)), 3)
    groups = zip(*map(packing.split, (turn(q, angles), turn(k, angles), v)), key_masks, strict=True)
    return self._finish(x, packing.join([attend(q, k, v, mask) for q, k, v, mask in groups]))

  def is_kernel(self, angles: jax.Array | None) -> bool:
    """Returns whether the whole block is a kernel and not attention alone: up to a width, without rotary positions."""
    return self.attention == "pallas" and angles is None and fits(self.width)

  def read_first(
    self,
    x: jax.Array,
    packing: Packing | None = None,
    key_masks: KeyMasks = None,
    maps_of: int | None = None,
    angles: jax.Array | None = None,
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
    """Computes the output of the first token of each sequence only, and optionally attention maps of one group.

    Args:
      x: (B, L, D).
      packing: as in `__call__`.
      key_masks: as in `__call__`.
      maps_of: index of the group whose attention maps are returned; None for no maps.
      angles: as in `__call__`.

    Returns:
      Outputs of the first tokens (B, sequences, D), and None or the group's query-key and value-value maps, each
      (B * sequences, heads, tokens, tokens) float32. The block itself does not use the value-value map,
      softmax(v v^T / sqrt(d)): SAIP's matching reads it.
    """
    packing, key_masks = _defaults(x, packing, key_masks)
    y = self.norm1(x)
    k, v = self._split(self.qkv(y, slice(self.width, None)), 2)
    k, v = packing.split(turn(k, angles)), packing.split(v)
    queries = lambda row: [part if i == maps_of else part[:, :1] for i, part in enumerate(packing.split(row))]
    query_packing = Packing(tuple((count, part.shape[1]) for (count, _), part in zip(packing.groups, queries(y))))
    (q,) = self._split(self.qkv(packing.join(queries(y)), slice(0, self.width)), 1)
    q = turn(q, None if angles is None else packing.join(queries(angles)))
    weights = [attention_map(*args) for args in zip(query_packing.split(q), k, key_masks, strict=True)]
    maps = None if maps_of is None else (weights[maps_of], attention_map(v[maps_of], v[maps_of], key_masks[maps_of]))
    mixed = packing.join([mix(w[:, :, :1], values) for w, values in zip(weights, v)])
    return self._finish(packing.firsts(x), mixed), maps


def _defaults(x: jax.Array, packing: Packing | None, key_masks: KeyMasks) -> tuple[Packing, KeyMasks]:
  packing = packing or Packing(((1, x.shape[1]),))
  return packing, key_masks or (None,) * len(packing.groups)
