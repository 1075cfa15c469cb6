"""SAIP: search for a person in a scene."""

import jax
import optax


def search_loss(logits: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean binary cross-entropy of search logits and the mask of the person.

  Args:
    logits: (B, h, w) float.
    mask: (B, h, w) float in 0 to 1.

  Returns:
    Scalar, in nats.

  Source: SAIP (arXiv 2503.08201), as in the released code.
  """
  return optax.sigmoid_binary_cross_entropy(logits, mask).mean()
