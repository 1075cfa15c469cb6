"""Parts of several persons in whole images: AP^p, AP^p_vol and PCP50 of MHP and CIHP.

Two persons are as like as the mean IoU of their classes in the whole image, background too, over the classes that
either shows. Detections of the whole set, best score first, each take the true person of their image that is most like
them: a hit if it is more like than the threshold and nobody took it before, else false. AP^p is the area under the
monotone precision, AP^p_vol its mean over the thresholds 0.1, 0.2, ..., 0.9. PCP50 is the mean over true persons of the
share of their parts with an IoU above 0.5, for the detection that hit them at 0.5, and 0 for persons whom none hit (Li
et al. 2017; Zhao et al. 2018; as in Parsing R-CNN).
"""

import dataclasses
from typing import Iterable

import numpy as np

from saip_jax.evaluation.metrics.segmentation import confusion_matrix

THRESHOLDS = tuple(k / 10 for k in range(1, 10))
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
  """What `evaluate_instance_parsing` found; 0 to 1.

  Attributes:
    APp50: average precision at 0.5.
    APp_vol: mean over all thresholds.
    PCP50: share of correctly parsed parts.
    APp: of each of `THRESHOLDS`.
    persons: how many true persons count.
    persons_without_parts: those left out, as they show no part.
  """

  APp50: float
  APp_vol: float
  PCP50: float
  APp: tuple[float, ...]
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
  scores, likeness, takes, parsed = [], [], [], []
  persons = without = 0
  for k, image in enumerate(images):
    true_parts, parts, of_image = np.asarray(image.true_parts), np.asarray(image.parts), np.asarray(image.scores)
    if parts.ndim != 3 or true_parts.ndim != 3 or of_image.shape != parts.shape[:1] or not np.isfinite(of_image).all():
      raise ValueError(f"image {k} has parts {parts.shape}, true_parts {true_parts.shape} and scores {of_image.shape}: "
                       "expected (P, H, W), (N, H, W), and P finite scores")
    shown = ((true_parts > 0) & (true_parts < classes)).any((1, 2))
    true_parts = true_parts[shown]
    for score, found in zip(of_image, parts):
      ious = [_ious(true, found, classes) for true in true_parts]
      means = [float(np.nanmean(iou)) for iou in ious]
      best = int(np.argmax(means)) if means else -1
      scores.append(score)
      likeness.append(means[best] if means else -np.inf)
      takes.append(persons + best)
      parsed.append(_parsed(ious[best], true_parts[best]) if means else 0.0)
    persons, without = persons + len(true_parts), without + int((~shown).sum())
  if not persons:
    raise ValueError("none of the images shows a person with a part: expected at least one")
  order = np.argsort(-np.array(scores), kind="stable")
  likeness, takes, parsed = (np.array(values)[order] for values in (likeness, takes, parsed))
  hits = {limit: _first(takes, likeness > limit) for limit in THRESHOLDS}
  precisions = [_average_precision(hit, persons) for hit in hits.values()]
  return InstanceParsingScores(
      precisions[THRESHOLDS.index(0.5)], float(np.mean(precisions)), float(parsed[hits[_PCP]].sum() / persons),
      tuple(precisions), persons, without)


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


def _parsed(ious: np.ndarray, true: np.ndarray) -> float:
  """Returns the share of a person's parts that were found."""
  parts = np.unique(true)
  return float((ious[1:] > _PCP).sum() / ((parts > 0) & (parts < len(ious))).sum())


def _first(takes: np.ndarray, like: np.ndarray) -> np.ndarray:
  """Returns (D,) bool, True for the first of the like detections that take the same person."""
  rows = np.flatnonzero(like)
  hit = np.zeros(len(takes), bool)
  hit[rows[np.unique(takes[rows], return_index=True)[1]]] = True
  return hit


def _average_precision(hit: np.ndarray, persons: int) -> float:
  """Returns the area under precision over recall, precision made monotone (Pascal VOC 2010)."""
  precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
  precision = np.maximum.accumulate(precision[::-1])[::-1]
  return float(precision[hit].sum() / persons)
