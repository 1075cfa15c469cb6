"""Classes and attributes, learned from labels of which some are unknown."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import weighted_mean


def cross_entropy(logits: jax.Array, labels: jax.Array, known: jax.Array) -> jax.Array:
  """Mean of -log softmax(logits)[label] over what is known: float32 scalar, 0 if nothing is.

  Args:
    logits: (..., C).
    labels: (...) int; whatever it is where it is not known.
    known: (...) bool.
  """
  logs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  right = jnp.sum(jnp.where(labels[..., None] == jnp.arange(logits.shape[-1]), logs, 0.0), axis=-1)
  return weighted_mean(-right, known)


def attribute_weights(true: jax.Array, shares: jax.Array) -> jax.Array:
  """Returns exp(1 - r) for attributes that are true, exp(r) for those that are not: what is rare weighs more.

  Args:
    true: (B, A) bool.
    shares: (A,) or (B, A) r, the share of pictures in which the attribute is true.

  Source: Jia et al. 2021, "Rethinking of Pedestrian Attribute Recognition", arXiv 2107.03576, equation 5.
  """
  return jnp.where(true, jnp.exp(1 - shares), jnp.exp(shares))


def attribute_loss(logits: jax.Array, signs: jax.Array, shares: jax.Array) -> jax.Array:
  """Binary cross-entropy, weighted as `attribute_weights` says, summed over attributes, mean over pictures.

  Args:
    logits: (B, A).
    signs: (B, A) 1 true, -1 not, 0 unknown: those weigh nothing.
    shares: (A,) or (B, A), see `attribute_weights`.

  Returns:
    float32 scalar.
  """
  signs = signs.astype(jnp.float32)
  weights = attribute_weights(signs > 0, shares) * jnp.abs(signs)
  return jnp.mean(jnp.sum(weights * jax.nn.softplus(-signs * logits.astype(jnp.float32)), axis=-1))
