"""Attribute recognition: mA and example-based scores.

The definitions of Jia et al. 2021, "Rethinking of Pedestrian Attribute Recognition", used in tables of PETA, RAP and
PA-100K. An attribute is predicted where its probability is above the threshold.

    mA         mean over attributes of (true positive rate + true negative rate) / 2
    accuracy   mean over images of |predicted and true| / |predicted or true|
    precision  mean over images of |predicted and true| / |predicted|
    recall     mean over images of |predicted and true| / |true|
    f1         of these two means, not the mean of F1 over images

A quotient with denominator 0 counts as 0, as in the paper. So an attribute that is always or never true contributes at
most 1/2 to mA; the scores list these attributes.
"""

import dataclasses

import numpy as np

THRESHOLD = 0.5
"""Usual probability above which an attribute is predicted."""


@dataclasses.dataclass(frozen=True)
class AttributeScores:
  """Results of `evaluate_attributes`; fractions are 0 to 1.

  Attributes:
    mA: mean over attributes of balanced accuracy.
    accuracy: mean over images.
    precision: mean over images.
    recall: mean over images.
    f1: harmonic mean of `precision` and `recall`.
    balanced_accuracy: balanced accuracy of each attribute; mA is their mean.
    one_sided: the attributes that are true of every image or of none.
    images: number of images.
    images_without: number of images without a true attribute.
  """

  mA: float
  accuracy: float
  precision: float
  recall: float
  f1: float
  balanced_accuracy: tuple[float, ...]
  one_sided: tuple[int, ...]
  images: int
  images_without: int


def evaluate_attributes(
  probabilities: np.ndarray, labels: np.ndarray, threshold: float | np.ndarray = THRESHOLD
) -> AttributeScores:
  """Compares predicted with true attributes.

  Args:
    probabilities: (n, A) float, 0 to 1.
    labels: (n, A) int: 1 true, 0 false, 2 unknown; unknown labels (of RAP) count as 0.
    threshold: probability above which an attribute is predicted, or (A,) one for each.

  Raises:
    ValueError: wrong shapes, probabilities outside 0 to 1, or labels other than 0, 1, 2.
  """
  probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
  if probabilities.ndim != 2 or not probabilities.size or labels.shape != probabilities.shape:
    raise ValueError(
      f"probabilities and labels have the shapes {probabilities.shape} and {labels.shape}: expected "
      "(images, attributes) both, at least one each"
    )
  if not ((probabilities >= 0) & (probabilities <= 1)).all():
    row = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)).all(1))[0]
    raise ValueError(f"probabilities[{row}] are not all within 0 to 1: expected a sigmoid of the logits")
  if not np.isin(labels, (0, 1, 2)).all():
    row = np.flatnonzero(~np.isin(labels, (0, 1, 2)).all(1))[0]
    raise ValueError(
      f"labels[{row}] are not all 0, 1 or 2: expected 1 if an attribute is true, 0 if false, 2 if unknown"
    )
  threshold = np.asarray(threshold, np.float64)
  if threshold.shape not in ((), probabilities.shape[1:]):
    raise ValueError(
      f"threshold has the shape {threshold.shape}: expected one number or one for each of the "
      f"{probabilities.shape[1]} attributes"
    )
  predicted, true = probabilities > threshold, labels == 1
  both, either = predicted & true, predicted | true
  balanced = balanced_accuracy(predicted, true, np.ones(len(true)))
  accuracy = _share(both.sum(1), either.sum(1)).mean()
  precision = _share(both.sum(1), predicted.sum(1)).mean()
  recall = _share(both.sum(1), true.sum(1)).mean()
  return AttributeScores(
    mA=float(balanced.mean()),
    accuracy=float(accuracy),
    precision=float(precision),
    recall=float(recall),
    f1=float(_share(2 * precision * recall, precision + recall)),
    balanced_accuracy=tuple(balanced.tolist()),
    one_sided=tuple(np.flatnonzero(true.all(0) | ~true.any(0)).tolist()),
    images=len(true),
    images_without=int((~true.any(1)).sum()),
  )


def balanced_accuracy(predicted: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Returns (A,) balanced accuracies of (n, A) bool predictions and labels, where image i counts weights[i] times."""
  of_true = _share(weights @ (predicted & true), weights @ true)
  return (of_true + _share(weights @ ~(predicted | true), weights @ ~true)) / 2


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
  """Returns part / whole, 0 if whole is 0."""
  return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)
