"""Logistic regression on frozen features, fitted by L-BFGS."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from saip_jax.evaluation.linear_probe import FOLDS, LinearProbe, fold_of_rows, standardization

LOGISTIC_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
"""Candidate penalties, tried from the strongest until `_PATIENCE` in a row do not improve: weak ones are slow.

Each fit starts from the weights of the one before.
"""

_PATIENCE = 2
_ITERATIONS = 100


class LogisticProbe(LinearProbe):
  """A linear layer that predicts classes or binary labels."""

  def logits(self, features: np.ndarray) -> np.ndarray:
    """Returns (n, C) float32 logits of features (n, D)."""
    return self.standardized(features).astype(np.float32) @ self.weights + self.intercepts


def fit_classes(
  features: np.ndarray,
  shares: np.ndarray,
  groups: np.ndarray | None = None,
  strengths: Sequence[float] = LOGISTIC_STRENGTHS,
) -> LogisticProbe:
  """Fits  argmin_w,b  -sum_rows sum_c share_c log softmax(x w + b)_c + strength |w|^2 / 2  on standardized features x.

  Args:
    features: (n, D) float.
    shares: (n, C) float, the fraction of each class in a row; their sum is at most 1, and the rest is not counted.
    groups: (n,) groups of rows that are held out together, see `linear_probe.fold_of_rows`.
    strengths: candidate penalties, positive, see `LOGISTIC_STRENGTHS`; the best on one held-out fold is chosen.

  Raises:
    ValueError: wrong shapes, values that are not finite, or too few groups.
  """

  def loss(logits, shares):
    logs = log_softmax(logits, axis=1)
    gradient = np.exp(logs) * shares.sum(1, keepdims=True) - shares
    return -np.sum(shares * logs, dtype=np.float64), gradient

  return _fit(features, shares, loss, groups, strengths, 1)


def fit_binary(
  features: np.ndarray,
  labels: np.ndarray,
  groups: np.ndarray | None = None,
  strengths: Sequence[float] = LOGISTIC_STRENGTHS,
  weights: np.ndarray | None = None,
) -> LogisticProbe:
  """Fits a logistic regression for each column of labels, each with the best strength for it over all folds.

  Args:
    features: (n, D) float.
    labels: (n, A) int: 0, 1, or another number if unknown.
    groups: as in `fit_classes`.
    strengths: as in `fit_classes`.
    weights: (n, A) float weights of the labels; None for equal weights.

  Raises:
    ValueError: as `fit_classes`.
  """

  labels = np.asarray(labels)
  signs = np.where(np.isfinite(labels), (labels == 1) * 1.0 - (labels == 0), np.nan)  # `_fit` refuses nan

  def loss(logits, weighted_signs):
    against = -np.sign(weighted_signs) * logits
    losses = np.abs(weighted_signs) * np.logaddexp(0, against)
    return np.sum(losses, axis=0, dtype=np.float64), -weighted_signs * expit(against)

  return _fit(features, signs if weights is None else signs * weights, loss, groups, strengths, FOLDS)


def _fit(features, targets, loss, groups, strengths, turns) -> LogisticProbe:
  """Fits with the strength that is best on `turns` held-out folds.

  `loss` is (logits, targets) -> (error, gradient with respect to the logits). The error is (), or (C,) for a strength
  per column.
  """
  features, targets = np.asarray(features, np.float32), np.asarray(targets, np.float32)
  if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets) or not features.size:
    raise ValueError(
      f"features and targets have the shapes {features.shape} and {targets.shape}: expected (n, D) and "
      "(n, C), at least one row"
    )
  for name, array in (("features", features), ("targets", targets)):
    if not np.isfinite(array).all():
      raise ValueError(f"{name} are not finite in row {np.flatnonzero(~np.isfinite(array).all(1))[0]}")
  strengths = sorted(map(float, strengths), reverse=True)
  if not strengths or strengths[-1] <= 0:
    raise ValueError(f"strengths are {strengths}: expected at least one, all positive")
  center, scale = standardization(features)
  x = ((features - center) / scale).astype(np.float32)
  start, columns = np.zeros((x.shape[1] + 1, targets.shape[1])), np.arange(targets.shape[1])
  chosen = np.intp(0)
  if len(strengths) > 1:
    fold = fold_of_rows(len(x), groups)
    held_out = [fold == number for number in np.unique(fold)[:turns]]
    weights, errors = [start] * len(held_out), []
    for strength in strengths:
      weights = [_minimize(x[~out], targets[~out], loss, strength, w) for out, w in zip(held_out, weights)]
      errors.append(sum(loss(_logits(x[out], w), targets[out])[0] for out, w in zip(held_out, weights)))
      if len(errors) - np.argmin([error.sum() for error in errors]) > _PATIENCE:
        break
    chosen = np.argmin(errors, axis=0)
  path = [start := _minimize(x, targets, loss, strength, start) for strength in strengths[: chosen.max() + 1]]
  fitted = np.stack(path)[chosen, :, columns].T.astype(np.float32)  # (D + 1, C)
  return LogisticProbe(center, scale, fitted[:-1], fitted[-1], np.array(strengths)[chosen])


def _logits(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
  return x @ weights[:-1].astype(np.float32) + weights[-1].astype(np.float32)


def _minimize(x, targets, loss, strength: float, start: np.ndarray) -> np.ndarray:
  """Returns (D + 1, C) float64 weights, the intercepts last."""

  def value_and_gradient(flat):
    weights = flat.reshape(start.shape)
    errors, gradient = loss(_logits(x, weights), targets)
    of_weights = np.concatenate([x.T @ gradient, gradient.sum(0, keepdims=True)]).astype(np.float64)
    of_weights[:-1] += strength * weights[:-1]
    return errors.sum() + 0.5 * strength * np.sum(weights[:-1] ** 2), of_weights.reshape(-1)

  found = minimize(value_and_gradient, start.reshape(-1), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
  return found.x.reshape(start.shape)
