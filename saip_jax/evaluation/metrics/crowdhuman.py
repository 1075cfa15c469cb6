"""CrowdHuman's pedestrian detection metrics: AP, MR^-2 and JI.

The protocol of CrowdDet (Chu et al. 2020) as in mmdet's `CrowdHumanMetric`, for full-body boxes. All boxes are clipped
to their image. In each image the detections, by falling score, are each matched with the free person of largest IoU,
above 0.5. A detection without a match is not counted if more than half of it lies in an ignored region; otherwise it is
a false positive.

    AP     area under precision over recall by trapezoids, from the first detection on: n persons found without an error
           have AP (n - 1) / n, not 1
    MR^-2  exp of the mean log fraction of missed persons, where false positives per image first reach 0.01, 0.0178,
           0.0316, 0.0562, 0.1, 0.1778, 0.3162, 0.5623 and 1, or at the last detection; 0 is best
    JI     largest over score thresholds 0, 0.1, ..., 0.9 of the mean over images of k / (m + n - k), with k pairs of
           IoU 0.5 or more in a largest matching of m persons and n detections; unmatched ones with more than
           half of their area in an ignored region do not count, nor images with neither. As in mmdet, where detections
           are sorted by score; CrowdDet's own tool uses the matching of largest total IoU, not of most pairs, and an
           IoU above 0.5, so that in crowds beside ignored regions its JI differs in the second digit
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from saip_jax.evaluation.metrics.boxes import DetectedBoxes, TrueBoxes, checked_boxes, intersections

_OVERLAP = 0.5
_FALSE_PER_IMAGE = (0.0100, 0.0178, 0.0316, 0.0562, 0.1000, 0.1778, 0.3162, 0.5623, 1.0)
_FALSE, _HIT, _LEFT_OUT = range(3)


@dataclasses.dataclass(frozen=True)
class CrowdHumanScores:
  """Results of `evaluate_crowdhuman`, 0 to 1.

  Attributes:
    AP: average precision at IoU 0.5.
    MR: log-average miss rate MR^-2; 0 is best.
    JI: Jaccard index.
    persons: number of persons that count.
    images: number of images.
    resampled_AP: (I,) int number of times that each image counts -> AP.
  """

  AP: float
  MR: float
  JI: float
  persons: int
  images: int
  resampled_AP: Callable[[np.ndarray], float] = dataclasses.field(compare=False)


def evaluate_crowdhuman(true: TrueBoxes, found: DetectedBoxes, sizes_wh: np.ndarray) -> CrowdHumanScores:
  """Measures detected persons.

  Args:
    true: full-body boxes (`fbox`), ignored if `extra.ignore` is set or the tag is not "person".
    found: detections with scores 0 to 1, like JI's thresholds.
    sizes_wh: (I, 2) width and height in pixels of all images, also without boxes; `images` of both are its rows.

  Raises:
    ValueError: wrong shapes, numbers that are not finite, an image without a size, scores outside 0 to 1, or no person
      that counts.
  """
  true, found = checked_boxes(true, found)
  sizes = np.asarray(sizes_wh, np.float64)
  if sizes.ndim != 2 or sizes.shape[1] != 2 or not (sizes >= 1).all():
    raise ValueError(f"sizes_wh has the shape {sizes.shape}: expected (images, 2), width and height of each in pixels")
  for name, images in (("true", true.images), ("found", found.images)):
    if len(images) and not (0 <= images.min() and images.max() < len(sizes)):
      raise ValueError(
        f"{name}.images are {images.min()} to {images.max()}: expected rows of the {len(sizes)} sizes_wh"
      )
  if not ((found.scores >= 0) & (found.scores <= 1)).all():
    raise ValueError(f"found.scores are {found.scores.min()} to {found.scores.max()}: expected 0 to 1")
  persons = int((~true.ignored).sum())
  if not persons:
    raise ValueError(f"none of the {len(true.images)} boxes counts: expected one that is not ignored")
  true_boxes, boxes = _inside(true.boxes_xywh, sizes[true.images]), _inside(found.boxes_xywh, sizes[found.images])

  order, true_order = np.lexsort((-found.scores, found.images)), np.argsort(true.images, kind="stable")
  by_image = lambda rows, images: np.split(rows, np.searchsorted(images[rows], np.arange(1, len(sizes))))
  images, state = [], np.zeros(len(boxes), int)
  for rows, true_rows in zip(by_image(order, found.images), by_image(true_order, true.images)):
    images.append(_Image(boxes[rows], found.scores[rows], true_boxes[true_rows], true.ignored[true_rows]))
    state[rows] = images[-1].match()
  order = order[np.argsort(-found.scores[order], kind="stable")]
  order = order[state[order] != _LEFT_OUT]
  hit, owners = state[order] == _HIT, true.images[~true.ignored]
  area = lambda times: _area(np.repeat(hit, times[found.images[order]]), times[owners].sum())
  return CrowdHumanScores(
    _area(hit, persons),
    _miss_rate(np.cumsum(hit) / persons, np.cumsum(~hit) / len(sizes)),
    max(_jaccard(images, tenths / 10) for tenths in range(10)),
    persons,
    len(sizes),
    area,
  )


class _Image:
  """The boxes of one image: detections by falling score, and their overlaps with persons and ignored regions."""

  def __init__(self, boxes: np.ndarray, scores: np.ndarray, true_boxes: np.ndarray, ignored: np.ndarray):
    persons, regions = true_boxes[~ignored], true_boxes[ignored]
    area, person_area = np.maximum(boxes[:, 2:].prod(1), 1e-6), persons[:, 2:].prod(1)
    shared = intersections(boxes, persons)
    self.scores = scores
    self.overlaps = shared / np.maximum(area[:, None] + person_area - shared, 1e-6)
    self.in_region = _mostly_inside(boxes, regions)
    self.person_in_region = _mostly_inside(persons, regions)

  def match(self) -> np.ndarray:
    """Returns the outcome of each detection for AP and MR: _FALSE, _HIT or _LEFT_OUT."""
    state = np.where(self.in_region, _LEFT_OUT, _FALSE)
    overlaps = self.overlaps.copy()
    for d in np.flatnonzero((overlaps > _OVERLAP).any(1)):
      best = overlaps[d].argmax()
      if overlaps[d, best] > _OVERLAP:
        state[d] = _HIT
        overlaps[:, best] = 0
    return state

  def jaccard(self, threshold: float) -> float | None:
    """Returns k / (m + n - k) of the detections above a score; None if nothing counts."""
    count = int((self.scores > threshold).sum())
    overlaps = self.overlaps[:count]
    partner = np.full(count, -1)
    if overlaps.size:
      partner = maximum_bipartite_matching(csr_matrix(overlaps >= _OVERLAP), perm_type="column")
    matched = partner >= 0
    free = np.ones(overlaps.shape[1], bool)
    free[partner[matched]] = False
    k = int(matched.sum())
    n = count - int((~matched & self.in_region[:count]).sum())
    m = len(free) - int((free & self.person_in_region).sum())
    return k / (m + n - k) if m + n else None


def _mostly_inside(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
  """Returns (n,) bool, whether more than half of a box lies in one region."""
  area = np.maximum(boxes[:, 2:].prod(1), 1e-6)
  return (intersections(boxes, regions) / area[:, None] > _OVERLAP).any(1)


def _inside(boxes_xywh: np.ndarray, sizes_wh: np.ndarray) -> np.ndarray:
  """Returns boxes clipped to their images; a box outside its image becomes empty, at the edge."""
  low = np.clip(boxes_xywh[:, :2], 0, sizes_wh - 1)
  return np.concatenate([low, np.clip(boxes_xywh[:, :2] + boxes_xywh[:, 2:], 0, sizes_wh) - low], 1)


def _area(hit: np.ndarray, persons: int) -> float:
  """Returns AP; `hit` (n,) bool is whether each detection finds a person, by falling score."""
  hits = np.cumsum(hit)
  recall, precision = hits / persons, hits / np.arange(1, len(hits) + 1)
  return float(np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2))


def _miss_rate(recall: np.ndarray, false_per_image: np.ndarray) -> float:
  if not len(recall):
    return 1.0
  at = np.minimum(np.searchsorted(false_per_image, _FALSE_PER_IMAGE, "left"), len(recall) - 1)
  with np.errstate(divide="ignore"):  # no person missed: 0
    return float(np.exp(np.log(1 - recall[at]).mean()))


def _jaccard(images: list[_Image], threshold: float) -> float:
  indices = [index for index in (image.jaccard(threshold) for image in images) if index is not None]
  return float(np.mean(indices)) if indices else 0.0
