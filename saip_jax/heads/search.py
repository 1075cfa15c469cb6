"""Decoder that searches for a person in a scene: the query becomes a kernel over the feature map of the scene."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn, struct
from jax.nn import initializers

from saip_jax.backbones.attention import attention_map, mix
from saip_jax.backbones.block import Block
from saip_jax.backbones.initial_values import uniform_initializer
from saip_jax.backbones.linear import Linear, Mlp, gelu, layer_norm
from saip_jax.backbones.packing import KeyMasks, Packing, row_capacity
from saip_jax.backbones.stack import init_stack, layer, read_firsts, run_stack


@struct.dataclass
class Reference:
  """The features of a scene, computed once and shared by all queries.

  Attributes:
    keys: (B, N, heads, d) of cross-attention.
    values: (B, N, heads, d) of cross-attention.
    features: (B, h, w, width) map to which kernels are applied.
  """

  keys: jax.Array
  values: jax.Array
  features: jax.Array


class SearchDecoder(nn.Module):
  """Self-attention over the tokens of a person, cross-attention of the class token to the scene, dynamic kernel.

  Attributes:
    width: decoder width.
    depth: number of self-attention blocks over the query.
    heads: attention heads.
    dtype: computation dtype.
    unroll: unroll the blocks instead of scanning them.
    remat: what the backward pass recomputes, a key of `stack.REMAT`.
    attention: how blocks are computed, a key of `block.ATTEND`.

  Source: the search decoder of the released code of SAIP (arXiv 2503.08201); the figure of the paper exchanges the
  roles of person and scene.
  """

  width: int = 512
  depth: int = 2
  heads: int = 16
  dtype: jnp.dtype = jnp.float32
  unroll: bool = False
  remat: str = "none"
  attention: str = "xla"

  def setup(self):
    self.query_embed, self.reference_embed = Linear(self.width, self.dtype), Linear(self.width, self.dtype)
    self.reference_norm = layer_norm(self.dtype)
    self.block = Block(self.width, self.heads, self.dtype, attention=self.attention, parent=None)
    self.blocks = self.param("blocks", init_stack, self.block, self.depth)
    self.cross_norm1, self.cross_norm2 = layer_norm(self.dtype), layer_norm(self.dtype)
    self.cross_qkv, self.cross_proj = Linear(3 * self.width, self.dtype), Linear(self.width, self.dtype)
    self.cross_mlp = Mlp(self.dtype)
    self.kernel_norm, self.kernel = layer_norm(self.dtype), Linear(self.width, self.dtype)
    self.map_embed = Linear(self.width, self.dtype, uniform_bias=True)
    self.map1, self.map2, self.map3 = self._conv(), self._conv(), self._conv()

  def _conv(self) -> nn.Conv:
    bound = (9 * self.width) ** -0.5  # PyTorch's default for the bias
    return nn.Conv(
      self.width,
      (3, 3),
      dtype=self.dtype,
      kernel_init=initializers.xavier_uniform(),
      bias_init=uniform_initializer(-bound, bound),
    )

  def prepare(self, scene: jax.Array) -> Reference:
    """Returns the `Reference` of a scene with features (B, h, w, D)."""
    batch, h, w, _ = scene.shape
    tokens = self.reference_norm(self.reference_embed(scene.reshape(batch, h * w, -1)))
    projected = self.cross_qkv(tokens, slice(self.width, None)).reshape(batch, h * w, 2, self.heads, -1)
    features = scene
    for transform in (self.map_embed, self.map1, self.map2, self.map3):
      features = gelu(transform(features))  # (B, h, w, width)
    return Reference(projected[:, :, 0], projected[:, :, 1], features)

  def __call__(self, queries: Sequence[jax.Array], reference: Reference, key_masks: KeyMasks = None) -> list[jax.Array]:
    """Scores every cell of the scene for several persons.

    Args:
      queries: for each person (B, L, D) tokens, class token first; lengths may differ.
      reference: from `prepare`.
      key_masks: for each person None or (B, L) bool, False where a token is padding; None for no padding.

    Returns:
      For each person (B, h, w) float32 logits.
    """
    packing = Packing(tuple((1, query.shape[1]) for query in queries), row_capacity(self.dtype))
    arrays = [self.query_embed(x) for x in packing.join(queries)]
    masks, last = packing.join_masks(key_masks, len(queries[0])), self.depth - 1
    arrays = run_stack(self.block, self.blocks, arrays, packing, masks, stop=last, unroll=self.unroll, remat=self.remat)
    firsts = read_firsts(self.block, layer(self.blocks, last), arrays, packing, masks)
    x = jnp.stack(firsts, axis=1)  # (B, persons, width)
    q = self.cross_qkv(self.cross_norm1(x), slice(0, self.width)).reshape(*x.shape[:2], self.heads, -1)
    x = x + self.cross_proj(mix(attention_map(q, reference.keys), reference.values).reshape(x.shape))
    x = x + self.cross_mlp(self.cross_norm2(x))
    kernels = self.kernel(self.kernel_norm(x))
    logits = jnp.einsum("bpd,bhwd->bphw", kernels, reference.features, preferred_element_type=jnp.float32)
    return [logits[:, i] for i in range(len(queries))]
