"""Reconstruction of hidden patches (MAE, SAIP, CroCo)."""

import jax
import jax.numpy as jnp


def normalize_patches(patches: jax.Array) -> jax.Array:
  """Returns patches (..., P) with mean 0 and unbiased variance 1 each, epsilon 1e-6, float32 (MAE's norm-pix).

  The barrier keeps XLA from cutting the image into patches once more for each of the sums.
  """
  patches = jax.lax.optimization_barrier(patches.astype(jnp.float32))
  mean = jnp.mean(patches, axis=-1, keepdims=True)
  variance = jnp.var(patches, axis=-1, keepdims=True, ddof=1)
  return (patches - mean) * jax.lax.rsqrt(variance + 1e-6)


def masked_mse(prediction: jax.Array, target: jax.Array, hidden: jax.Array) -> jax.Array:
  """Mean squared error over the hidden patches of the whole batch (one ratio, not a mean over samples).

  Args:
    prediction: (B, N, P) float.
    target: (B, N, P) float32.
    hidden: (B, N), 1 for patches that count, else 0.

  Returns:
    float32 scalar.

  Source: MAE (He et al. 2022, arXiv 2111.06377).
  """
  return jnp.sum(_patch_errors(prediction, target) * hidden) / jnp.sum(hidden)


def masked_mse_by_kind(
  prediction: jax.Array, target: jax.Array, hidden: jax.Array, kind: jax.Array, kinds: int
) -> jax.Array:
  """`masked_mse` of the samples of each kind.

  Args:
    prediction: (B, N, P) float.
    target: (B, N, P) float32.
    hidden: (B, N), 1 for patches that count, else 0.
    kind: (B,) int32 from 0.
    kinds: number of kinds.

  Returns:
    (kinds,) float32; 0 for kinds without samples.
  """
  belongs = jax.nn.one_hot(kind, kinds)  # (B, kinds)
  errors = jnp.sum(_patch_errors(prediction, target) * hidden, axis=1)
  sums, counts = (jnp.sum(belongs * a[:, None], axis=0) for a in (errors, jnp.sum(hidden, axis=1)))
  return sums / jnp.maximum(counts, 1)


def _patch_errors(prediction: jax.Array, target: jax.Array) -> jax.Array:
  return jnp.mean(jnp.square(prediction.astype(jnp.float32) - target), axis=-1)
