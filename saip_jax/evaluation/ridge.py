"""Ridge regression on frozen features, in closed form."""

from collections.abc import Sequence

import numpy as np

from saip_jax.evaluation.linear_probe import LinearProbe, fold_of_rows, standardization

RIDGE_STRENGTHS = tuple(10.0**k for k in range(8))
"""Candidate penalties. Features are standardized, so thousands of features need penalties of thousands."""


class RidgeProbe(LinearProbe):
  """A linear map from features to targets."""

  def predict(self, features: np.ndarray) -> np.ndarray:
    """Returns (n, T) float64 targets of features (n, D)."""
    return self.standardized(features) @ self.weights + self.intercepts


def fit_ridge(
  features: np.ndarray,
  targets: np.ndarray,
  known: np.ndarray | None = None,
  groups: np.ndarray | None = None,
  strengths: Sequence[float] = RIDGE_STRENGTHS,
) -> RidgeProbe:
  """Fits  argmin_w,b  sum over known targets of (x w + b - y)^2 + strength |w|^2  on standardized features x.

  The strength with the least squared error on held-out rows is chosen, with every target in units of its own variance;
  then all rows are fitted, in float64.

  Args:
    features: (n, D) float.
    targets: (n, T) float.
    known: (n, T) bool, False if a target is unknown, whatever its value; None if all are known.
    groups: (n,) groups of rows, such as the images of a person; every fifth group, in sorted order, is held out. None
      if every row is its own group.
    strengths: candidate penalties, positive.

  Raises:
    ValueError: wrong shapes, values that are not finite, a target known in too few rows, too few groups, or a
      strength that is not positive.
  """
  features, targets, known = _checked(features, targets, known)
  strengths = [float(s) for s in strengths]
  if not strengths or min(strengths) <= 0:
    raise ValueError(f"strengths are {strengths}: expected at least one, all positive")
  if len(strengths) > 1:
    held_out = fold_of_rows(len(features), groups) == 0
    fitted = ~held_out
    unit = np.sqrt(_variances(targets[fitted], known[fitted]))
    errors = []
    for probe in _fit_all(features[fitted], targets[fitted], known[fitted], strengths):
      error = np.where(known[held_out], (probe.predict(features[held_out]) - targets[held_out]) / unit, 0.0)
      errors.append(np.sum(error**2))
    strengths = [strengths[int(np.argmin(errors))]]
  for t in np.flatnonzero(~known.any(0)):
    raise ValueError(f"target {t} is known in none of the {len(known)} rows: expected at least one; leave it out")
  return _fit_all(features, targets, known, strengths)[0]


def _fit_all(features: np.ndarray, targets: np.ndarray, known: np.ndarray, strengths: list[float]) -> list[RidgeProbe]:
  """Returns a probe for each strength; targets known in the same rows are solved together."""
  center, scale = standardization(features)
  x = (features - center) / scale
  packed = np.packbits(known, axis=0)  # an eighth of the bytes to compare
  _, first, pattern_of = np.unique(packed, axis=1, return_index=True, return_inverse=True)
  patterns = [
    (rows, np.flatnonzero(pattern_of.reshape(-1) == k)) for k, rows in enumerate(known.T[first]) if rows.any()
  ]
  counts = np.maximum(known.sum(0), 1)
  x_means, y_means = known.T.astype(np.float64) @ x / counts[:, None], targets.sum(0) / counts
  weights = (_by_rows if len(x) < x.shape[1] else _by_features)(x, targets, patterns, strengths)
  intercepts = [y_means - np.einsum("td,dt->t", x_means, w) for w in weights]
  return [RidgeProbe(center, scale, w, b, s) for w, b, s in zip(weights, intercepts, strengths)]


def _by_features(x, targets, patterns, strengths) -> list[np.ndarray]:
  """Returns the weights (D, T) for each strength, with centered X as  (X'X + s I)^-1 X'y."""
  weights = [np.zeros((x.shape[1], targets.shape[1])) for _ in strengths]
  for rows, own in patterns:
    centered, y = x[rows] - x[rows].mean(0), targets[rows][:, own]
    matrix, right = centered.T @ centered, centered.T @ (y - y.mean(0))
    for s, strength in enumerate(strengths):
      weights[s][:, own] = np.linalg.solve(matrix + strength * np.eye(len(matrix)), right)
  return weights


def _by_rows(x, targets, patterns, strengths) -> list[np.ndarray]:
  """Returns the weights for each strength, with weights a of the rows as  X'a,  if features outnumber rows.

  Where all is known,  (XX' + s I) a = y - b  with  sum(a) = 0  for the intercept b. An unknown row has  a = 0  instead
  of its equation. So one system is solved for all targets; each pattern adds a small one, of the sum and its unknown
  rows.
  """
  count, number = targets.shape
  missing = np.flatnonzero(~np.all([rows for rows, _ in patterns], axis=0))
  place = np.full(count, -1)
  place[missing] = 1 + np.arange(len(missing))
  conditions = np.concatenate([np.ones((count, 1)), np.eye(count)[:, missing]], axis=1)
  products, right, weights = x @ x.T, np.concatenate([targets, conditions], axis=1), []
  for strength in strengths:
    solved = np.linalg.solve(products + strength * np.eye(count), right)
    free, moved = solved[:, :number], solved[:, number:]
    of_rows = np.zeros_like(targets)
    for rows, own in patterns:
      unknown = np.flatnonzero(~rows)
      own_conditions = np.concatenate([[0], place[unknown]])
      kept = lambda array: np.concatenate([array.sum(0, keepdims=True), array[unknown]])
      found = free[:, own]
      found -= moved[:, own_conditions] @ np.linalg.solve(kept(moved[:, own_conditions]), kept(found))
      of_rows[np.ix_(rows, own)] = found[rows]
    weights.append(x.T @ of_rows)
  return weights


def _variances(targets: np.ndarray, known: np.ndarray) -> np.ndarray:
  """Returns (T,) variances of the known values; 1 if a variance is zero or no value is known."""
  counts = np.maximum(known.sum(0), 1)
  values = np.where(known, targets, 0.0)
  means = values.sum(0) / counts
  variances = np.where(known, (values - means) ** 2, 0.0).sum(0) / counts
  return np.where(variances > 0, variances, 1.0)


def _checked(features, targets, known) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
  known = np.ones(targets.shape, bool) if known is None else np.asarray(known, bool)
  if features.ndim != 2 or not features.size:
    raise ValueError(f"features have the shape {features.shape}: expected (rows, width), at least one each")
  if targets.ndim != 2 or len(targets) != len(features) or known.shape != targets.shape:
    raise ValueError(
      f"targets and known have the shapes {targets.shape} and {known.shape}: expected "
      f"({len(features)}, T) both, as there are {len(features)} rows of features"
    )
  for name, bad in (("features", ~np.isfinite(features)), ("targets", known & ~np.isfinite(targets))):
    if bad.any():
      raise ValueError(
        f"{name} are not finite in row {np.flatnonzero(bad.any(1))[0]}: expected numbers"
        + ("; mark unknown targets in `known`" if name == "targets" else "")
      )
  return features, np.where(known, targets, 0.0), known
