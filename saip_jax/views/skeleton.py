"""Normalization of the joints of a body as network input."""

import jax
import jax.numpy as jnp


def centered_skeleton(joints_xy: jax.Array, visible: jax.Array, root: int) -> jax.Array:
  """Centers joints at the root and scales the largest coordinate to 1 or -1; invisible joints become zero.

  If the root is invisible, the mean of the visible joints replaces it. Only visible joints determine the scale.

  Args:
    joints_xy: (J, 2) float x, y, in any unit.
    visible: (J,) bool.
    root: index of the root.

  Returns:
    (J, 2) float32.

  Source: HCMoCo (Hong et al. 2022, arXiv 2203.13815); in its released code invisible joints influence the scale.
  """
  seen = visible[:, None]
  mean = jnp.sum(jnp.where(seen, joints_xy, 0.0), axis=0) / jnp.maximum(jnp.sum(visible), 1)
  center = jnp.where(visible[root], joints_xy[root], mean)
  centered = jnp.where(seen, joints_xy - center, 0.0)
  return centered / jnp.maximum(jnp.max(jnp.abs(centered)), 1e-6)
