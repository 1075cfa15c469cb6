"""HCMoCo: contrast of joint features, with the nodes of the skeleton and across bodies."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import NEVER, cosines, weighted_mean


def node_contrast(features: jax.Array, nodes: jax.Array, visible: jax.Array, temperature: float) -> jax.Array:
  """Contrast of joint features and skeleton nodes: mean over visible joints j of -log softmax_k(r_j g_k / T)[j].

  The softmax is over all joints k of the same body.

  Args:
    features: (B, J, D) float unit vectors r, a dense map at the joints.
    nodes: (B, J, D) float unit vectors g, the nodes of the skeleton.
    visible: (B, J) bool, True for joints with a feature; the nodes of the others are negatives only.
    temperature: T.

  Returns:
    float32 scalar; 0 if no joint is visible.

  Source: HCMoCo (Hong et al. 2022, arXiv 2203.13815), joint-level contrast; from the map to the nodes only, as in the
  released code.
  """
  logs = jax.nn.log_softmax(cosines(features, nodes) / temperature, axis=-1)  # (B, J, J)
  return weighted_mean(-jnp.diagonal(logs, axis1=-2, axis2=-1), visible)


def joint_contrast(
  features: jax.Array, visible: jax.Array, temperature: float, known: jax.Array | None = None
) -> jax.Array:
  """Supervised contrast across samples and modalities: features of the same joint are positives.

  L = mean over anchors a of the mean over p in P(a) of -log( exp(z_a z_p / T) / sum_n exp(z_a z_n / T) ), where P(a)
  are the other features of the same joint, n all other features, and anchors those with P(a) not empty. Invisible
  joints are neither anchors nor positives nor negatives, and no feature is compared with itself.

  Args:
    features: (B, M, J, D) float unit vectors z, M dense maps of each sample at the joints.
    visible: (B, M, J) bool, True for joints with a feature.
    temperature: T.
    known: None, or (B, M) bool, True for existing maps, which selects the loss of the released code: all joints of an
      existing map are anchors and positives, visible or not; the normalizer includes the anchor itself and missing
      maps; anchors without a positive count as 0 in the mean over all; and the loss is 0 if no sample has the last map.

  Returns:
    float32 scalar; 0 if no joint is visible twice.

  Source: HCMoCo (Hong et al. 2022, arXiv 2203.13815), joint-level contrast across samples, after SupCon (Khosla et al.
  2020, arXiv 2004.11362), equation 2.
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
