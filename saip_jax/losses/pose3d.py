"""Loss of 3-D joints."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import weighted_mean


def joint_distance(found: jax.Array, true: jax.Array, known: jax.Array) -> jax.Array:
  """Mean distance of predicted and true joints (MPJPE).

  Args:
    found: (..., 3) float, predicted positions in any unit.
    true: (..., 3) float, relative to the same root; ignored where unknown.
    known: (...) bool.

  Returns:
    float32 scalar; 0 if no joint is known.
  """
  squares = jnp.sum(jnp.square(found.astype(jnp.float32) - jnp.where(known[..., None], true, 0.0)), axis=-1)
  return weighted_mean(jnp.sqrt(squares + 1e-12), known)  # the gradient at distance 0 is 0
