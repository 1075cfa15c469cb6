"""Matching of views by a student and a teacher (SAIP's CSM; its first term is DINO's loss)."""

import jax
import jax.numpy as jnp


def teacher_probabilities(logits: jax.Array, center: jax.Array, temp_teacher: float) -> jax.Array:
  """Returns softmax((z - c) / temp) in float32: (B, T, K) and (K,) -> (B, T, K)."""
  return jax.nn.softmax((logits.astype(jnp.float32) - center) / temp_teacher, axis=-1)


def sinkhorn_probabilities(logits: jax.Array, temp_teacher: float, iterations: int = 3) -> jax.Array:
  """Returns assignments in which every prototype gets the same share of the batch, instead of a center.

  Sinkhorn-Knopp: exp(z / temp), scaled in turn so that columns sum to 1 / K and rows to 1 / (B T), all rows of the
  batch together. Computed on logarithms.

  Args:
    logits: (B, T, K) teacher logits.
    temp_teacher: temperature.
    iterations: of both scalings.

  Returns:
    (B, T, K) float32, every row sums to one.

  Source: SwAV (Caron et al. 2020), section 3.1; DINOv2's replacement of centering.
  """
  logs = logits.astype(jnp.float32) / temp_teacher
  for _ in range(iterations):
    logs -= jax.nn.logsumexp(logs, axis=(0, 1), keepdims=True)
    logs -= jax.nn.logsumexp(logs, axis=-1, keepdims=True)
  return jnp.exp(logs)


def matching_loss(logits: jax.Array, teacher: jax.Array, temp_student: float) -> jax.Array:
  """Cross-entropy between every teacher view and every other student view.

  L = mean over pairs (i, v), i != v, and samples of -sum_k p_i[k] log softmax(z_v / temp)[k],
  where the first T of the V student views are the teacher's. As each p_i sums to one this is
  logsumexp(z_v / temp) - <p_i, z_v> / temp, which touches the logits twice and holds no log-softmax.

  Args:
    logits: (B, V, K) student logits.
    teacher: (B, T, K) teacher probabilities, float32; no gradient flows into them.
    temp_student: student temperature.

  Returns:
    float32 scalar.
  """
  views, targets = logits.shape[1], teacher.shape[1]
  teacher = jax.lax.stop_gradient(teacher)
  normalizer = jax.nn.logsumexp(logits.astype(jnp.float32) / temp_student, axis=-1)  # (B, V)
  agreement = jnp.einsum("btk,bvk->btv", teacher.astype(logits.dtype), logits, preferred_element_type=jnp.float32)
  cross_entropy = normalizer[:, None] - agreement / temp_student  # (B, T, V)
  other_view = 1.0 - jnp.eye(targets, views)
  return jnp.sum(jnp.mean(cross_entropy, axis=0) * other_view) / jnp.sum(other_view)


def attention_loss(student: tuple[jax.Array, jax.Array], teacher: tuple[jax.Array, jax.Array]) -> jax.Array:
  """KL(teacher || student) of the query-key plus that of the value-value maps of the last block.

  KL = mean over samples, heads and queries of sum over keys (t + e) (log(t + e) - log(s + e)), e = 1e-10.

  Args:
    student: two arrays (B, V, heads, L, L) float32 whose rows sum to one.
    teacher: the same of the teacher; no gradient flows into it.

  Returns:
    float32 scalar, mean over views.
  """

  def divergence(s, t):
    s, t = s + 1e-10, jax.lax.stop_gradient(t) + 1e-10
    return jnp.mean(jnp.sum(t * (jnp.log(t) - jnp.log(s)), axis=-1))

  return sum(divergence(s, t) for s, t in zip(student, teacher, strict=True))


def entropy(probabilities: jax.Array) -> jax.Array:
  """Returns the mean entropy in nats of (..., K) rows; a collapsed teacher has 0 or log K."""
  return -jnp.mean(jnp.sum(jax.scipy.special.xlogy(probabilities, probabilities), axis=-1))


def spread(features: jax.Array) -> jax.Array:
  """Returns the mean standard deviation over the batch of unit-length features times sqrt(D).

  About 1 for features that fill the sphere, 0 once all images look alike. Args: features (B, D).
  """
  features = features.astype(jnp.float32)
  unit = features / jnp.maximum(jnp.linalg.norm(features, axis=-1, keepdims=True), 1e-6)
  return jnp.mean(jnp.std(unit, axis=0)) * features.shape[-1] ** 0.5
