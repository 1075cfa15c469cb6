"""Batch-hard triplets: the farthest picture of a person shall be nearer than the nearest of anybody else."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import weighted_mean


def triplet_loss(features: jax.Array, identity: jax.Array) -> jax.Array:
  """Mean over pictures of log(1 + exp(d_p - d_n)), with the farthest of the same person and the nearest of another.

  Distances are Euclidean, of features as they are. Pictures without another one of their person, or in a batch of one
  person, do not count.

  Args:
    features: (B, D).
    identity: (B,) int, numbers from 1; 0: unknown, which takes no part.

  Returns:
    float32 scalar; 0 if no picture counts.

  Source: Hermans et al. 2017, arXiv 1703.07737, equation 5 with the soft margin.
  """
  features = features.astype(jnp.float32)
  known = identity > 0
  both = known[:, None] & known
  same = identity[:, None] == identity
  positive = both & same & ~jnp.eye(len(features), dtype=bool)
  negative = both & ~same
  distances = _distances(features)
  farthest = jnp.max(jnp.where(positive, distances, 0.0), axis=1)
  nearest = jnp.min(jnp.where(negative, distances, jnp.inf), axis=1)
  counts = jnp.any(positive, axis=1) & jnp.any(negative, axis=1)
  return weighted_mean(jax.nn.softplus(farthest - jnp.where(counts, nearest, 0.0)), counts)


def _distances(x: jax.Array) -> jax.Array:
  """(B, D) -> (B, B) Euclidean; the gradient of equal rows is 0. HIGHEST: the difference of large numbers is small."""
  squares = jnp.sum(x * x, axis=1)
  products = jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST)
  return jnp.sqrt(jnp.maximum(squares[:, None] + squares - 2 * products, 1e-12))
