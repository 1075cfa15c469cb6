"""The joints of a body as input of a network."""

import jax
import jax.numpy as jnp


def centered_skeleton(joints_xy: jax.Array, visible: jax.Array, root: int) -> jax.Array:
  """Returns joints with the root at zero and the largest coordinate at 1 or -1; those that are not visible are zero.

  Where the root is not visible, the mean of the others takes its place. Only visible joints enter the scale.

  Args:
    joints_xy: (J, 2) x, y, in any unit.
    visible: (J,) bool.
    root: place of the root.

  Source: methods, HCMoCo section 1, whose released code lets unknown joints enter the scale.
  """
  there = visible[:, None]
  mean = jnp.sum(jnp.where(there, joints_xy, 0.0), axis=0) / jnp.maximum(jnp.sum(visible), 1)
  center = jnp.where(visible[root], joints_xy[root], mean)
  centered = jnp.where(there, joints_xy - center, 0.0)
  return centered / jnp.maximum(jnp.max(jnp.abs(centered)), 1e-6)
