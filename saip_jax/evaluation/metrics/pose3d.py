"""3-D pose errors of joints or mesh vertices, as for Human3.6M and 3DPW.

MPJPE is the mean distance to the true places after aligning the roots, the mean of some joints such as the hips.
PA-MPJPE is that after the least-squares rotation, uniform scale and translation of each person, without mirroring
(Procrustes; Umeyama 1991). MPVPE is the MPJPE of vertices.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Pose3DScores:
  """Results of `evaluate_pose3d`, in millimeters.

  Attributes:
    MPJPE: mean per joint position error, roots aligned.
    PA_MPJPE: after Procrustes alignment.
    by_joint: MPJPE of each joint.
    persons: number of persons.
    errors: (n,) mean distance of the joints of each person, roots aligned.
  """

  MPJPE: float
  PA_MPJPE: float
  by_joint: tuple[float, ...]
  persons: int
  errors: np.ndarray = dataclasses.field(compare=False)


def evaluate_pose3d(predicted_mm: np.ndarray, true_mm: np.ndarray, root: Sequence[int]) -> Pose3DScores:
  """Compares predicted with true joints.

  Args:
    predicted_mm: (n, J, 3) millimeters, in any translation of the frame of the truth.
    true_mm: (n, J, 3) millimeters.
    root: the joints whose mean is the root, such as (0,) or the two hips.

  Raises:
    ValueError: wrong shapes, places that are not finite, or an invalid root.
  """
  predicted, true = np.asarray(predicted_mm, np.float64), np.asarray(true_mm, np.float64)
  if true.ndim != 3 or true.shape[2] != 3 or not true.size or predicted.shape != true.shape:
    raise ValueError(
      f"predicted_mm and true_mm have the shapes {predicted.shape} and {true.shape}: expected (n, J, 3) "
      "both, at least one each"
    )
  for name, places in (("predicted_mm", predicted), ("true_mm", true)):
    bad = np.flatnonzero(~np.isfinite(places).all((1, 2)))
    if len(bad):
      raise ValueError(f"{name}[{bad[0]}] is not finite: expected numbers; leave that person out")
  root = list(root)
  if not root or not all(0 <= joint < true.shape[1] for joint in root):
    raise ValueError(f"root is {root}: expected at least one of the {true.shape[1]} joints")
  aligned = predicted - predicted[:, root].mean(1, keepdims=True) + true[:, root].mean(1, keepdims=True)
  errors = np.linalg.norm(aligned - true, axis=2)
  closest = np.linalg.norm(procrustes(predicted, true) - true, axis=2)
  by_joint = tuple(errors.mean(0).tolist())
  return Pose3DScores(float(errors.mean()), float(closest.mean()), by_joint, len(true), errors.mean(1))


def procrustes(places: np.ndarray, targets: np.ndarray) -> np.ndarray:
  """Returns places (n, J, 3) rotated, scaled and translated to be closest to targets; a single point is translated."""
  center, target_center = places.mean(1, keepdims=True), targets.mean(1, keepdims=True)
  x, y = places - center, targets - target_center
  u, spread, v = np.linalg.svd(np.swapaxes(x, 1, 2) @ y)
  signs = np.ones_like(spread)
  signs[:, -1] = np.where(np.linalg.det(u @ v) < 0, -1.0, 1.0)  # the nearest rotation, not a reflection
  size = (x**2).sum((1, 2))
  scale = (spread * signs).sum(1) / np.where(size > 0, size, 1.0)
  return scale[:, None, None] * (x @ (u * signs[:, None]) @ v) + target_center
