"""Initial values of kernels, tokens and positions."""

import jax
import jax.numpy as jnp
from jax.nn import initializers


def uniform_initializer(low: float, high: float) -> initializers.Initializer:
  """Returns an initializer that draws from U[low, high)."""
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, low, high)


TOKEN_INITS = {
  "uniform": uniform_initializer(0.0, 1.0),  # the published SAIP
  "normal": initializers.normal(0.02),
}
"""Initializers of learned positions and mask tokens."""

KERNEL_INITS = {
  "xavier": initializers.xavier_uniform(),  # MAE and SAIP
  "normal": initializers.normal(0.02),  # DINO: its truncation, at 100 standard deviations, has no effect
}
"""Initializers of the kernels of linear layers."""

TORCH_DEFAULT = initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for kernels of linear layers and convolutions, U(+-1 / sqrt(fan in))."""


def in_parts(init: initializers.Initializer, parts: int) -> initializers.Initializer:
  """Returns an initializer of kernels (C, parts * D) that draws each (C, D) as the kernel of a separate layer."""

  def draw(key, shape, dtype=jnp.float32):
    inputs, features = shape
    drawn = [init(k, (inputs, features // parts), dtype) for k in jax.random.split(key, parts)]
    return jnp.concatenate(drawn, axis=1)

  return draw
