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


def attribute_loss(logits: jax.Array, signs: jax.Array, shares: jax.Array) -> jax.Array:
  """Weighted binary cross-entropy, summed over attributes, mean over pictures.

  An attribute that is true weighs exp(1 - r), one that is not exp(r), r being the share of pictures in which it is:
  what is rare weighs more. Unknown ones weigh nothing.

  Args:
    logits: (B, A).
    signs: (B, A) 1 true, -1 not, 0 unknown.
    shares: (A,) or (B, A) r.

  Returns:
    float32 scalar.

  Source: Jia et al. 2021, "Rethinking of Pedestrian Attribute Recognition", arXiv 2107.03576, equation 5.
  """
  signs = signs.astype(jnp.float32)
  weights = jnp.where(signs > 0, jnp.exp(1 - shares), jnp.exp(shares)) * jnp.abs(signs)
  return jnp.mean(jnp.sum(weights * jax.nn.softplus(-signs * logits.astype(jnp.float32)), axis=-1))
