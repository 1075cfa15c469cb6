"""COCO's average precision and recall for any similarity of two objects.

The protocol of pycocotools 2.0 (`COCOeval.evaluate` and `accumulate`) for one category. In each image, by falling
score, a detection is matched with the most similar free true object (the later one of equals) whose similarity reaches
the threshold; ignored objects are matched only if no other is possible. A crowd can be matched any number of
times. A detection on an ignored object is not counted, nor is an unmatched one of a size outside the range. Precision
is made monotone and sampled at 101 recalls.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

COCO_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)

SMALL, MEDIUM, LARGE = (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10)
ALL_AREAS = (0.0, 1e10)
"""Square pixels, both ends included."""

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Rows of detections (d,), rows of true objects (g,) -> (d, g) float, 1 for identical ones."""


@dataclasses.dataclass(frozen=True)
class Matches:
  """Matches of D detections by falling score, for A ranges of areas and T = 10 thresholds.

  Attributes:
    hit: (A, T, D) bool: matched with a true object that counts.
    false: (A, T, D) bool: a false positive. Detections that are neither are not counted.
    ranks: (D,) rank of the detection in its image, from 0.
    objects: (A,) number of true objects that count.
  """

  hit: np.ndarray
  false: np.ndarray
  ranks: np.ndarray
  objects: np.ndarray

  def precision(self, area: int = 0) -> np.ndarray:
    """Returns (T,) average precisions over all recalls; nan if no true object counts."""
    if not self.objects[area]:
      return np.full(len(COCO_THRESHOLDS), np.nan)
    hits, falses = np.cumsum(self.hit[area], 1, dtype=np.float64), np.cumsum(self.false[area], 1)
    precision = hits / (hits + falses + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.concatenate([precision, np.zeros((len(precision), 1))], 1)  # for recalls that are not reached
    recall = hits / self.objects[area]
    return np.array([p[np.searchsorted(r, _RECALLS, "left")].mean() for p, r in zip(precision, recall)])

  def recall(self, area: int = 0, most: int | None = None) -> np.ndarray:
    """Returns (T,) fractions of true objects found by the best `most` detections per image; nan if none counts."""
    if not self.objects[area]:
      return np.full(len(COCO_THRESHOLDS), np.nan)
    hit = self.hit[area] if most is None else self.hit[area][:, self.ranks < most]
    return hit.sum(1) / self.objects[area]


def match_objects(
  similarity: Similarity,
  true_images: np.ndarray,
  true_areas: np.ndarray,
  crowd: np.ndarray,
  ignored: np.ndarray,
  images: np.ndarray,
  areas: np.ndarray,
  scores: np.ndarray,
  area_ranges: tuple[tuple[float, float], ...],
  most: int,
) -> Matches:
  """Matches detections with the true objects of their images.

  Args:
    similarity: similarity of detections and true objects of one image.
    true_images: (N,) int, the image of each true object.
    true_areas: (N,) float, square pixels.
    crowd: (N,) bool: a crowd, which can be matched with any number of detections.
    ignored: (N,) bool: does not count; crowds never count.
    images: (M,) int, the image of each detection.
    areas: (M,) float, square pixels.
    scores: (M,) float confidences.
    area_ranges: A pairs of smallest and largest area.
    most: number of detections per image that are used, those with the largest scores.
  """
  low, high = np.array(area_ranges).T[..., None]
  outside = lambda sizes: (sizes < low) | (sizes > high)
  ignored, left_out = ignored | crowd | outside(true_areas), outside(areas)  # (A, N), (A, M)
  hit = np.zeros((len(area_ranges), len(COCO_THRESHOLDS), len(images)), bool)
  on_ignored, ranks = np.zeros_like(hit), np.full(len(images), most)
  for found, true in _by_image(images, true_images):
    found = found[np.argsort(-scores[found], kind="stable")][:most]
    ranks[found] = np.arange(len(found))
    if len(found) and len(true):
      like = similarity(found, true)
      near = np.flatnonzero(like.max(1) >= COCO_THRESHOLDS[0])
      hit[..., found[near]], on_ignored[..., found[near]] = _match(like[near], crowd[true], ignored[:, true])
  order = np.lexsort((ranks, images, -scores))  # equal scores in the order of pycocotools: image by image
  order = order[ranks[order] < most]
  matched, left_out = (hit | on_ignored)[..., order], left_out[:, None, order]
  return Matches(hit[..., order], ~matched & ~left_out, ranks[order], (~ignored).sum(1))


def checked_rows(which: str, images: np.ndarray, **fields: tuple[np.ndarray, tuple[int, ...]]) -> list[np.ndarray]:
  """Returns images as int64, then the fields as float64.

  Args:
    which: name of the object with these fields, for messages.
    images: (n,) int, the image of each row.
    **fields: name -> n values, and the expected shape of each.

  Raises:
    ValueError: a wrong shape, images that are not integers, or a number that is not finite.
  """
  images = np.asarray(images)
  if images.ndim != 1 or images.size and images.dtype.kind not in "iu":
    raise ValueError(f"{which}.images are {images.dtype} {images.shape}: expected one integer for each row")
  checked = [images.astype(np.int64)]
  for name, (values, shape) in fields.items():
    values = np.asarray(values, np.float64)
    if values.shape != (len(images), *shape):
      raise ValueError(
        f"{which}.{name} has the shape {values.shape}: expected {(len(images), *shape)}, as "
        f"{which}.images has {len(images)} rows"
      )
    bad = np.flatnonzero(~np.isfinite(values).all(tuple(range(1, values.ndim))))
    if len(bad):
      raise ValueError(f"{which}.{name}[{bad[0]}] is not finite: expected numbers; leave that row out")
    checked.append(values)
  return checked


def _by_image(images: np.ndarray, true_images: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields the rows of detections and of true objects of each image that has detections."""
  order, true_order = np.argsort(images, kind="stable"), np.argsort(true_images, kind="stable")
  every, starts = np.unique(images[order], return_index=True)
  ends = [*starts[1:], len(images)]
  true_starts, true_ends = (np.searchsorted(true_images[true_order], every, side) for side in ("left", "right"))
  for start, end, true_start, true_end in zip(starts, ends, true_starts, true_ends):
    yield order[start:end], true_order[true_start:true_end]


def _match(like: np.ndarray, crowd: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns (A, T, d) bool matches with objects that count, and with ignored ones; like: (d, g), ignored: (A, g)."""
  limits, ignored = COCO_THRESHOLDS[:, None], ignored[:, None]
  taken = np.zeros((len(ignored), len(COCO_THRESHOLDS), len(crowd)), bool)
  hit = np.zeros((*taken.shape[:2], len(like)), bool)
  on_ignored = np.zeros_like(hit)
  for d, row in enumerate(like):
    near = (row >= limits) & (crowd | ~taken)
    counts = near & ~ignored
    hit[..., d] = counts.any(-1)
    on_ignored[..., d] = near.any(-1) & ~hit[..., d]
    near = np.where(hit[..., d, None], counts, near)
    best = len(row) - 1 - np.where(near, row, -1.0)[..., ::-1].argmax(-1)
    taken |= near & (np.arange(len(row)) == best[..., None])
  return hit, on_ignored
