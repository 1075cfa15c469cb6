"""Common parts of linear probes: standardization of features, and folds for choosing the penalty."""

import dataclasses

import numpy as np

FOLDS = 5


@dataclasses.dataclass(frozen=True)
class LinearProbe:
  """A fitted linear layer.

  Attributes:
    center: (D,) means that are subtracted from the features.
    scale: (D,) deviations that the features are then divided by.
    weights: (D, T).
    intercepts: (T,).
    strength: the penalty of the fit; (T,) if each target has its own.
  """

  center: np.ndarray
  scale: np.ndarray
  weights: np.ndarray
  intercepts: np.ndarray
  strength: float | np.ndarray

  def standardized(self, features: np.ndarray) -> np.ndarray:
    """Returns standardized features (n, D), float64; raises ValueError if their width is not that of the fit."""
    if np.ndim(features) != 2 or np.shape(features)[1] != len(self.center):
      raise ValueError(f"features have the shape {np.shape(features)}: expected (n, {len(self.center)}), as fitted")
    return (np.asarray(features, np.float64) - self.center) / self.scale


def standardization(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns (D,) means and deviations of features (n, D), float64; the deviation of a constant feature is 1."""
  center, scale = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
  # Rounding leaves a constant feature with a tiny deviation, which must not be amplified.
  rounding = np.finfo(features.dtype).eps * 1e4
  return center, np.where(scale > rounding * np.maximum(1.0, np.abs(center)), scale, 1.0)


def fold_of_rows(count: int, groups: np.ndarray | None) -> np.ndarray:
  """Returns (n,) int, the fold of each row, of `FOLDS`; rows of one group are in one fold.

  Args:
    count: n.
    groups: (n,) groups of rows, such as the images of a person; None if every row is its own group.

  Raises:
    ValueError: too few groups.
  """
  groups = np.arange(count) if groups is None else np.asarray(groups)
  if groups.shape != (count,):
    raise ValueError(f"groups have the shape {groups.shape}: expected one for each of the {count} rows")
  distinct, group_of = np.unique(groups, return_inverse=True)
  if len(distinct) < 2:
    raise ValueError(
      f"all {count} rows are of one group, a person or a photo: choosing a strength needs two; "
      "choose larger data, or pass one strength"
    )
  return group_of.reshape(-1) % FOLDS
