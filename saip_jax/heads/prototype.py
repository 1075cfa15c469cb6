"""DINO head: logits of an image feature for learned prototypes."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.initial_values import KERNEL_INITS, uniform_initializer
from saip_jax.backbones.linear import Linear, gelu


class PrototypeHead(nn.Module):
  """Three-layer MLP, unit-length bottleneck, and the product with prototypes of unit or learned length.

  Attributes:
    prototypes: K, the number of prototypes.
    hidden: width of the two hidden layers.
    bottleneck: width of the unit-length code.
    dtype: computation dtype, also of the logits.
    weights: initializer of the kernels of the MLP, a key of `initial_values.KERNEL_INITS`.
    learned_gain: learn the lengths of the prototypes (the gain of PyTorch's weight norm); False fixes them to one, as
      in SAIP.

  Source: DINO (Caron et al. 2021, arXiv 2104.14294), the head without batch norm; SAIP's matching has the same.
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
    """Computes logits (..., K) of x (..., D), in [-1, 1] for a gain of one."""
    logits = prototype_cosines(self.code(x), self.directions)
    return logits * self.gain.astype(logits.dtype) if self.learned_gain else logits


def prototype_cosines(x: jax.Array, prototypes: jax.Array) -> jax.Array:
  """Returns the cosines of x (..., D) and the columns of prototypes (D, K): (..., K) in the dtype of x."""
  squares = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
  x = x * jax.lax.rsqrt(jnp.maximum(squares, 1e-24)).astype(x.dtype)  # torch's normalize, eps 1e-12
  # Scale after the product: normalizing the weights first makes XLA:CPU fuse them into a naive dot.
  scale = jax.lax.rsqrt(sum_squares(prototypes))
  return (x @ prototypes.astype(x.dtype)) * scale.astype(x.dtype)


@jax.custom_vjp
def sum_squares(columns: jax.Array) -> jax.Array:
  """Returns the sum of squares (K,) of each column of (D, K).

  On CPU the rows are added in a loop: XLA's reduction, which walks down each column, took twenty times as long.
  """
  return jax.lax.platform_dependent(
    columns, cpu=_add_rows, default=lambda columns: jnp.sum(jnp.square(columns), axis=0)
  )


def _add_rows(columns: jax.Array) -> jax.Array:
  add = lambda i, total: total + jnp.square(columns[i])
  return jax.lax.fori_loop(0, len(columns), add, jnp.zeros_like(columns[0]))


sum_squares.defvjp(lambda columns: (sum_squares(columns), columns), lambda columns, g: (2 * columns * g,))
