"""Search for a person in a scene (SAIP's CSS)."""

import jax
import optax


def search_loss(logits: jax.Array, mask: jax.Array) -> jax.Array:
  """Binary cross-entropy of (B, h, w) logits against a mask of the same shape, mean over all, in nats."""
  return optax.sigmoid_binary_cross_entropy(logits, mask).mean()
