"""Losses of classes and attributes with partly unknown labels."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import weighted_mean


def cross_entropy(logits: jax.Array, labels: jax.Array, known: jax.Array) -> jax.Array:
  """Mean cross-entropy -log softmax(logits)[label] over the known labels.

  Args:
    logits: (..., C) float.
    labels: (...) int; ignored where unknown.
    known: (...) bool.

  Returns:
    float32 scalar; 0 if no label is known.
  """
  logs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  right = jnp.sum(jnp.where(labels[..., None] == jnp.arange(logits.shape[-1]), logs, 0.0), axis=-1)
  return weighted_mean(-right, known)


def attribute_weights(true: jax.Array, shares: jax.Array) -> jax.Array:
  """Returns weights (B, A), exp(1 - r) for true and exp(r) for false attributes: rare ones weigh more.

  Args:
    true: (B, A) bool.
    shares: (A,) or (B, A) float r, the share of images in which the attribute is true.

  Source: Jia et al. 2021, "Rethinking of Pedestrian Attribute Recognition", arXiv 2107.03576, equation 5.
  """
  return jnp.where(true, jnp.exp(1 - shares), jnp.exp(shares))


def attribute_loss(logits: jax.Array, signs: jax.Array, shares: jax.Array) -> jax.Array:
  """Binary cross-entropy weighted by `attribute_weights`, summed over attributes, mean over images.

  Args:
    logits: (B, A) float.
    signs: (B, A) int or float: 1 true, -1 false, 0 unknown (weight 0).
    shares: (A,) or (B, A) float, see `attribute_weights`.

  Returns:
    float32 scalar.

  Source: Jia et al. 2021, arXiv 2107.03576.
  """
  signs = signs.astype(jnp.float32)
  weights = attribute_weights(signs > 0, shares) * jnp.abs(signs)
  return jnp.mean(jnp.sum(weights * jax.nn.softplus(-signs * logits.astype(jnp.float32)), axis=-1))
