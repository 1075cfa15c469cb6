"""Multi-person parsing metrics: AP^p, AP^p_vol and PCP50 of MHP and CIHP, AP^r and AP^r_vol of CIHP.

The similarity of two persons is the mean IoU of their classes in the whole image, including background, over the
classes that either shows. All detections of the set, by falling score, are compared with the most similar true person
of their image: a hit if the similarity exceeds the threshold and the person has no hit yet, otherwise a false positive.
AP^p is the area under the monotone precision, AP^p_vol its mean over the thresholds 0.1, 0.2, ..., 0.9. PCP50 is the
mean over true persons of the fraction of their parts with an IoU above 0.5, for the detection that hit them at 0.5, and
0 for persons without a hit (Li et al. 2017; Zhao et al. 2018; as in Parsing R-CNN).

AP^r is the same for regions, the pixels of one class of one person, with the confidence of that person. Each is
compared with the true region of its class in the image that it overlaps most. There are two forms:

    APr       as defined (Hariharan et al. 2014): a true region is found once, further detections of it are false
              positives; the mean over the classes that any true person shows
    APr_CIHP  as computed by the public evaluators of CIHP, and so in published numbers (Gong et al. 2018 and later):
              every detection that overlaps a true region enough is a hit, even of a region that was found before, so
              that recall and AP^r can exceed 1; the mean over all classes, 0 for a class that no true person shows (nan
              there if one is detected)
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from input_pipeline.records import IGNORE_LABEL
from saip_jax.evaluation.metrics.segmentation import confusion_matrix

PARSING_THRESHOLDS = tuple(k / 10 for k in range(1, 10))
_PCP = 0.5


@dataclasses.dataclass(frozen=True)
class ParsedImage:
  """The true and the predicted persons of one image.

  Attributes:
    true_parts: (N, H, W) int, a map for each true person: classes of parts from 1, 0 elsewhere, 255 not counted.
    parts: (P, H, W) int, the same for predicted persons, without 255.
    scores: (P,) float confidences.
  """

  true_parts: np.ndarray
  parts: np.ndarray
  scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class InstanceParsingScores:
  """Results of `evaluate_instance_parsing`, 0 to 1 except `APr_CIHP`.

  Attributes:
    APp50: average precision at 0.5.
    APp_vol: mean over all thresholds.
    PCP50: fraction of correctly parsed parts.
    APr50: mean average precision of regions at 0.5.
    APr_vol: mean over all thresholds.
    APr_CIHP50: as computed by CIHP's evaluators, at 0.5; may exceed 1.
    APr_CIHP_vol: mean over all thresholds.
    APp: at each of `PARSING_THRESHOLDS`.
    APr: at each of `PARSING_THRESHOLDS`.
    APr_CIHP: at each of `PARSING_THRESHOLDS`.
    persons: number of true persons that count.
    persons_without_parts: number of true persons without a part, which are left out.
  """

  APp50: float
  APp_vol: float
  PCP50: float
  APr50: float
  APr_vol: float
  APr_CIHP50: float
  APr_CIHP_vol: float
  APp: tuple[float, ...]
  APr: tuple[float, ...]
  APr_CIHP: tuple[float, ...]
  persons: int
  persons_without_parts: int


def evaluate_instance_parsing(images: Iterable[ParsedImage], classes: int) -> InstanceParsingScores:
  """Measures multi-person parsing; images are consumed one by one.

  Args:
    images: the set; detections in images without persons are false positives.
    classes: number of classes, including background: 20 for CIHP.

  Raises:
    ValueError: wrong shapes, an invalid label, scores that are not finite, or no person with a part.
  """
  people, regions = _Detections(), [_Detections() for _ in range(1, classes)]
  parsed, without = [], 0
  for k, image in enumerate(images):
    true_parts, parts, of_image = np.asarray(image.true_parts), np.asarray(image.parts), np.asarray(image.scores)
    fit = parts.ndim == true_parts.ndim == 3 and parts.shape[1:] == true_parts.shape[1:]
    if not fit or of_image.shape != parts.shape[:1] or not np.isfinite(of_image).all():
      raise ValueError(
        f"image {k} has parts {parts.shape}, true_parts {true_parts.shape} and scores {of_image.shape}: "
        "expected (P, H, W), (N, H, W), and P finite scores"
      )
    shown = _shown(true_parts, classes)
    with_parts = shown.any(1)
    without += int((~with_parts).sum())
    true_parts, shown = true_parts[with_parts], shown[with_parts]
    counted = (true_parts != IGNORE_LABEL).all(0)
    for score, found, shows in zip(of_image, parts, _shown(np.where(counted, parts, 0), classes)):
      ious = np.array([_ious(true, found, classes) for true in true_parts]).reshape(-1, classes)
      means = np.nanmean(ious, axis=1)
      people.add(score, means)
      parsed.append(_parsed(ious[means.argmax()], shown[means.argmax()]) if len(means) else 0.0)
      for c in np.flatnonzero(shows):
        regions[c].add(score, ious[shown[:, c], c + 1])
    people.true += len(true_parts)
    for c, of_class in enumerate(regions):
      of_class.true += int(shown[:, c].sum())
  if not people.true:
    raise ValueError("none of the images shows a person with a part: expected at least one")
  APp = people.average_precisions()
  shown = [of_class for of_class in regions if of_class.true]
  APr = np.mean([of_class.average_precisions() for of_class in shown], axis=0)
  APr_CIHP = np.sum([of_class.average_precisions(found_once=False) for of_class in shown], axis=0) / len(regions)
  at_half = PARSING_THRESHOLDS.index(0.5)
  PCP = np.array(parsed)[people.hits(_PCP)].sum() / people.true
  return InstanceParsingScores(
    float(APp[at_half]),
    float(APp.mean()),
    float(PCP),
    float(APr[at_half]),
    float(APr.mean()),
    float(APr_CIHP[at_half]),
    float(APr_CIHP.mean()),
    tuple(APp.tolist()),
    tuple(APr.tolist()),
    tuple(APr_CIHP.tolist()),
    people.true,
    without,
  )


class _Detections:
  """Detections of one kind, persons or regions of a class, with the most similar true object of each.

  Attributes:
    true: number of true objects in the images so far.
  """

  def __init__(self):
    self.true = 0
    self._scores, self._similarity, self._takes = [], [], []

  def add(self, score: float, similarity: np.ndarray) -> None:
    """Adds a detection of the next image; `similarity` is (N,), to its true objects, not yet counted in `true`."""
    best = int(np.argmax(similarity)) if len(similarity) else -1
    self._scores.append(score)
    self._similarity.append(similarity[best] if len(similarity) else -np.inf)
    self._takes.append(self.true + best)

  def hits(self, threshold: float) -> np.ndarray:
    """Returns (D,) bool in the order of `add`, True for the most confident detection of a true object."""
    return self._ranked_hits(threshold, found_once=True)[np.argsort(self._ranked())]

  def average_precisions(self, found_once: bool = True) -> np.ndarray:
    """Returns (9,) areas under the monotone precision (Pascal VOC 2010) at `PARSING_THRESHOLDS`.

    Args:
      found_once: whether only the most confident detection of a true object is a hit, or all are.
    """
    return np.array(
      [self._average_precision(self._ranked_hits(threshold, found_once)) for threshold in PARSING_THRESHOLDS]
    )

  def _ranked(self) -> np.ndarray:
    return np.argsort(-np.array(self._scores), kind="stable")

  def _ranked_hits(self, threshold: float, found_once: bool) -> np.ndarray:
    order = self._ranked()
    rows = np.flatnonzero(np.array(self._similarity)[order] > threshold)
    hit = np.zeros(len(order), bool)
    if not found_once:
      hit[rows] = True
      return hit
    hit[rows[np.unique(np.array(self._takes)[order][rows], return_index=True)[1]]] = True
    return hit

  def _average_precision(self, hit: np.ndarray) -> float:
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(precision[hit].sum() / self.true)


def persons_of_maps(classes: np.ndarray, persons: np.ndarray) -> np.ndarray:
  """Returns (N, H, W) maps of the parts of each person, from maps as in CIHP's files.

  Args:
    classes: (H, W) int, `Category_ids`: classes of all persons.
    persons: (H, W) int, `Human_ids`: the person of a pixel, 0 for none.

  Raises:
    ValueError: shapes that differ.
  """
  if classes.shape != persons.shape:
    raise ValueError(f"classes and persons have the shapes {classes.shape} and {persons.shape}: expected the same")
  numbers = np.unique(persons[persons > 0])
  return np.where(persons == numbers[:, None, None], classes, np.zeros_like(classes))


def _ious(true: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
  """Returns (classes,) IoUs; nan for classes that neither map shows."""
  table = confusion_matrix(true, found, classes)
  right = np.diag(table)
  union = table.sum(0) + table.sum(1) - right
  return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def _parsed(ious: np.ndarray, shown: np.ndarray) -> float:
  """Returns the fraction of a person's parts that were found."""
  return float((ious[1:] > _PCP).sum() / shown.sum())


def _shown(parts: np.ndarray, classes: int) -> np.ndarray:
  """Returns (n, classes - 1) bool, whether maps (n, H, W) show each class, without the background."""
  return np.array([np.isin(np.arange(1, classes), of_one) for of_one in parts], bool).reshape(-1, classes - 1)
