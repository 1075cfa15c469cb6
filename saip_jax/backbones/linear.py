"""Layers that act on each token alone: linear, layer norm, GELU, MLP."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.initial_values import KERNEL_INITS, uniform_initializer

NORM_EPSILON = 1e-6


class Linear(nn.Module):
  """Dense layer that can compute a slice of its outputs.

  Attributes:
    features: number of outputs.
    dtype: computation dtype; parameters stay float32.
    uniform_bias: initialize the bias from U(+-1/sqrt(inputs)), PyTorch's default, instead of zero.
    kernel_init: initializer of the kernel (inputs, features).
    use_bias: add a bias.
  """

  features: int
  dtype: jnp.dtype = jnp.float32
  uniform_bias: bool = False
  kernel_init: initializers.Initializer = KERNEL_INITS["xavier"]
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array, outputs: slice = slice(None)) -> jax.Array:
    kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
    bound = x.shape[-1] ** -0.5 if self.uniform_bias else 0.0
    if self.use_bias:
      bias = self.param("bias", uniform_initializer(-bound, bound), (self.features,))
    else:
      bias = jnp.zeros(self.features)
    return affine(*(a.astype(self.dtype) for a in (x, kernel[:, outputs], bias[outputs])))


@jax.custom_vjp
def affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
  """Returns x (..., inputs) @ kernel (inputs, outputs) + bias (outputs,), with gradients that are fast on CPU.

  Other devices use XLA's native gradients.
  """
  return _native_affine(x, kernel, bias)


def _native_affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
  return x @ kernel + bias


def _native_gradients(x, kernel, bias, gradient):
  return jax.vjp(_native_affine, x, kernel, bias)[1](gradient)


def _gradients_by_rows(x, kernel, bias, gradient):
  """Returns the gradients with all tokens as rows of one matrix.

  XLA on CPU copies the first factor of the kernel's gradient into its transpose: it should be the narrower one. The
  barrier keeps XLA from exchanging the factors again.
  """
  del bias
  rows, of_rows = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
  if rows.shape[1] > of_rows.shape[1]:
    of_kernel = jax.lax.optimization_barrier(of_rows.T @ rows).T
  else:
    of_kernel = rows.T @ of_rows
  return gradient @ kernel.T, of_kernel, of_rows.sum(axis=0)


def _affine_backward(residuals, gradient):
  return jax.lax.platform_dependent(*residuals, gradient, cpu=_gradients_by_rows, default=_native_gradients)


affine.defvjp(lambda *inputs: (_native_affine(*inputs), inputs), _affine_backward)


def layer_norm(dtype, epsilon: float = NORM_EPSILON) -> nn.LayerNorm:
  """Returns a layer norm with statistics in float32."""
  return nn.LayerNorm(epsilon=epsilon, dtype=dtype)


class LayerScale(nn.Module):
  """Multiplies each feature by a learned factor.

  Attributes:
    dtype: computation dtype; parameters stay float32.

  Source: CaiT (Touvron et al. 2021, arXiv 2103.17239), section 2; the initial factor is that of DINOv2.
  """

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return x * self.param("gamma", initializers.constant(1e-5), (x.shape[-1],)).astype(self.dtype)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
  """Returns the exact GELU x * Phi(x), computed in float32 and cast to the dtype of x.

  The backward pass recomputes from x: the residuals of automatic differentiation would be float32 and larger than x.
  """
  return (x.astype(jnp.float32) * _normal_cdf(x)).astype(x.dtype)


def _normal_cdf(x: jax.Array) -> jax.Array:
  return 0.5 + 0.5 * jax.lax.erf(x.astype(jnp.float32) * 0.5**0.5)


def _gelu_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
  wide = x.astype(jnp.float32)
  density = jnp.exp(-0.5 * wide * wide) * (2 * jnp.pi) ** -0.5
  return ((gradient.astype(jnp.float32) * (_normal_cdf(x) + wide * density)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


class Mlp(nn.Module):
  """Linear, exact GELU, Linear; the hidden layer is four times as wide.

  Attributes:
    dtype: computation dtype.
    weights: initializer of the kernels, a key of `KERNEL_INITS`.
  """

  dtype: jnp.dtype = jnp.float32
  weights: str = "xavier"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    linear = lambda features, name: Linear(features, self.dtype, kernel_init=KERNEL_INITS[self.weights], name=name)
    return linear(x.shape[-1], "fc2")(gelu(linear(4 * x.shape[-1], "fc1")(x)))
