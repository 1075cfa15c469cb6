"""Ridge regression from the cells of a grid to s x s pixels per cell: dense maps by one linear layer.

The fit is in closed form. One pass over the data sums products of features and targets, so that memory does not grow
with the number of images; held-out sums choose the strength.
"""

import numpy as np

from saip_jax.evaluation.linear_probe import FOLDS
from saip_jax.evaluation.metrics.similarity import on_distinct_rows
from saip_jax.evaluation.ridge import RIDGE_STRENGTHS


class DenseRidge:
  """A linear map (E,) -> (s, s, T) from a cell to the targets of s x s pixels in it.

  Each target is fitted on the images in which it is known.

  Args:
    places: s, pixels along the side of a cell.
    targets: T, the number of targets.
  """

  def __init__(self, places: int, targets: int):
    self._places, self._targets = places, targets
    self._sums = {}  # held out? -> sums over cells
    self._weights = None

  def add(self, cells: np.ndarray, maps: np.ndarray, known: np.ndarray, groups: np.ndarray) -> None:
    """Adds images to the training data.

    Args:
      cells: (n, h, w, E) float.
      maps: (n, h * s, w * s, T) float targets.
      known: (n, T) bool, the targets that are known in an image.
      groups: (n,) int; images of one group are held out together.
    """
    count, h, w, width = cells.shape
    s, t = self._places, self._targets
    if maps.shape != (count, h * s, w * s, t):
      raise ValueError(f"maps have the shape {maps.shape}: expected {(count, h * s, w * s, t)}, {s}x{s} places a cell")
    x = np.concatenate([cells.reshape(count, h * w, width), np.ones((count, h * w, 1))], axis=2).astype(np.float64)
    y = maps.reshape(count, h, s, w, s, t).transpose(0, 1, 3, 5, 2, 4).reshape(count, h * w, t, s * s)
    y = np.where(known[:, None, :, None], y, 0.0)
    held_out = groups % FOLDS == 0
    for part in (False, True):
      rows = held_out == part
      if rows.any():
        self._sums.setdefault(part, _Sums(width + 1, t, s * s)).add(x[rows], y[rows], known[rows])

  def fit(self) -> float:
    """Fits the added images; returns the strength, one of `RIDGE_STRENGTHS`, in units of the number of cells / 1000.

    Raises:
      ValueError: a target is not known in any image.
    """
    total = _Sums.total(self._sums.values())
    for missing in np.flatnonzero(total.images == 0):
      raise ValueError(f"target {missing} is known in none of the images: expected at least one")
    strength = RIDGE_STRENGTHS[0]
    if len(self._sums) == 2:
      fitted, held_out = self._sums[False], self._sums[True]
      errors = [held_out.error(fitted.solve(s)) / np.maximum(held_out.squares.sum(1), 1e-12) for s in RIDGE_STRENGTHS]
      strength = RIDGE_STRENGTHS[int(np.argmin(np.sum(errors, axis=1)))]
    self._weights = total.solve(strength)
    return strength

  def predict(self, cells: np.ndarray) -> np.ndarray:
    """Returns maps (n, h * s, w * s, T) float64 of cells (n, h, w, E); equal cells have equal results."""
    count, h, w, width = cells.shape
    s, t = self._places, self._targets
    if width + 1 != self._weights.shape[1]:
      raise ValueError(f"cells are {width} wide: expected {self._weights.shape[1] - 1}, as fitted")
    weights = self._weights.transpose(1, 0, 2).reshape(width + 1, t * s * s)
    blocks = on_distinct_rows(
      lambda rows: rows.astype(np.float64) @ weights[:-1] + weights[-1], cells.reshape(-1, width)
    )
    return blocks.reshape(count, h, w, t, s, s).transpose(0, 1, 4, 2, 5, 3).reshape(count, h * s, w * s, t)


class _Sums:
  """Sums over cells of the products of features (the last one is 1) and targets, for each of T targets."""

  def __init__(self, width: int, targets: int, places: int):
    self.gram = np.zeros((targets, width, width))
    self.products = np.zeros((targets, width, places))
    self.squares = np.zeros((targets, places))
    self.images = np.zeros(targets, np.int64)

  def add(self, x: np.ndarray, y: np.ndarray, known: np.ndarray) -> None:
    """Adds x (n, cells, E + 1) and y (n, cells, T, s * s), zero if unknown; known is (n, T) bool."""
    grams = x.transpose(0, 2, 1) @ x
    self.gram += (known.T.astype(np.float64) @ grams.reshape(len(x), -1)).reshape(self.gram.shape)
    products = x.reshape(-1, x.shape[2]).T @ y.reshape(x.shape[0] * x.shape[1], -1)
    self.products += products.reshape(x.shape[2], *y.shape[2:]).transpose(1, 0, 2)
    self.squares += np.square(y).sum((0, 1))
    self.images += known.sum(0)

  @classmethod
  def total(cls, parts) -> "_Sums":
    """Returns the sum of `parts`."""
    parts = list(parts)
    if not parts:
      raise ValueError("no image with a known target was added: expected at least one")
    result = cls(parts[0].gram.shape[1], len(parts[0].gram), parts[0].squares.shape[1])
    for name in vars(result):
      setattr(result, name, sum(getattr(part, name) for part in parts))
    return result

  def solve(self, strength: float) -> np.ndarray:
    """Returns (T, E + 1, s * s) weights; the penalty is in units of the mean feature variance."""
    counts = np.maximum(self.gram[:, -1, -1], 1.0)
    means = self.gram[:, -1, :-1] / counts[:, None]
    variances = np.einsum("tee->te", self.gram[:, :-1, :-1]) / counts[:, None] - means**2
    penalty = strength * counts / 1000.0 * np.maximum(variances.mean(1), 1e-12)
    matrix = self.gram.copy()
    at = np.arange(matrix.shape[1] - 1)
    matrix[:, at, at] += penalty[:, None]
    matrix[:, -1, -1] += self.gram[:, -1, -1] == 0  # an unknown target: zero, not singular
    return np.linalg.solve(matrix, self.products)

  def error(self, weights: np.ndarray) -> np.ndarray:
    """Returns (T,) the sums of squared errors of weights."""
    quadratic = np.einsum("tek,tek->t", weights, self.gram @ weights)
    return quadratic - 2 * np.einsum("tek,tek->t", weights, self.products) + self.squares.sum(1)
