"""Logistic regression on frozen features: what a linear layer can tell apart, fitted by L-BFGS."""

from typing import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from saip_jax.evaluation.linear_probe import LinearProbe, held_out_rows, standardisation

STRENGTHS = (1e-1, 1e0, 1e1, 1e2, 1e3, 1e4)
"""Penalties tried, from the strongest, each from the weights of the one before."""

_ITERATIONS = 100


class LogisticProbe(LinearProbe):
  """A linear layer that says classes or labels."""

  def logits(self, features: np.ndarray) -> np.ndarray:
    """Returns (n, C) float32 logits of features (n, D)."""
    return self.standardised(features).astype(np.float32) @ self.weights + self.intercepts


def fit_classes(
    features: np.ndarray, shares: np.ndarray, groups: np.ndarray | None = None, strengths: Sequence[float] = STRENGTHS
) -> LogisticProbe:
  """Fits  argmin_w,b  -sum_rows sum_c share_c log softmax(x w + b)_c + strength |w|^2 / 2  on standardised features x.

  Args:
    features: (n, D) float.
    shares: (n, C) float, how much of a row is of each class; they sum to at most 1, what is missing is not counted.
    groups: (n,) rows that belong together when the strength is chosen, see `ridge.fit_ridge`.
    strengths: penalties to choose from, positive: the one that is best on a held-out part.

  Raises:
    ValueError: shapes that do not fit, values that are not finite, or too few groups.
  """

  def loss(logits, shares):
    logs = log_softmax(logits, axis=1)
    gradient = np.exp(logs) * shares.sum(1, keepdims=True) - shares
    return -np.sum(shares * logs, dtype=np.float64), gradient

  return _fit(features, shares, loss, groups, strengths)


def fit_binary(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None, strengths: Sequence[float] = STRENGTHS
) -> LogisticProbe:
  """Fits a logistic regression for each column of labels, all with one strength.

  Args:
    features: (n, D) float.
    labels: (n, A) int: 0, 1, or another number where it is not known.
    groups: as in `fit_classes`.
    strengths: as in `fit_classes`.

  Raises:
    ValueError: as `fit_classes`.
  """

  def loss(logits, labels):
    known = (labels == 0) | (labels == 1)
    losses = np.where(known, np.logaddexp(0, logits) - labels * logits, 0)
    return np.sum(losses, dtype=np.float64), np.where(known, expit(logits) - labels, 0)

  return _fit(features, labels, loss, groups, strengths)


def _fit(features, targets, loss, groups, strengths) -> LogisticProbe:
  features, targets = np.asarray(features, np.float32), np.asarray(targets, np.float32)
  if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets) or not features.size:
    raise ValueError(f"features and targets have the shapes {features.shape} and {targets.shape}: expected (n, D) and "
                     "(n, C), at least one row")
  for name, array in (("features", features), ("targets", targets)):
    if not np.isfinite(array).all():
      raise ValueError(f"{name} are not finite in row {np.flatnonzero(~np.isfinite(array).all(1))[0]}")
  strengths = sorted(map(float, strengths), reverse=True)
  if not strengths or strengths[-1] <= 0:
    raise ValueError(f"strengths are {strengths}: expected at least one, all positive")
  center, scale = standardisation(features)
  x = ((features - center) / scale).astype(np.float32)
  start = np.zeros((x.shape[1] + 1, targets.shape[1]))
  if len(strengths) > 1:
    held_out = held_out_rows(len(x), groups)
    errors, weights = [], start
    for strength in strengths:
      weights = _minimise(x[~held_out], targets[~held_out], loss, strength, weights)
      errors.append(loss(_logits(x[held_out], weights), targets[held_out])[0])
    strengths = strengths[:int(np.argmin(errors)) + 1]
  for strength in strengths:
    start = _minimise(x, targets, loss, strength, start)
  return LogisticProbe(center, scale, start[:-1].astype(np.float32), start[-1].astype(np.float32), strengths[-1])


def _logits(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
  return x @ weights[:-1].astype(np.float32) + weights[-1].astype(np.float32)


def _minimise(x, targets, loss, strength: float, start: np.ndarray) -> np.ndarray:
  """Returns (D + 1, C) float64 weights, the intercepts last."""

  def value_and_gradient(flat):
    weights = flat.reshape(start.shape)
    value, gradient = loss(_logits(x, weights), targets)
    of_weights = np.concatenate([x.T @ gradient, gradient.sum(0, keepdims=True)]).astype(np.float64)
    of_weights[:-1] += strength * weights[:-1]
    return value + 0.5 * strength * np.sum(weights[:-1] ** 2), of_weights.reshape(-1)

  found = minimize(value_and_gradient, start.reshape(-1), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
  return found.x.reshape(start.shape)
