"""Parts of several persons in whole images: AP^p, AP^p_vol and PCP50 of MHP and CIHP, AP^r and AP^r_vol of CIHP.

Two persons are as like as the mean IoU of their classes in the whole image, background too, over the classes that
either shows. Detections of the whole set, best score first, each take the true person of their image that is most like
them: a hit if it is more like than the threshold and nobody took it before, else false. AP^p is the area under the
monotone precision, AP^p_vol its mean over the thresholds 0.1, 0.2, ..., 0.9. PCP50 is the mean over true persons of the
share of their parts with an IoU above 0.5, for the detection that hit them at 0.5, and 0 for persons whom none hit (Li
et al. 2017; Zhao et al. 2018; as in Parsing R-CNN).

AP^r is the same for regions: what one person shows of one class, as sure as that person. Regions of a class each take
the true one of their class in the image that they overlap most. There are two forms of it:

    APr       as defined (Hariharan et al. 2014): a true region is found once, the next detection of it is false; the
              mean of the areas over the classes that any true person shows
    APr_CIHP  as the public evaluators of CIHP compute it, and so the published numbers (Gong et al. 2018 and after):
              every detection that overlaps a true region enough is a hit, also of one that was found before, so that
              recall and AP^r can pass 1; the mean over all classes, 0 for one that no true person shows (nan there
              where one is detected)
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from saip_jax.evaluation.metrics.segmentation import IGNORED_LABEL, confusion_matrix

PARSING_THRESHOLDS = tuple(k / 10 for k in range(1, 10))
_PCP = 0.5


@dataclasses.dataclass(frozen=True)
class ParsedImage:
  """One image: its true persons, and those found.

  Attributes:
    true_parts: (N, H, W) int, one map for each person: classes of parts from 1, 0 elsewhere, 255: not counted.
    parts: (P, H, W) int likewise, without 255.
    scores: (P,) float: how sure.
  """

  true_parts: np.ndarray
  parts: np.ndarray
  scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class InstanceParsingScores:
  """What `evaluate_instance_parsing` found; 0 to 1 but for `APr_CIHP`.

  Attributes:
    APp50: average precision at 0.5.
    APp_vol: mean over all thresholds.
    PCP50: share of correctly parsed parts.
    APr50: mean average precision of regions at 0.5.
    APr_vol: mean over all thresholds.
    APr_CIHP50: as CIHP's evaluators compute it, at 0.5; may pass 1.
    APr_CIHP_vol: mean over all thresholds.
    APp: of each of `PARSING_THRESHOLDS`.
    APr: of each of `PARSING_THRESHOLDS`.
    APr_CIHP: of each of `PARSING_THRESHOLDS`.
    persons: how many true persons count.
    persons_without_parts: those left out, as they show no part.
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
  """Measures parsing of persons; images are taken one by one and need not be in memory together.

  Args:
    images: the set; in an image without persons detections are false.
    classes: of parts, background included: 20 for CIHP.

  Raises:
    ValueError: shapes that do not fit, a label that is no class, scores that are not finite, or no person with a part.
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
    somebody = shown.any(1)
    without += int((~somebody).sum())
    true_parts, shown = true_parts[somebody], shown[somebody]
    counted = (true_parts != IGNORED_LABEL).all(0)
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
  """Detections of one kind, persons or regions of a class, and the true ones that each is most like.

  Attributes:
    true: how many true ones the images so far show.
  """

  def __init__(self):
    self.true = 0
    self._scores, self._likeness, self._takes = [], [], []

  def add(self, score: float, likeness: np.ndarray) -> None:
    """Adds a detection of the next image. Args: likeness: (N,) to each true one in it, which `true` counts later."""
    best = int(np.argmax(likeness)) if len(likeness) else -1
    self._scores.append(score)
    self._likeness.append(likeness[best] if len(likeness) else -np.inf)
    self._takes.append(self.true + best)

  def hits(self, threshold: float) -> np.ndarray:
    """Returns (D,) bool in the order of `add`: the surest of those that take the same true one."""
    return self._ranked_hits(threshold, found_once=True)[np.argsort(self._ranked())]

  def average_precisions(self, found_once: bool = True) -> np.ndarray:
    """Returns (9,) for each of `PARSING_THRESHOLDS` the area under the monotone precision (Pascal VOC 2010).

    Args:
      found_once: of the detections that take the same true one only the surest is a hit, else all are.
    """
    return np.array(
      [self._average_precision(self._ranked_hits(threshold, found_once)) for threshold in PARSING_THRESHOLDS]
    )

  def _ranked(self) -> np.ndarray:
    return np.argsort(-np.array(self._scores), kind="stable")

  def _ranked_hits(self, threshold: float, found_once: bool) -> np.ndarray:
    order = self._ranked()
    rows = np.flatnonzero(np.array(self._likeness)[order] > threshold)
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
  """Returns (N, H, W) a map of parts for each person, as CIHP's files tell them.

  Args:
    classes: (H, W) int, `Category_ids`: classes of all persons.
    persons: (H, W) int, `Human_ids`: 0: nobody, else whom a pixel belongs to.

  Raises:
    ValueError: shapes that differ.
  """
  if classes.shape != persons.shape:
    raise ValueError(f"classes and persons have the shapes {classes.shape} and {persons.shape}: expected the same")
  everybody = np.unique(persons[persons > 0])
  return np.where(persons == everybody[:, None, None], classes, np.zeros_like(classes))


def _ious(true: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
  """Returns (classes,) the IoU of each class, nan where neither shows it."""
  table = confusion_matrix(true, found, classes)
  right = np.diag(table)
  union = table.sum(0) + table.sum(1) - right
  return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def _parsed(ious: np.ndarray, shown: np.ndarray) -> float:
  """Returns the share of a person's parts that were found."""
  return float((ious[1:] > _PCP).sum() / shown.sum())


def _shown(parts: np.ndarray, classes: int) -> np.ndarray:
  """Returns (n, classes - 1) bool, which classes of parts maps (n, H, W) show, the background not among them."""
  return np.array([np.isin(np.arange(1, classes), of_one) for of_one in parts], bool).reshape(-1, classes - 1)
