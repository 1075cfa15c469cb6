"""Depth errors of Eigen et al. 2014, over all pixels with a true depth:

AbsRel = mean |d - t| / t,  RMSE = sqrt(mean (d - t)^2),  delta1 = fraction with max(d / t, t / d) < 1.25
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class DepthScores:
  """Results of `evaluate_depth`.

  Attributes:
    abs_rel: mean error as a fraction of the true depth.
    rmse: root mean squared error, in the unit of the depths.
    delta1: fraction of pixels within a factor of 1.25; predictions that are not positive never are.
    pixels: number of pixels.
    within: (pixels,) bool, whether each known pixel is within that factor.
  """

  abs_rel: float
  rmse: float
  delta1: float
  pixels: int
  within: np.ndarray = dataclasses.field(compare=False)


def evaluate_depth(predicted: np.ndarray, true: np.ndarray, known: np.ndarray) -> DepthScores:
  """Compares predicted with true depths.

  Args:
    predicted: float, any shape and unit.
    true: float, same shape and unit.
    known: bool, same shape, True for the pixels that count; other values are not read.

  Raises:
    ValueError: shapes that differ, no known depth, or a known depth that is not positive or has no finite prediction.
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
    raise ValueError("a known depth is invalid: expected true ones above 0 and finite predictions")
  within = (d < 1.25 * t) & (t < 1.25 * d)
  return DepthScores(
    float(np.mean(np.abs(d - t) / t)), float(np.sqrt(np.mean((d - t) ** 2))), float(within.mean()), len(d), within
  )
