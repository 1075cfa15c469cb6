"""Alignment of two views of an image against the other images of the batch (HAP)."""

import jax

from saip_jax.losses.infonce import batch_contrast, unit


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
  return 2 * temperature * batch_contrast(unit(queries), unit(jax.lax.stop_gradient(keys)), temperature)
