"""Prototype head of DINO-style matching."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.initial_values import KERNEL_INITS, uniform_initializer
from saip_jax.backbones.linear import Linear, gelu


class PrototypeHead(nn.Module):
  """Three-layer MLP, unit-length bottleneck, product with prototypes of unit length or of a learned one.

  Source: DINO head without batch norm, as used by SAIP's CSM. PyTorch's weight norm is the direction of a prototype and
  its length, the gain.

  Attributes:
    prototypes: K.
    hidden: width of the two hidden layers.
    bottleneck: width of the unit-length code.
    dtype: computation dtype; logits come in it.
    weights: how the kernels of the MLP start, a key of `initial_values.KERNEL_INITS`.
    learned_gain: the lengths of the prototypes are learned; False: they are one, as in SAIP.
  """

  prototypes: int
  hidden: int = 2048
  bottleneck: int = 256
  dtype: jnp.dtype = jnp.float32
  weights: str = "xavier"
  learned_gain: bool = False

  def setup(self):
    linear = lambda features: Linear(features, self.dtype, kernel_init=KERNEL_INITS[self.weights])
    self.fc1, self.fc2, self.fc3 = linear(self.hidden), linear(self.hidden), linear(self.bottleneck)
    bound = self.bottleneck**-0.5
    self.directions = self.param("prototypes", uniform_initializer(-bound, bound), (self.bottleneck, self.prototypes))
    if self.learned_gain:
      self.gain = self.param("gain", nn.initializers.ones, (self.prototypes,))

  def code(self, x: jax.Array) -> jax.Array:
    """Returns the bottleneck (..., bottleneck) of x (..., D), before it is scaled to unit length."""
    return self.fc3(gelu(self.fc2(gelu(self.fc1(x)))))

  def __call__(self, x: jax.Array) -> jax.Array:
    """Args: x (..., D). Returns (..., K) logits, in [-1, 1] where the gain is one."""
    logits = prototype_cosines(self.code(x), self.directions)
    return logits * self.gain.astype(logits.dtype) if self.learned_gain else logits


def prototype_cosines(x: jax.Array, prototypes: jax.Array) -> jax.Array:
  """Returns the cosine of x (..., D) to each column of prototypes (D, K): (..., K) in the type of x."""
  squares = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
  x = x * jax.lax.rsqrt(jnp.maximum(squares, 1e-24)).astype(x.dtype)  # torch's normalize, eps 1e-12
  # Scaled after the product: normalizing the weights first makes XLA:CPU fuse them into a naive dot.
  scale = jax.lax.rsqrt(jnp.sum(jnp.square(prototypes), axis=0))
  return (x @ prototypes.astype(x.dtype)) * scale.astype(x.dtype)
