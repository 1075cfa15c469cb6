"""Depth and correspondence, as read from maps of features.

Depth has the errors of Eigen et al. 2014, over all pixels with a true depth together:

    AbsRel = mean |d - t| / t,  RMSE = sqrt(mean (d - t)^2),  delta1 = share with max(d / t, t / d) < 1.25
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class DepthScores:
  """What `evaluate_depth` found.

  Attributes:
    abs_rel: mean error as a fraction of the true depth.
    rmse: in the unit of the depths.
    delta1: share of pixels within a factor of 1.25; a depth that is not positive is not.
    pixels: how many these are means over.
  """

  abs_rel: float
  rmse: float
  delta1: float
  pixels: int


@dataclasses.dataclass(frozen=True)
class CorrespondenceScores:
  """What `evaluate_correspondence` found.

  Attributes:
    error_px: mean distance.
    pck: limit in pixels -> share of points no farther off.
    points: how many these are means over.
  """

  error_px: float
  pck: dict[float, float]
  points: int


def evaluate_depth(predicted: np.ndarray, true: np.ndarray, known: np.ndarray) -> DepthScores:
  """Compares depths.

  Args:
    predicted: float, any shape and unit.
    true: float, same shape and unit.
    known: bool, same shape: the pixels that count; what stands elsewhere is not read.

  Raises:
    ValueError: shapes that differ, no known depth, one that is not positive, or a prediction there that is not finite.
  """
  predicted, true, known = np.asarray(predicted, np.float64), np.asarray(true, np.float64), np.asarray(known)
  if predicted.shape != true.shape or known.shape != true.shape or known.dtype != bool:
    raise ValueError(
      f"predicted, true and known are {predicted.shape}, {true.shape} and {known.dtype} {known.shape}: "
      "expected one shape, known bool"
    )
  if not known.any():
    raise ValueError(f"none of the {known.size} depths is known: expected at least one")
  d, t = predicted[known], true[known]
  if not (np.isfinite(t) & (t > 0)).all() or not np.isfinite(d).all():
    raise ValueError("a known depth is no depth: expected true ones above 0 and finite predictions")
  within = (d < 1.25 * t) & (t < 1.25 * d)
  return DepthScores(
    float(np.mean(np.abs(d - t) / t)), float(np.sqrt(np.mean((d - t) ** 2))), float(within.mean()), len(d)
  )


def evaluate_correspondence(
  predicted_xy: np.ndarray, true_xy: np.ndarray, limits_px: Sequence[float] = (1, 3, 5, 10)
) -> CorrespondenceScores:
  """Compares where points of one image were found in another.

  Args:
    predicted_xy: (n, 2) pixels.
    true_xy: (n, 2) pixels.
    limits_px: of PCK.

  Raises:
    ValueError: shapes that do not fit, no point, or one that is not finite.
  """
  predicted, true = np.asarray(predicted_xy, np.float64), np.asarray(true_xy, np.float64)
  if true.ndim != 2 or true.shape[1] != 2 or not len(true) or predicted.shape != true.shape:
    raise ValueError(
      f"predicted_xy and true_xy have the shapes {predicted.shape} and {true.shape}: expected (n, 2) "
      "both, at least one point"
    )
  distances = np.linalg.norm(predicted - true, axis=1)
  if not np.isfinite(distances).all():
    raise ValueError(f"point {np.flatnonzero(~np.isfinite(distances))[0]} lies nowhere: expected finite places")
  return CorrespondenceScores(
    float(distances.mean()), {limit: float(np.mean(distances <= limit)) for limit in limits_px}, len(distances)
  )
