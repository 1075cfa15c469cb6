"""Self-distillation of a teacher into a student across views (DINO, SAIP)."""

import jax
import jax.numpy as jnp


def teacher_probabilities(logits: jax.Array, center: jax.Array, temp_teacher: float) -> jax.Array:
  """Returns teacher probabilities softmax((z - c) / temp).

  Args:
    logits: (B, T, K) float teacher logits z.
    center: (K,) float32, the moving average c of teacher logits.
    temp_teacher: temperature.

  Returns:
    (B, T, K) float32.

  Source: DINO (Caron et al. 2021, arXiv 2104.14294), algorithm 1.
  """
  return jax.nn.softmax((logits.astype(jnp.float32) - center) / temp_teacher, axis=-1)


def sinkhorn_probabilities(logits: jax.Array, temp_teacher: float, iterations: int = 3) -> jax.Array:
  """Returns teacher probabilities that use all prototypes equally over the batch, an alternative to a center.

  Sinkhorn-Knopp in log space: exp(z / temp), alternately scaled so that columns sum to 1 / K and rows to 1 / (B T),
  over all rows of the batch.

  Args:
    logits: (B, T, K) float teacher logits z.
    temp_teacher: temperature.
    iterations: number of alternations.

  Returns:
    (B, T, K) float32; rows sum to one.

  Source: SwAV (Caron et al. 2020, arXiv 2006.09882), section 3.1; DINOv2 replaces the center by it.
  """
  logs = logits.astype(jnp.float32) / temp_teacher
  for _ in range(iterations):
    logs -= jax.nn.logsumexp(logs, axis=(0, 1), keepdims=True)
    logs -= jax.nn.logsumexp(logs, axis=-1, keepdims=True)
  return jnp.exp(logs)


def matching_loss(logits: jax.Array, teacher: jax.Array, temp_student: float) -> jax.Array:
  """DINO's loss: cross-entropy between every teacher view and every other student view.

  L = mean over pairs (i, v), i != v, and samples of -sum_k p_i[k] log softmax(z_v / temp)[k], where the first T of the
  V student views are the views of the teacher. As each p_i sums to one, this is
  logsumexp(z_v / temp) - <p_i, z_v> / temp, which reads the logits twice and stores no log-softmax.

  Args:
    logits: (B, V, K) float student logits z.
    teacher: (B, T, K) float32 teacher probabilities p; they receive no gradient.
    temp_student: student temperature.

  Returns:
    float32 scalar.

  Source: DINO (Caron et al. 2021, arXiv 2104.14294), equation 3; SAIP's matching (arXiv 2503.08201) has the same term.

  Example:
    >>> import jax.numpy as jnp
    >>> teacher = jnp.float32([[[1.0, 0.0], [1.0, 0.0]]])  # one sample, two views, two prototypes
    >>> student = jnp.float32([[[5.0, 0.0], [5.0, 0.0], [5.0, 0.0]]])  # three views that agree with the teacher
    >>> print(f"{matching_loss(student, teacher, temp_student=1.0):.4f}")
    0.0067
    >>> print(f"{matching_loss(-student, teacher, temp_student=1.0):.4f}")
    5.0067
  """
  views, targets = logits.shape[1], teacher.shape[1]
  teacher = jax.lax.stop_gradient(teacher)
  normalizer = jax.nn.logsumexp(logits.astype(jnp.float32) / temp_student, axis=-1)  # (B, V)
  agreement = jnp.einsum("btk,bvk->btv", teacher.astype(logits.dtype), logits, preferred_element_type=jnp.float32)
  cross_entropy = normalizer[:, None] - agreement / temp_student  # (B, T, V)
  other_view = 1.0 - jnp.eye(targets, views)
  return jnp.sum(jnp.mean(cross_entropy, axis=0) * other_view) / jnp.sum(other_view)


def attention_loss(student: tuple[jax.Array, jax.Array], teacher: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Attention distillation: KL(teacher || student) of the query-key plus the value-value maps of the last block.

  KL = mean over samples, heads and queries of sum over keys (t + e) (log(t + e) - log(s + e)), e = 1e-10.

  Args:
    student: two arrays (B, V, heads, L, L) float32; rows sum to one.
    teacher: the same of the teacher; it receives no gradient.

  Returns:
    float32 scalar, mean over views.

  Source: SAIP (arXiv 2503.08201), as in the released code.
  """

  def divergence(s, t):
    s, t = s + 1e-10, jax.lax.stop_gradient(t) + 1e-10
    return jnp.mean(jnp.sum(t * (jnp.log(t) - jnp.log(s)), axis=-1))

  return sum(divergence(s, t) for s, t in zip(student, teacher, strict=True))


def entropy(probabilities: jax.Array) -> jax.Array:
  """Returns the mean entropy in nats of probabilities (..., K); 0 or log K indicates a collapsed teacher."""
  return -jnp.mean(jnp.sum(jax.scipy.special.xlogy(probabilities, probabilities), axis=-1))


def spread(features: jax.Array) -> jax.Array:
  """Returns the standard deviation over the batch of unit-length features, mean over dimensions, times sqrt(D).

  It is about 1 for features spread over the sphere and 0 if all images have the same feature.

  Args:
    features: (B, D) float.

  Returns:
    float32 scalar.
  """
  features = features.astype(jnp.float32)
  unit = features / jnp.maximum(jnp.linalg.norm(features, axis=-1, keepdims=True), 1e-6)
  return jnp.mean(jnp.std(unit, axis=0)) * features.shape[-1] ** 0.5
