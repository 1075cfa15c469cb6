"""Contrast of two dense maps of one picture, place by place, with soft targets (HCMoCo)."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import cosines, weighted_mean


def soft_targets(places: jax.Array) -> jax.Array:
  """Returns Q (..., S, S), Q[j, i] = exp(-|p_j - p_i|) / sum_k exp(-|p_j - p_k|): near places count as almost right.

  Args:
    places: (..., S, 2) in cells of the map.
  """
  offsets = places[..., :, None, :] - places[..., None, :, :]
  return jax.nn.softmax(-jnp.sqrt(jnp.sum(jnp.square(offsets.astype(jnp.float32)), axis=-1)), axis=-1)


def dense_contrast(
  first: jax.Array, second: jax.Array, places: jax.Array, temperature: float, known: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy of finding each place of a map in the other one, in both directions.

  L = mean over samples and places j of -sum_i Q[j, i] log softmax_i(u_j v_i / T), and the same with u and v exchanged,
  with Q of `soft_targets`. Neither is ever below the entropy of Q.

  Args:
    first: (B, S, D) unit vectors u, one map at the drawn places.
    second: (B, S, D) v, the other at the same places.
    places: (B, S, 2) in cells of the map.
    temperature: T.
    known: (B,) bool, the samples that have both maps.

  Returns:
    Two float32 scalars, of the places of the first map and of the second; 0 if no sample has both.

  Source: methods, HCMoCo section 3 (2).
  """
  targets, logits = soft_targets(places), cosines(first, second) / temperature  # (B, S, S)
  logs = jax.nn.log_softmax(logits, axis=-1), jax.nn.log_softmax(logits, axis=-2).swapaxes(-1, -2)
  return tuple(weighted_mean(jnp.mean(-jnp.sum(targets * log, axis=-1), axis=-1), known) for log in logs)
