"""HCMoCo: dense contrast of two feature maps of one image, with soft targets."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import cosines, weighted_mean


def soft_targets(places: jax.Array) -> jax.Array:
  """Returns Q[j, i] = exp(-|p_j - p_i|) / sum_k exp(-|p_j - p_k|), which shares the target among near positions.

  Args:
    places: (..., S, 2) positions p in cells of the map.

  Returns:
    (..., S, S) float32; rows sum to one.

  Source: HCMoCo (Hong et al. 2022, arXiv 2203.13815), dense intra-sample contrast.
  """
  offsets = places[..., :, None, :] - places[..., None, :, :]
  return jax.nn.softmax(-jnp.sqrt(jnp.sum(jnp.square(offsets.astype(jnp.float32)), axis=-1)), axis=-1)


def dense_contrast(
  first: jax.Array, second: jax.Array, places: jax.Array, temperature: float, known: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy of matching each position of a map to the positions of the other, in both directions.

  L = mean over samples and positions j of -sum_i Q[j, i] log softmax_i(u_j v_i / T), and the same with u and v
  exchanged, with Q from `soft_targets`. The entropy of Q is a lower bound of each.

  Args:
    first: (B, S, D) float unit vectors u, one map at the sampled positions.
    second: (B, S, D) float unit vectors v, the other map at the same positions.
    places: (B, S, 2) positions in cells of the map.
    temperature: T.
    known: (B,) bool, True for samples that have both maps.

  Returns:
    Two float32 scalars, from the first map to the second and back; 0 if no sample has both maps.

  Source: HCMoCo (Hong et al. 2022, arXiv 2203.13815), dense intra-sample contrast, as in the released code.
  """
  targets, logits = soft_targets(places), cosines(first, second) / temperature  # (B, S, S)
  logs = jax.nn.log_softmax(logits, axis=-1), jax.nn.log_softmax(logits, axis=-2).swapaxes(-1, -2)
  there, back = (weighted_mean(jnp.mean(-jnp.sum(targets * log, axis=-1), axis=-1), known) for log in logs)
  return there, back
