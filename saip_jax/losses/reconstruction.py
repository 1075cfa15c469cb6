"""Reconstruction of hidden patches (MAE's loss, SAIP's CSR)."""

import jax
import jax.numpy as jnp


def normalise_patches(patches: jax.Array) -> jax.Array:
  """Returns patches (..., P) with mean 0 and unit unbiased variance each, eps 1e-6, as MAE's norm-pix."""
  patches = patches.astype(jnp.float32)
  mean = jnp.mean(patches, axis=-1, keepdims=True)
  variance = jnp.var(patches, axis=-1, keepdims=True, ddof=1)
  return (patches - mean) * jax.lax.rsqrt(variance + 1e-6)


def masked_mse(prediction: jax.Array, target: jax.Array, hidden: jax.Array) -> jax.Array:
  """Mean squared error over the hidden patches of the whole batch (one ratio, not a mean of samples).

  Args:
    prediction: (B, N, P).
    target: (B, N, P).
    hidden: (B, N) 1 where a patch counts.

  Returns:
    float32 scalar.
  """
  error = jnp.mean(jnp.square(prediction.astype(jnp.float32) - target), axis=-1)
  return jnp.sum(error * hidden) / jnp.sum(hidden)
