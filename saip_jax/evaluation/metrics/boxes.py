"""Person detection: COCO's average precision of boxes.

The protocol of pycocotools for one category, see coco_matching.py. The similarity of two boxes is their intersection
over union (IoU); for a crowd, their intersection over the area of the detection.
"""

import dataclasses

import numpy as np

from saip_jax.evaluation.metrics.coco_matching import ALL_AREAS, LARGE, MEDIUM, SMALL, checked_rows, match_objects

_MOST = 100


@dataclasses.dataclass(frozen=True)
class TrueBoxes:
  """Annotated boxes of N persons.

  Attributes:
    images: (N,) int, the image of each box.
    boxes_xywh: (N, 4) left, top, width and height in pixels.
    ignored: (N,) bool: a crowd or an ignored region.
    areas: (N,) square pixels of their outlines; None for those of the boxes.
  """

  images: np.ndarray
  boxes_xywh: np.ndarray
  ignored: np.ndarray
  areas: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class DetectedBoxes:
  """M detected boxes.

  Attributes:
    images: (M,) int, as in `TrueBoxes`.
    boxes_xywh: (M, 4), as in `TrueBoxes`.
    scores: (M,) float confidences.
  """

  images: np.ndarray
  boxes_xywh: np.ndarray
  scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class BoxAP:
  """Results of `evaluate_boxes`, 0 to 1; nan if no box of that size counts (pycocotools writes -1).

  Attributes:
    AP: average precision, mean over IoU 0.50, 0.55, ..., 0.95.
    AP50: at IoU 0.50.
    AP75: at IoU 0.75.
    AP_small: of persons below 32^2 pixels.
    AP_medium: up to 96^2.
    AP_large: of larger ones.
    AR1: average recall of the best detection of each image.
    AR10: of the best 10.
    AR100: of the best 100.
    AR_small: average recall of persons below 32^2 pixels, and so on.
    persons: number of persons that count.
  """

  AP: float
  AP50: float
  AP75: float
  AP_small: float
  AP_medium: float
  AP_large: float
  AR1: float
  AR10: float
  AR100: float
  AR_small: float
  AR_medium: float
  AR_large: float
  persons: int


def evaluate_boxes(true: TrueBoxes, found: DetectedBoxes) -> BoxAP:
  """Returns the twelve numbers of COCO's detection challenge.

  Args:
    true: all boxes of all images.
    found: all detections; those in images without boxes are false positives.

  Raises:
    ValueError: wrong shapes, numbers that are not finite, or no box that counts.
  """
  true, found = checked_boxes(true, found)

  def similarity(rows: np.ndarray, true_rows: np.ndarray) -> np.ndarray:
    own, other = found.boxes_xywh[rows], true.boxes_xywh[true_rows]
    shared = intersections(own, other)
    size, other_size = own[:, 2:].prod(1)[:, None], other[:, 2:].prod(1)
    whole = np.where(true.ignored[true_rows], size, size + other_size - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)

  matches = match_objects(
    similarity,
    true.images,
    true.areas,
    true.ignored,
    true.ignored,
    found.images,
    found.boxes_xywh[:, 2:].prod(1),
    found.scores,
    (ALL_AREAS, SMALL, MEDIUM, LARGE),
    _MOST,
  )
  if not matches.objects[0]:
    raise ValueError(f"none of the {len(true.images)} boxes counts: expected one that is not ignored")
  precision, *by_size = (matches.precision(area) for area in range(4))
  numbers = {"AP": precision.mean(), "AP50": precision[0], "AP75": precision[5]}
  numbers |= {f"AR{most}": matches.recall(most=most).mean() for most in (1, 10, 100)}
  for area, size in enumerate(("small", "medium", "large"), 1):
    numbers |= {f"AP_{size}": by_size[area - 1].mean(), f"AR_{size}": matches.recall(area).mean()}
  return BoxAP(**{name: float(number) for name, number in numbers.items()}, persons=int(matches.objects[0]))


def intersections(boxes_xywh: np.ndarray, others_xywh: np.ndarray) -> np.ndarray:
  """Returns (m, n) areas in square pixels of the intersections of boxes (m, 4) and others (n, 4)."""
  boxes, others = boxes_xywh[:, None], others_xywh[None]
  low = np.maximum(boxes[..., :2], others[..., :2])
  high = np.minimum(boxes[..., :2] + boxes[..., 2:], others[..., :2] + others[..., 2:])
  return np.maximum(high - low, 0).prod(-1)


def checked_boxes(true: TrueBoxes, found: DetectedBoxes) -> tuple[TrueBoxes, DetectedBoxes]:
  """Returns both as float64 arrays with areas; raises ValueError for wrong shapes or invalid numbers."""
  images, boxes, ignored = checked_rows(
    "true", true.images, boxes_xywh=(true.boxes_xywh, (4,)), ignored=(true.ignored, ())
  )
  areas = boxes[:, 2:].prod(1)
  if true.areas is not None:
    _, areas = checked_rows("true", images, areas=(true.areas, ()))
  found_images, found_boxes, scores = checked_rows(
    "found", found.images, boxes_xywh=(found.boxes_xywh, (4,)), scores=(found.scores, ())
  )
  for name, sizes in (("true", boxes[:, 2:]), ("found", found_boxes[:, 2:])):
    if (sizes < 0).any():
      raise ValueError(
        f"{name}.boxes_xywh[{np.flatnonzero((sizes < 0).any(1))[0]}] has a negative size: expected "
        "left, top, width and height"
      )
  return TrueBoxes(images, boxes, ignored > 0, areas), DetectedBoxes(found_images, found_boxes, scores)
