"""Contrast at the joints of a body: with the nodes of its skeleton, and with those of other bodies (HCMoCo)."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import NEVER, cosines, weighted_mean


def node_contrast(features: jax.Array, nodes: jax.Array, visible: jax.Array, temperature: float) -> jax.Array:
  """Mean over visible joints j of -log softmax_k(r_j g_k / T) at k = j, k being all joints of the same body.

  Args:
    features: (B, J, D) unit vectors r, a dense map at the joints.
    nodes: (B, J, D) unit vectors g, the nodes of the skeleton.
    visible: (B, J) bool, the joints that have a feature; the nodes of the others are negatives.
    temperature: T.

  Returns:
    float32 scalar; 0 if no joint is visible.

  Source: methods, HCMoCo section 3 (3a); from the map to the nodes only.
  """
  logs = jax.nn.log_softmax(cosines(features, nodes) / temperature, axis=-1)  # (B, J, J)
  return weighted_mean(-jnp.diagonal(logs, axis1=-2, axis2=-1), visible)


def joint_contrast(
  features: jax.Array, visible: jax.Array, temperature: float, known: jax.Array | None = None
) -> jax.Array:
  """Supervised contrast: features of one joint shall be alike whosever they are and in whichever modality.

  L = mean over anchors a of the mean over p in P(a) of -log( exp(z_a z_p / T) / sum_n exp(z_a z_n / T) ), where P(a)
  are all others of the same joint, n all others, and anchors those with P(a) not empty. What is not visible is neither
  anchor nor positive nor negative, and nothing is compared with itself.

  Args:
    features: (B, M, J, D) unit vectors, M dense maps of each sample at the joints.
    visible: (B, M, J) bool, which of them there are.
    temperature: T.
    known: None, or (B, M) bool, the maps that there are: then the loss is that of the released code, in which all
      joints of a map that is known are anchors and positives, visible or not, the normalizer is over everything, itself
      and what is missing too, anchors without a positive count as 0 in the mean over all, and without any sample that
      has the last map the loss is 0.

  Returns:
    float32 scalar; 0 if no joint is visible twice.

  Source: methods, HCMoCo section 3 (3b), after SupCon (Khosla et al. 2020), equation 2.
  """
  joints = features.shape[2]
  rows, there = features.reshape(-1, features.shape[-1]), visible.reshape(-1)  # (R, D), (R,)
  if known is not None:
    there = jnp.broadcast_to(known[..., None], visible.shape).reshape(-1)
  joint = jnp.arange(len(rows)) % joints
  other = there & ~jnp.eye(len(rows), dtype=bool)  # (R, R)
  logits = cosines(rows, rows) / temperature
  compared = other if known is None else jnp.ones_like(other)
  normalizer = jax.nn.logsumexp(jnp.where(compared, logits, NEVER), axis=1, keepdims=True)
  positive = there[:, None] & other & (joint[:, None] == joint)
  count = jnp.sum(positive, axis=1)
  losses = jnp.sum(jnp.where(positive, normalizer - logits, 0.0), axis=1) / jnp.maximum(count, 1)
  if known is None:
    return weighted_mean(losses, count > 0)
  return jnp.mean(losses) * jnp.any(known[:, -1])
