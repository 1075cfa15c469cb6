"""Semantic segmentation metrics.

One confusion matrix over the whole set, at the resolution of the labels, with background as a class; pixels labeled 255
are not counted. The protocol of LIP in SCHP, and of mmsegmentation. With C[t, p] the number of pixels of class t that
are predicted as p:

    pixel accuracy  sum_c C[c, c] / sum C
    mean accuracy   mean over classes c of the truth of C[c, c] / sum_p C[c, p]
    IoU of c        C[c, c] / (sum_p C[c, p] + sum_t C[t, c] - C[c, c])

mIoU is the mean over the classes that are shown or predicted in the set; other classes have no IoU and are listed in
the scores. (SCHP counts them as 0, which differs only if a set lacks a class.)
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from input_pipeline.records import IGNORE_LABEL

LIP_FLIP_PAIRS = ((14, 15), (16, 17), (18, 19))  # arms, legs, shoes

_CHUNK = 2**20  # pixels counted at once


@dataclasses.dataclass(frozen=True)
class SegmentationScores:
  """Results of `segmentation_scores`; fractions are 0 to 1.

  Attributes:
    mIoU: mean intersection over union.
    mean_accuracy: mean over classes.
    pixel_accuracy: over all pixels.
    iou: IoU of each class; nan for absent classes.
    absent: the classes that are neither shown nor predicted.
    pixels: number of pixels that count.
  """

  mIoU: float
  mean_accuracy: float
  pixel_accuracy: float
  iou: tuple[float, ...]
  absent: tuple[int, ...]
  pixels: int


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
  """Returns (classes, classes) int64 counts of pixels by true and predicted class; sum those of several images.

  Args:
    true: int, any shape, 0 to classes - 1, or 255 for pixels that are not counted.
    predicted: int, same shape, 0 to classes - 1; not read if `true` is 255.
    classes: number of classes, at most 255.

  Raises:
    ValueError: shapes that differ, or an invalid label.
  """
  true, predicted = np.asarray(true), np.asarray(predicted)
  if true.shape != predicted.shape or true.dtype.kind not in "iu" or predicted.dtype.kind not in "iu":
    raise ValueError(
      f"true and predicted are {true.dtype} {true.shape} and {predicted.dtype} {predicted.shape}: "
      "expected integers of one shape; resize predictions to the labels"
    )
  if not 1 <= classes <= IGNORE_LABEL:
    raise ValueError(f"classes is {classes}: expected 1 to {IGNORE_LABEL}")
  table = np.zeros(2**16, np.int64)
  true, predicted = true.reshape(-1), predicted.reshape(-1)
  for start in range(0, true.size, _CHUNK):
    t, p = _as_bytes("true", true[start : start + _CHUNK]), _as_bytes("predicted", predicted[start : start + _CHUNK])
    table += np.bincount(t * np.uint16(2**8) + p, minlength=2**16)
  table = table.reshape(2**8, 2**8)
  for name, counts, last in (
    ("true", table[classes:IGNORE_LABEL].sum(1), "or 255 for ignored pixels"),
    ("predicted", table[:classes, classes:].sum(0), "for pixels that count"),
  ):
    if counts.any():
      raise ValueError(
        f"{name} has the label {classes + np.flatnonzero(counts)[0]}: expected 0 to {classes - 1}, {last}"
      )
  return table[:classes, :classes].copy()


def segmentation_scores(confusion: np.ndarray) -> SegmentationScores:
  """Returns the scores of a confusion matrix (C, C), see `confusion_matrix`.

  Raises:
    ValueError: not a square matrix of counts, or no pixel that counts.
  """
  confusion = np.asarray(confusion)
  if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1] or (confusion < 0).any():
    raise ValueError(f"confusion has the shape {confusion.shape}: expected a square matrix of counts")
  if not confusion.any():
    raise ValueError("confusion is all 0: expected pixels that count")
  right, true, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
  union = true + predicted - right
  iou = np.where(union > 0, right / np.maximum(union, 1), np.nan)
  return SegmentationScores(
    float(np.nanmean(iou)),
    float(np.mean(right[true > 0] / true[true > 0])),
    float(right.sum() / confusion.sum()),
    tuple(iou.tolist()),
    tuple(np.flatnonzero(union == 0).tolist()),
    int(confusion.sum()),
  )


def unflip(scores: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
  """Returns the scores of a mirrored image, mirrored back, for flip tests.

  Args:
    scores: (..., W, C) of the mirrored image.
    pairs: left and right classes to swap, such as `LIP_FLIP_PAIRS`.
  """
  order = np.arange(scores.shape[-1])
  for left, right in pairs:
    order[[left, right]] = right, left
  return scores[..., ::-1, order]


def _as_bytes(name: str, labels: np.ndarray) -> np.ndarray:
  """Returns labels as uint16 below 256; raises ValueError for other labels."""
  if labels.dtype != np.uint8 and labels.size and not (0 <= labels.min() and labels.max() < 2**8):
    raise ValueError(f"{name} has labels {labels.min()} to {labels.max()}: expected 0 to 255")
  return labels.astype(np.uint16)
