"""Alignment of two views of an image against the other images of the batch (HAP)."""

import jax
import jax.numpy as jnp
import optax


def alignment_loss(first: jax.Array, second: jax.Array, temperature: float) -> jax.Array:
  """Returns `contrast` of each with the other, summed: float32 scalar; 4 T ln B when all features are equal.

  Args:
    first: (B, D) features of one view of each image.
    second: (B, D) of the other.
    temperature: T.
  """
  return contrast(first, second, temperature) + contrast(second, first, temperature)


def contrast(queries: jax.Array, keys: jax.Array, temperature: float) -> jax.Array:
  """In-batch InfoNCE: 2 T times the cross-entropy of finding the own key among those of the batch, mean.

  Args:
    queries: (B, D); the gradient flows into them alone.
    keys: (B, D).
    temperature: T of the cosines.

  Source: MoCo v3 (Chen et al. 2021), algorithm 1, without its heads.
  """
  queries, keys = (x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
                   for x in (queries.astype(jnp.float32), jax.lax.stop_gradient(keys).astype(jnp.float32)))
  # HIGHEST: bfloat16 products would round cosines by some 1e-3, which a small temperature enlarges.
  cosines = jnp.einsum("qd,kd->qk", queries, keys, precision=jax.lax.Precision.HIGHEST)
  losses = optax.softmax_cross_entropy_with_integer_labels(cosines / temperature, jnp.arange(len(cosines)))
  return 2 * temperature * jnp.mean(losses)
