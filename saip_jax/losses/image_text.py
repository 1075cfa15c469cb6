"""Contrastive loss of images and captions with identity labels."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import NEVER, cosines, weighted_mean


def image_text_contrast(
  images: jax.Array, texts: jax.Array, identity: jax.Array, known: jax.Array, temperature: float
) -> jax.Array:
  """Cross-entropy from images to captions and back, where all pairs of one person are positives.

  The positives of an image share its target equally. With one image per person this is InfoNCE.

  Args:
    images: (B, D) float unit vectors.
    texts: (B, D) float unit vectors, of the captions.
    identity: (B,) int from 1; 0 for unknown, which matches no other sample.
    known: (B,) bool, True for samples with a caption; others are ignored.
    temperature: temperature of the softmax.

  Returns:
    float32 scalar, the sum of both directions.

  Source: UniCL (Yang et al. 2022, arXiv 2204.03610), equations 3 and 4. IRRA's SDM reverses the divergence.
  """
  same = (identity[:, None] == identity) & (identity > 0) | jnp.eye(len(identity), dtype=bool)
  same = same & known[:, None] & known
  logits = jnp.where(known[:, None] & known, cosines(images, texts) / temperature, NEVER)

  def mean_log_share(axis: int) -> jax.Array:
    logs = jax.nn.log_softmax(logits, axis=axis)
    own = jnp.sum(jnp.where(same, logs, 0.0), axis=axis) / jnp.maximum(jnp.sum(same, axis=axis), 1)
    return weighted_mean(own, known)

  return -mean_log_share(0) - mean_log_share(1)
