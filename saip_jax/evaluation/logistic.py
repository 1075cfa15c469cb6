"""Logistic regression on frozen features, fitted by Newton's method, all folds and labels at once."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from saip_jax.evaluation.linear_probe import FOLDS, LinearProbe, fold_of_rows, standardization
from saip_jax.evaluation.newton import Loss, minimize_all, principal_directions

LOGISTIC_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
"""Candidate penalties, tried from the strongest until `_PATIENCE` in a row do not improve: weak ones are slow.

Each fit starts from the weights of the one before.
"""

_PATIENCE = 2


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
  features, shares = _checked(features, shares)
  probe = _fit(features, shares[:, None, :], _of_classes, groups, strengths, 1)
  return dataclasses.replace(probe, strength=probe.strength[0])


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
  signs = np.where(np.isfinite(labels), (labels == 1) * 1.0 - (labels == 0), np.nan)  # `_checked` refuses nan
  features, signs = _checked(features, signs if weights is None else signs * weights)
  return _fit(features, signs[:, :, None], _of_labels, groups, strengths, FOLDS)


def _of_classes(logits: np.ndarray, shares: np.ndarray) -> Loss:
  """Returns the `Loss` of one problem with C classes, from logits and shares (n, P, C)."""
  logits = logits - logits.max(2, keepdims=True)
  odds = np.exp(logits)
  sums, counted = odds.sum(2, keepdims=True), shares.sum(2, keepdims=True)
  p = odds / sums

  def product(change):
    likely = p * change
    return counted * (likely - p * likely.sum(2, keepdims=True))

  errors = np.sum(counted * np.log(sums), axis=(0, 2), dtype=np.float64)
  errors -= np.sum(shares * logits, axis=(0, 2), dtype=np.float64)
  seen = counted * p
  curvature = -np.einsum("npc,npd->pcd", seen, p, optimize=True) / len(p)
  curvature += seen.mean(0)[:, :, None] * np.eye(p.shape[2], dtype=p.dtype)
  return Loss(errors, seen - shares, curvature, product)


def _of_labels(logits: np.ndarray, weighted_signs: np.ndarray) -> Loss:
  """Returns the `Loss` of a problem for each label, from logits and weighted signs (n, P, 1)."""
  against, weights = -np.sign(weighted_signs) * logits, np.abs(weighted_signs)
  small = np.exp(-np.abs(against))
  losses = weights * (np.maximum(against, 0) + np.log1p(small))
  wrong = np.where(against > 0, 1, small) / (1 + small)  # the logistic function of `against`, without overflow
  curvature = weights * wrong * (1 - wrong)
  errors = np.sum(losses, axis=(0, 2), dtype=np.float64)
  return Loss(errors, -weighted_signs * wrong, curvature.mean(0)[:, :, None], lambda change: curvature * change)


def _checked(features, targets) -> tuple[np.ndarray, np.ndarray]:
  """Returns features (n, D) and targets (n, T) as float32."""
  features, targets = np.asarray(features, np.float32), np.asarray(targets, np.float32)
  if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets) or not features.size:
    raise ValueError(
      f"features and targets have the shapes {features.shape} and {targets.shape}: expected (n, D) and "
      "(n, C), at least one row"
    )
  for name, array in (("features", features), ("targets", targets)):
    if not np.isfinite(array).all():
      raise ValueError(f"{name} are not finite in row {np.flatnonzero(~np.isfinite(array).all(1))[0]}")
  return features, targets


def _fit(features, targets, loss, groups, strengths, turns) -> LogisticProbe:
  """Fits P problems with targets (n, P, C), each with its best strength (P,) on `turns` held-out folds.

  The fits of all folds are solved together: they share the products with the features. The fit of all rows starts from
  the mean of theirs.
  """
  strengths = sorted(map(float, strengths), reverse=True)
  if not strengths or strengths[-1] <= 0:
    raise ValueError(f"strengths are {strengths}: expected at least one, all positive")
  center, scale = standardization(features)
  x = ((features - center) / scale).astype(np.float32)
  directions = principal_directions(x)
  x = np.concatenate([x @ directions, np.ones((len(x), 1), np.float32)], axis=1)
  rows, problems, outputs = targets.shape
  start, chosen = np.zeros((x.shape[1], problems, outputs), np.float32), np.zeros(problems, np.intp)
  if len(strengths) > 1:
    fold = fold_of_rows(rows, groups)
    held_out = (fold[:, None] == np.unique(fold)[:turns])[:, :, None, None]
    folds = held_out.shape[1]
    fitted, measured = (
      np.where(out, 0, targets[:, None]).reshape(rows, folds * problems, outputs) for out in (held_out, ~held_out)
    )
    weights, path, errors = np.tile(start, (1, folds, 1)), [], []
    for strength in strengths:
      weights, logits = minimize_all(x, fitted, loss, np.full(folds * problems, strength), weights)
      path.append(weights.reshape(-1, folds, problems, outputs).mean(1))
      errors.append(loss(logits, measured).errors.reshape(folds, problems).sum(0))
      if len(errors) - np.argmin([error.sum() for error in errors]) > _PATIENCE:
        break
    chosen = np.argmin(errors, axis=0)
    start = np.stack([path[k][:, p] for p, k in enumerate(chosen)], axis=1)
  strength = np.array(strengths)[chosen]
  weights, _ = minimize_all(x, targets, loss, strength, start)
  weights = weights.reshape(-1, problems * outputs)
  return LogisticProbe(center, scale, directions @ weights[:-1], weights[-1], strength)
