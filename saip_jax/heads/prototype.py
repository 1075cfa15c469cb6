"""Prototype head of DINO-style matching."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.transformer import Linear, gelu, uniform_initializer


class PrototypeHead(nn.Module):
  """Three-layer MLP, unit-length bottleneck, cosine to unit-length prototypes.

  Source: DINO head without batch norm, as used by SAIP's CSM (weight norm with its gain frozen at one).

  Attributes:
    prototypes: K.
    hidden: width of the two hidden layers.
    bottleneck: width of the unit-length code.
    dtype: computation dtype; logits come in it.
  """

  prototypes: int
  hidden: int = 2048
  bottleneck: int = 256
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Args: x (..., D). Returns (..., K) logits in [-1, 1]."""
    for name in ("fc1", "fc2"):
      x = gelu(Linear(self.hidden, self.dtype, name=name)(x))
    x = Linear(self.bottleneck, self.dtype, name="fc3")(x)
    bound = self.bottleneck**-0.5
    prototypes = self.param("prototypes", uniform_initializer(-bound, bound), (self.bottleneck, self.prototypes))
    return cosines(x, prototypes)


def cosines(x: jax.Array, prototypes: jax.Array) -> jax.Array:
  """Returns the cosine of x (..., D) to each column of prototypes (D, K): (..., K) in the type of x."""
  squares = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
  x = x * jax.lax.rsqrt(jnp.maximum(squares, 1e-24)).astype(x.dtype)  # torch's normalize, eps 1e-12
  # Scaled after the product: normalising the weights first makes XLA:CPU fuse them into a naive dot.
  scale = jax.lax.rsqrt(jnp.sum(jnp.square(prototypes), axis=0))
  return (x @ prototypes.astype(x.dtype)) * scale.astype(x.dtype)
