"""How far predicted joints lie from the true ones, in heights of the crop."""

import dataclasses

import numpy as np

PCK_LIMITS = (0.05, 0.1)


@dataclasses.dataclass(frozen=True)
class KeypointScores:
  """What `keypoint_scores` found.

  Attributes:
    error: mean distance, as a fraction of the crop's height.
    pck: limit -> share of joints no farther off than that fraction of the crop's height, for each of `PCK_LIMITS`.
    joints: how many these are means over.
  """

  error: float
  pck: dict[float, float]
  joints: int


def keypoint_scores(
    predicted_xy: np.ndarray, true_xy: np.ndarray, visible: np.ndarray, heights: np.ndarray
) -> KeypointScores:
  """Compares joints; every visible joint of every picture counts once.

  Args:
    predicted_xy: (n, J, 2) pixels of the crops.
    true_xy: (n, J, 2) likewise.
    visible: (n, J) bool: the joints that count.
    heights: (n,) height of each crop in pixels.

  Raises:
    ValueError: shapes that do not fit, no visible joint, or a place of one that is not finite.
  """
  predicted, true, visible = np.asarray(predicted_xy, np.float64), np.asarray(true_xy, np.float64), np.asarray(visible)
  heights = np.asarray(heights, np.float64)
  if true.ndim != 3 or true.shape[2] != 2 or predicted.shape != true.shape:
    raise ValueError(f"predicted_xy and true_xy have the shapes {predicted.shape} and {true.shape}: expected (n, J, 2)")
  if visible.shape != true.shape[:2] or visible.dtype != bool or heights.shape != true.shape[:1]:
    raise ValueError(f"visible is {visible.dtype} {visible.shape} and heights {heights.shape}: expected bool "
                     f"{true.shape[:2]} and {true.shape[:1]}")
  if not visible.any():
    raise ValueError(f"none of the {visible.size} joints is visible: expected at least one")
  distances = (np.linalg.norm(predicted - true, axis=2) / heights[:, None])[visible]
  if not np.isfinite(distances).all():
    raise ValueError("a visible joint lies nowhere: expected finite places and positive heights")
  return KeypointScores(
      float(distances.mean()), {limit: float(np.mean(distances <= limit)) for limit in PCK_LIMITS}, len(distances))
