"""Adapters: from the features of a student to those of an expert, for distillation."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.block import Block
from saip_jax.backbones.linear import Linear, gelu

_HIDDEN = {"mlp": 2048, "block": 1024}
_BOTTLENECK = 256
_EPSILON = {"mlp": 1e-5, "block": 1e-6}


class Adapter(nn.Module):
  """Maps tokens of a student to the width of an expert.

  "linear" is one layer. "mlp" has two hidden layers of 2048 and a bottleneck of 256. "block" has hidden layers of 1024,
  then a transformer block of the expert's width and number of heads, whose attention maps can be compared with those of
  the expert while the student keeps its own heads.

  Attributes:
    width: of the expert's features.
    heads: of the expert, for the block.
    kind: "mlp", "linear" or "block".
    normalize: end "mlp" and "block" in a layer norm, as the features of an expert do; False for standardized targets,
      which a norm across channels could not reach.
    dtype: computation dtype.

  Source: the adapters of SAIP's and DPAL's later code (arXiv 2508.07144).
  """

  width: int
  heads: int = 1
  kind: str = "mlp"
  normalize: bool = True
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    linear = lambda features: Linear(features, self.dtype)
    if self.kind != "linear":
      hidden, norm = _HIDDEN[self.kind], lambda: nn.LayerNorm(epsilon=_EPSILON[self.kind], dtype=self.dtype)
      self.fc1, self.fc2, self.fc3 = linear(hidden), linear(hidden), linear(_BOTTLENECK)
      if self.kind == "block":
        self.block_norm, self.block = norm(), Block(self.width, self.heads, self.dtype)
      if self.normalize:
        self.norm = norm()
    self.fc4 = linear(self.width)

  def __call__(self, tokens: jax.Array, key_mask: jax.Array | None = None) -> jax.Array:
    """Returns the mapped tokens.

    Args:
      tokens: (B, L, D), for "block" the sequence of an image with the class token first; for the others any tokens.
      key_mask: (B, L) bool, False where a token is padding; None for no padding.

    Returns:
      (B, L, width).
    """
    x = self._before_block(tokens)
    if self.kind == "block":
      x = self.block(x, key_mask)
    return self.norm(x) if self.kind != "linear" and self.normalize else x

  def maps(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the query-key and value-value maps of the block, each (B, heads, L, L) float32."""
    return self.block.maps(self._before_block(tokens))

  def _before_block(self, tokens: jax.Array) -> jax.Array:
    if self.kind == "linear":
      return self.fc4(tokens)
    x = self.fc4(self.fc3(gelu(self.fc2(gelu(self.fc1(tokens))))))
    return self.block_norm(x) if self.kind == "block" else x
