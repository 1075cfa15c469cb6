"""Joints in space."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import weighted_mean


def joint_distance(found: jax.Array, true: jax.Array, known: jax.Array) -> jax.Array:
  """Mean distance of joints to their true places, MPJPE: float32 scalar, 0 if none is known.

  Args:
    found: (..., 3) in any unit.
    true: (..., 3) from the same root; whatever it is where it is not known.
    known: (...) bool.
  """
  squares = jnp.sum(jnp.square(found.astype(jnp.float32) - jnp.where(known[..., None], true, 0.0)), axis=-1)
  return weighted_mean(jnp.sqrt(squares + 1e-12), known)  # the gradient of no distance is 0
