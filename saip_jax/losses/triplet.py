"""Batch-hard triplet loss for re-identification."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import weighted_mean


def triplet_loss(features: jax.Array, identity: jax.Array) -> jax.Array:
  """Mean over images of log(1 + exp(d_p - d_n)), with the farthest positive p and the nearest negative n.

  Distances are Euclidean, of unnormalized features. Images without a positive or without a negative are ignored.

  Args:
    features: (B, D) float.
    identity: (B,) int from 1; 0 for unknown, which is ignored.

  Returns:
    float32 scalar; 0 if all images are ignored.

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
  """Returns Euclidean distances (B, D) -> (B, B); equal rows have zero gradient.

  Precision is HIGHEST, because the products nearly cancel.
  """
  squares = jnp.sum(x * x, axis=1)
  products = jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST)
  return jnp.sqrt(jnp.maximum(squares[:, None] + squares - 2 * products, 1e-12))
