"""PCK and PCKh: percentage of correct keypoints of single persons.

PCK is the fraction of joints whose distance to the true joint is at most a limit, in heights of the crop. PCKh is that
of MPII (Andriluka et al. 2014), in units of 0.6 times the diagonal of the head box.
"""

import dataclasses

import numpy as np

from input_pipeline.body import MPII_JOINTS, MPII_ROWS

PCK_LIMITS = (0.05, 0.1)

_UNCOUNTED = [MPII_JOINTS.index(joint) for joint in ("pelvis", "thorax")]
_HEAD_SIZE = 0.6  # of the diagonal


@dataclasses.dataclass(frozen=True)
class KeypointScores:
  """Results of `keypoint_scores`.

  Attributes:
    error: mean distance, as a fraction of the crop's height.
    pck: limit, as a fraction of the crop's height, -> fraction of joints within it, for `PCK_LIMITS`.
    joints: number of joints.
    within: limit -> (n,) number of joints of each row within it.
    counts: (n,) number of joints of each row.
  """

  error: float
  pck: dict[float, float]
  joints: int
  within: dict[float, np.ndarray] = dataclasses.field(compare=False)
  counts: np.ndarray = dataclasses.field(compare=False)


def keypoint_scores(
  predicted_xy: np.ndarray,
  true_xy: np.ndarray,
  visible: np.ndarray,
  heights: np.ndarray,
  weights: np.ndarray | None = None,
) -> KeypointScores:
  """Compares joints; every visible joint of every image counts once.

  Args:
    predicted_xy: (n, J, 2) pixels of the crops.
    true_xy: (n, J, 2) pixels of the crops.
    visible: (n, J) bool, the joints that count.
    heights: (n,) height of each crop in pixels.
    weights: (n,) weights of the rows, such as 1/k for k tied predictions of one joint; None for equal weights.

  Raises:
    ValueError: wrong shapes, no visible joint, or a visible joint that is not finite.
  """
  of_joint, visible = _distances(predicted_xy, true_xy, visible, heights)
  distances = of_joint[visible]
  of_row = np.ones(len(of_joint)) if weights is None else np.asarray(weights)
  counts = None if weights is None else np.broadcast_to(of_row[:, None], visible.shape)[visible]
  mean = lambda values: float(np.average(values, weights=counts))
  return KeypointScores(
    mean(distances),
    {limit: mean(distances <= limit) for limit in PCK_LIMITS},
    len(distances) if counts is None else round(float(counts.sum())),
    {limit: of_row * (of_joint <= limit).sum(1) for limit in PCK_LIMITS},
    of_row * visible.sum(1),
  )


@dataclasses.dataclass(frozen=True)
class PCKhScores:
  """Results of `evaluate_mpii`; fractions are 0 to 1.

  Attributes:
    PCKh: fraction of visible joints within 0.5 of a head, without pelvis and thorax.
    PCKh01: the same within 0.1.
    by_joint: row of `MPII_ROWS` -> its PCKh; nan if one of its joints is not visible in any person.
    joints: number of joints that count.
  """

  PCKh: float
  PCKh01: float
  by_joint: dict[str, float]
  joints: int


def evaluate_mpii(
  predicted_xy: np.ndarray, true_xy: np.ndarray, visible: np.ndarray, head_boxes_xyxy: np.ndarray
) -> PCKhScores:
  """Returns MPII's scores as HRNet and mmpose compute them, which differ in two edge cases.

  A joint exactly at a limit counts, as in HRNet but not in mmpose 1.x. PCKh@0.1 is at 0.1, as in mmpose 1.x; HRNet's
  table has the next limit, 0.11.

  Predicted and true joints share one frame. `mpii_gt_val.mat` counts pixels from 1: subtract 1 from its joints
  (published code equivalently adds 1 to predictions).

  Args:
    predicted_xy: (n, 16, 2) pixels of the photos, joints in MPII's order, from the right ankle to the left wrist.
    true_xy: (n, 16, 2) pixels of the photos.
    visible: (n, 16) bool, the joints that count, as `1 - jnt_missing`.
    head_boxes_xyxy: (n, 4) two opposite corners of each head box; persons with an empty head box are not allowed.

  Raises:
    ValueError: wrong shapes, no visible joint, a visible joint that is not finite, or an empty head box (with its
      row).
  """
  heads = np.asarray(head_boxes_xyxy, np.float64)
  if heads.shape != (len(predicted_xy), 4):
    raise ValueError(f"head_boxes_xyxy has the shape {heads.shape}: expected ({len(predicted_xy)}, 4)")
  if np.shape(true_xy)[1:2] != (len(MPII_JOINTS),):
    raise ValueError(f"true_xy has the shape {np.shape(true_xy)}: expected (n, {len(MPII_JOINTS)}, 2), joints of MPII")
  sizes = _HEAD_SIZE * np.linalg.norm(heads[:, 2:] - heads[:, :2], axis=1)
  without = np.flatnonzero(~(sizes > 0))
  if len(without):
    raise ValueError(
      f"head_boxes_xyxy[{without[0]}] is {heads[without[0]].tolist()}, an empty box: expected "
      "two corners that differ; leave that person out"
    )
  distances, visible = _distances(predicted_xy, true_xy, visible, sizes)
  counted = visible.copy()
  counted[:, _UNCOUNTED] = False
  if not counted.any():
    raise ValueError("none of the visible joints counts: expected one that is neither the pelvis nor the thorax")
  near, counts = visible & (distances <= 0.5), visible.sum(0)
  shares = np.where(counts > 0, near.sum(0) / np.maximum(counts, 1), np.nan)
  return PCKhScores(
    float(near[counted].mean()),
    float((distances <= 0.1)[counted].mean()),
    {row: float(np.mean(shares[list(joints)])) for row, joints in MPII_ROWS.items()},
    int(counted.sum()),
  )


def _distances(predicted_xy, true_xy, visible, units) -> tuple[np.ndarray, np.ndarray]:
  """Returns (n, J) distances in units, inf for invisible joints, and visible as an array.

  Raises:
    ValueError: wrong shapes, no visible joint, or a visible joint that is not finite.
  """
  predicted, true, visible = np.asarray(predicted_xy, np.float64), np.asarray(true_xy, np.float64), np.asarray(visible)
  units = np.asarray(units, np.float64)
  if true.ndim != 3 or true.shape[2] != 2 or predicted.shape != true.shape:
    raise ValueError(f"predicted_xy and true_xy have the shapes {predicted.shape} and {true.shape}: expected (n, J, 2)")
  if visible.shape != true.shape[:2] or visible.dtype != bool or units.shape != true.shape[:1]:
    raise ValueError(
      f"visible is {visible.dtype} {visible.shape} and heights {units.shape}: expected bool "
      f"{true.shape[:2]} and {true.shape[:1]}"
    )
  if not visible.any():
    raise ValueError(f"none of the {visible.size} joints is visible: expected at least one")
  pixels = np.where(visible, np.linalg.norm(predicted - true, axis=2), np.inf)
  if not (np.isfinite(pixels) | ~visible).all() or not (units[visible.any(1)] > 0).all():
    raise ValueError("a visible joint is not finite: expected finite places and positive heights")
  return pixels / np.where(units > 0, units, 1.0)[:, None], visible
