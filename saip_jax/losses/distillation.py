"""Distillation of a frozen expert: distances of features, relations of tokens, and maps of attention."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from saip_jax.losses.infonce import unit

Maps = tuple[jax.Array, jax.Array]


def _mse(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.mean(jnp.square(a - b), axis=-1)


def _huber(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.mean(optax.huber_loss(a, b, delta=1.0), axis=-1)


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
  return 1 - jnp.sum(unit(a) * unit(b), axis=-1)


DISTANCES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {"mse": _mse, "huber": _huber, "cosine": _cosine}
"""Distances of features (..., E): mean squared error, Huber loss with delta 1, one minus the cosine."""


def feature_distance(student: jax.Array, expert: jax.Array, distance: str) -> jax.Array:
  """Returns the mean distance of features of the same places.

  Args:
    student: (..., E) float.
    expert: (..., E) float; they receive no gradient.
    distance: a key of `DISTANCES`.

  Returns:
    float32 scalar.

  Example:
    >>> import jax.numpy as jnp
    >>> a, b = jnp.float32([[3.0, 4.0]]), jnp.float32([[4.0, -3.0]])
    >>> [f"{feature_distance(a, b, distance):.2f}" for distance in DISTANCES]
    ['25.00', '3.50', '1.00']
  """
  return jnp.mean(DISTANCES[distance](*_wide(student, jax.lax.stop_gradient(expert))))


def image_distance(
  student: jax.Array, expert: jax.Array, distance: str, pairs: Literal["cross", "all"] = "cross"
) -> jax.Array:
  """Returns the mean distance of the image features of all views to those of the expert's views.

  Args:
    student: (B, V, E) float; the first T views are those of the expert.
    expert: (B, T, E) float; they receive no gradient.
    distance: a key of `DISTANCES`.
    pairs: "cross" leaves out pairs of the same view, T V - T remain; "all" has T V.

  Returns:
    float32 scalar.
  """
  student, expert = _wide(student, jax.lax.stop_gradient(expert))
  distances = jnp.mean(DISTANCES[distance](student[:, None], expert[:, :, None]), axis=0)  # (T, V)
  targets, views = distances.shape
  wanted = 1.0 - jnp.eye(targets, views) if pairs == "cross" else jnp.ones((targets, views))
  return jnp.sum(distances * wanted) / jnp.sum(wanted)


def relation_loss(student: jax.Array, expert: jax.Array, temperature: float) -> jax.Array:
  """Returns KL(expert || student) of the relations of tokens: which others of its image a token resembles.

  Tokens are centered over their image and scaled to unit length, f; the relation of a token is the softmax of f f^T / T
  over all other tokens. Without centering, and with itself among the others, each token would resemble itself alone:
  the tokens of vision transformers have a common part, and products of unscaled tokens saturate the softmax.

  Args:
    student: (B, N, E) float.
    expert: (B, N, F) float; they receive no gradient.
    temperature: T.

  Returns:
    float32 scalar, mean over tokens; 0 for equal relations, at most ln(N - 1) against a uniform student.
  """
  log_s, log_t = (_log_relations(x, temperature) for x in _wide(student, jax.lax.stop_gradient(expert)))
  others = ~jnp.eye(student.shape[1], dtype=bool)
  return jnp.mean(jnp.sum(jnp.where(others, jnp.exp(log_t) * (log_t - log_s), 0), axis=-1))


def _log_relations(tokens: jax.Array, temperature: float) -> jax.Array:
  """Returns the log-softmax over the other tokens, (B, N, N), -1e9 and less on the diagonal."""
  features = unit(tokens - jnp.mean(tokens, axis=1, keepdims=True))
  logits = jnp.einsum("bne,bme->bnm", features, features, precision=jax.lax.Precision.HIGHEST) / temperature
  return jax.nn.log_softmax(jnp.where(jnp.eye(logits.shape[-1], dtype=bool), -1e9, logits))


def comparable_maps(student: Maps, expert: Maps) -> tuple[Maps, Maps]:
  """Returns attention maps with equal numbers of heads: both averaged over heads where the numbers differ.

  Args:
    student: query-key and value-value maps, each (B, heads, L, L); rows sum to one.
    expert: the same, with its own number of heads.
  """
  if student[0].shape[1] == expert[0].shape[1]:
    return student, expert

  def averaged(maps: Maps) -> Maps:
    query_key, value_value = (jnp.mean(each, axis=1, keepdims=True) for each in maps)
    return query_key, value_value

  return averaged(student), averaged(expert)


def moments_of(features: jax.Array) -> dict[str, jax.Array]:
  """Returns "mean" and "variance" (E,) float32 of each channel of features (..., E)."""
  features = features.astype(jnp.float32).reshape(-1, features.shape[-1])
  return {"mean": jnp.mean(features, axis=0), "variance": jnp.var(features, axis=0)}


def standardize(features: jax.Array, moments: dict[str, jax.Array]) -> jax.Array:
  """Returns features (..., E) with mean 0 and variance 1 in each channel, in float32, given their moments."""
  centered = features.astype(jnp.float32) - moments["mean"]
  return centered * jax.lax.rsqrt(moments["variance"] + 1e-6)


def _wide(*arrays: jax.Array) -> tuple[jax.Array, ...]:
  return tuple(a.astype(jnp.float32) for a in arrays)
