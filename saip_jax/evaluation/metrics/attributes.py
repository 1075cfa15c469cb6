"""Recognition of a person's attributes: hat, backpack, sleeves.

The definitions of Jia et al. 2021, "Rethinking of Pedestrian Attribute Recognition", that tables of PETA, RAP and
PA-100K follow. An attribute is predicted where its probability is above the threshold.

    mA         mean over attributes of (share of its positives found + share of its negatives found) / 2
    accuracy   mean over pictures of |predicted and true| / |predicted or true|
    precision  mean over pictures of |predicted and true| / |predicted|
    recall     mean over pictures of |predicted and true| / |true|
    f1         of these two means, not the mean of each picture's own

A quotient over nothing counts as 0, as there. So an attribute that the set shows always or never reaches 1/2 at most in
mA; which ones they are is part of the scores.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class AttributeScores:
  """What `evaluate_attributes` found; shares are 0 to 1.

  Attributes:
    mA: mean accuracy, balanced within each attribute.
    accuracy: of a picture, mean over pictures, as the next two.
    precision: as above.
    recall: as above.
    f1: harmonic mean of `precision` and `recall`.
    balanced_accuracy: of each attribute; mA is their mean.
    one_sided: the attributes that are true of every picture or of none.
    pictures: how many these are means over.
    pictures_without: how many of them have no true attribute.
  """

  mA: float
  accuracy: float
  precision: float
  recall: float
  f1: float
  balanced_accuracy: tuple[float, ...]
  one_sided: tuple[int, ...]
  pictures: int
  pictures_without: int


def evaluate_attributes(
  probabilities: np.ndarray, labels: np.ndarray, threshold: float | np.ndarray = 0.5
) -> AttributeScores:
  """Compares predicted with true attributes.

  Args:
    probabilities: (n, A) float, 0 to 1.
    labels: (n, A) int, 1: true; 0: not; 2: cannot be told, which RAP writes and which counts as 0.
    threshold: above which an attribute is predicted, or (A,) one for each.

  Raises:
    ValueError: shapes that do not fit, probabilities that are none, or labels that are not 0, 1, 2.
  """
  probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
  if probabilities.ndim != 2 or not probabilities.size or labels.shape != probabilities.shape:
    raise ValueError(
      f"probabilities and labels have the shapes {probabilities.shape} and {labels.shape}: expected "
      "(pictures, attributes) both, at least one each"
    )
  if not ((probabilities >= 0) & (probabilities <= 1)).all():
    row = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)).all(1))[0]
    raise ValueError(f"probabilities[{row}] are not all within 0 to 1: expected a sigmoid of the logits")
  if not np.isin(labels, (0, 1, 2)).all():
    row = np.flatnonzero(~np.isin(labels, (0, 1, 2)).all(1))[0]
    raise ValueError(
      f"labels[{row}] are not all 0, 1 or 2: expected 1 where an attribute is true, 0 where not, 2 "
      "where it cannot be told"
    )
  threshold = np.asarray(threshold, np.float64)
  if threshold.shape not in ((), probabilities.shape[1:]):
    raise ValueError(
      f"threshold has the shape {threshold.shape}: expected one number or one for each of the "
      f"{probabilities.shape[1]} attributes"
    )
  predicted, true = probabilities > threshold, labels == 1
  both, either = predicted & true, predicted | true
  balanced = (_share(both.sum(0), true.sum(0)) + _share((~either).sum(0), (~true).sum(0))) / 2
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
    pictures=len(true),
    pictures_without=int((~true.any(1)).sum()),
  )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
  """Returns part / whole, 0 where there is no whole."""
  return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)
