"""What linear probes have in common: features of equal scale, and held-out rows that choose the penalty."""

import dataclasses

import numpy as np

FOLDS = 5


@dataclasses.dataclass(frozen=True)
class LinearProbe:
  """A fitted linear layer.

  Attributes:
    center: (D,) subtracted from the features.
    scale: (D,) they are then divided by.
    weights: (D, T).
    intercepts: (T,).
    strength: the penalty that it was fitted with; (T,) where each target has its own.
  """

  center: np.ndarray
  scale: np.ndarray
  weights: np.ndarray
  intercepts: np.ndarray
  strength: float | np.ndarray

  def standardized(self, features: np.ndarray) -> np.ndarray:
    """Returns (n, D) float64 what the layer takes of features (n, D); raises ValueError for those of another width."""
    if np.ndim(features) != 2 or np.shape(features)[1] != len(self.center):
      raise ValueError(f"features have the shape {np.shape(features)}: expected (n, {len(self.center)}), as fitted")
    return (np.asarray(features, np.float64) - self.center) / self.scale


def standardization(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns (D,) means and deviations in float64 of features (n, D); 1 for the deviation of one that is constant."""
  center, scale = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
  # Rounding leaves a constant feature with a tiny deviation, which must not be blown up.
  rounding = np.finfo(features.dtype).eps * 1e4
  return center, np.where(scale > rounding * np.maximum(1.0, np.abs(center)), scale, 1.0)


def fold_of_rows(count: int, groups: np.ndarray | None) -> np.ndarray:
  """Returns (n,) int, which of the `FOLDS` parts each row is of; rows of one group are of the same part.

  Args:
    count: n.
    groups: (n,) rows that belong together, as a person's pictures, or None: each is on its own.

  Raises:
    ValueError: too few groups.
  """
  groups = np.arange(count) if groups is None else np.asarray(groups)
  if groups.shape != (count,):
    raise ValueError(f"groups have the shape {groups.shape}: expected one for each of the {count} rows")
  distinct, group_of = np.unique(groups, return_inverse=True)
  if len(distinct) < 2:
    raise ValueError(
      f"all {count} rows are of one group, a person or a photo: two are needed to choose a strength; "
      "choose larger data, or give one strength"
    )
  return group_of.reshape(-1) % FOLDS
