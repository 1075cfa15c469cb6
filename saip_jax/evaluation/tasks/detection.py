"""Pedestrian detection in whole photos.

Boxes are predicted without anchors around the largest values of a heat map, as in CenterNet (Zhou et al. 2019). The
probe has linear layers for the centers and the sizes of persons. Photos are resized to one size; boxes are those of
whole bodies if a data set has them.
"""

from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.special import expit

from input_pipeline.fields.boxes import box_of, boxes_in
from input_pipeline.sources.held_out import order_by_hash
from saip_jax.evaluation.dense_ridge import DenseRidge
from saip_jax.evaluation.encoders import Encoder, encode_source
from saip_jax.evaluation.metrics.boxes import DetectedBoxes, TrueBoxes, evaluate_boxes
from saip_jax.evaluation.metrics.crowdhuman import evaluate_crowdhuman
from saip_jax.evaluation.resampling import Resampling
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, LabeledImages
from saip_jax.evaluation.tasks.base import Result, facts_of
from saip_jax.methods.finetune.detection import read_maps

IMAGE_HW = (256, 384)  # photos are wider than crops of persons
_PLACES = 4  # pixels of the heat map along the side of a cell
_SIGMA = 1.5  # of its peaks, in these pixels
_MOST = 100  # detections per photo

Detections = tuple[np.ndarray, np.ndarray]
"""Detections of a photo: (n, 4) x, y, width, height as fractions of its size, and (n,) scores, 0 to 1."""


def probe_detection(encoder: Encoder, data: Data) -> Result:
  """Ridge regressions of a heat map of the centers of persons, and of sizes from the cells at the centers."""
  train, test = data.train_and_test(whole=True)
  boxes, damaged = [person_boxes(train, i) for i in range(len(train))], []
  centers, cells, sizes, owners = DenseRidge(_PLACES, 1), [], [], []
  for part in encode_source(encoder, train.source, damaged):
    grid = part.cells.shape[1:3]
    of_photo = [boxes[row][0][~boxes[row][1]] for row in part.rows]
    maps = np.stack([_peaks(each, tuple(n * _PLACES for n in grid)) for each in of_photo])
    centers.add(part.cells, maps[..., None], np.ones((len(maps), 1), bool), part.rows)
    for row, features, each in zip(part.rows, part.cells, of_photo):
      places = np.minimum((each[:, :2] + each[:, 2:] / 2) * grid[::-1], np.array(grid[::-1]) - 1e-6).astype(int)
      cells.append(features[places[:, 1], places[:, 0]])
      sizes.append(np.log(each[:, 2:]))
      owners += [row] * len(each)
  if not owners:
    raise ValueError(f"the {len(train)} photos of {train.source.identity['name']!r} have no boxes: expected some")
  centers.fit()
  size = fit_ridge(np.concatenate(cells), np.concatenate(sizes), groups=np.array(owners))
  found, numbers = [], []
  for part in encode_source(encoder, test.source, damaged):
    maps = centers.predict(part.cells)[..., 0]
    for row, features, heat in zip(part.rows, part.cells, maps):
      found.append(_detections(heat, features, size))
      numbers.append(row)
  return score_detections(found, np.array(numbers), test, facts_of(train=train, test=test), damaged)


def finetuned_detection(network: Encoder, data: Data) -> Result:
  """Persons are at the local maxima of the heat map, with the boxes predicted there."""
  train, test = data.train_and_test(whole=True)
  damaged, found, rows = [], [], []
  for part in encode_source(network, test.source, damaged):
    found += map(boxes_of_maps, *map(np.asarray, read_maps(part.cells)))
    rows.append(part.rows)
  return score_detections(found, np.concatenate(rows), test, facts_of(train=train, test=test), damaged)


def boxes_of_maps(logits: np.ndarray, sides: np.ndarray) -> Detections:
  """Returns the detections of a photo by the maps of a fine-tuned head.

  Args:
    logits: (h, w) of the centers of persons.
    sides: (h, w, 4) distances in cells to the left, top, right and bottom of the box.
  """
  rows, columns, scores = highest_peaks(expit(logits.astype(np.float64)))
  left, top, right, bottom = sides[rows, columns].T
  boxes = np.stack([columns + 0.5 - left, rows + 0.5 - top, left + right, top + bottom], axis=1)
  return boxes / np.tile(logits.shape[::-1], 2), scores


def person_boxes(images: LabeledImages, i: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the boxes of a photo, (n, 4) x, y, width, height as fractions of its size, clipped, and (n,) ignored."""
  people = images.facts[i].get("people") or []
  if not all(map(box_of, people)):
    raise ValueError(
      f"a person in {images.source.name(i)} of {images.source.identity['name']!r} has no box: detection "
      "needs one for each person; choose other --data"
    )
  return boxes_in(people, images.size_hw(i))


def _peaks(boxes: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
  """Returns (h, w), the maximum of Gaussians around the centers of boxes (n, 4), fractions."""
  x, y = (np.arange(n) + 0.5 for n in reversed(hw))
  at = (boxes[:, :2] + boxes[:, 2:] / 2) * hw[::-1]
  fall = lambda grid, center: np.exp(-0.5 * ((grid - center[:, None]) / _SIGMA) ** 2)
  return np.max(fall(y, at[:, 1])[:, :, None] * fall(x, at[:, 0])[:, None], axis=0, initial=0.0)


def _detections(heat: np.ndarray, cells: np.ndarray, size) -> tuple[np.ndarray, np.ndarray]:
  """Returns (n, 4) boxes as fractions and (n,) scores 0 to 1, best first, of a heat map (h, w) and its cells."""
  rows, columns, scores = highest_peaks(heat)
  wide_high = np.exp(np.clip(size.predict(cells[rows // _PLACES, columns // _PLACES]), -10, 0))
  xy = np.stack([(columns + 0.5) / heat.shape[1], (rows + 0.5) / heat.shape[0]], axis=1)
  return np.concatenate([xy - wide_high / 2, wide_high], axis=1), scores


def highest_peaks(heat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns rows, columns and values, clipped to 0 to 1, of at most 100 local maxima of a heat map (h, w)."""
  rows, columns = np.nonzero(heat == maximum_filter(heat, 3))
  best = np.argsort(-heat[rows, columns], kind="stable")[:_MOST]
  rows, columns = rows[best], columns[best]
  return rows, columns, np.clip(heat[rows, columns], 0, 1)


def score_detections(
  found: list[Detections], rows: np.ndarray, test: LabeledImages, facts: dict[str, Any], damaged: list[str]
) -> Result:
  """Measures detected persons.

  Among detections with equal scores those of the earlier photo rank first, as in the published evaluators. Photos are
  ordered by a hash of their names, so that scores do not depend on the order of files.

  Args:
    found: detections of n photos.
    rows: (n,) int, the positions of these photos in `test`.
    test: the test part.
    facts: facts about the protocol, see `Result`.
    damaged: see `Result`.
  """
  order = order_by_hash([test.source.name(int(row)) for row in rows])
  found, rows = [found[k] for k in order], rows[order]
  sizes = np.array([test.size_hw(int(row))[::-1] for row in rows], np.float64)
  in_pixels = lambda shares, number: shares * np.tile(sizes[number], 2)
  truth = [person_boxes(test, int(row)) for row in rows]
  of = lambda lengths: np.repeat(np.arange(len(rows)), lengths)
  true = TrueBoxes(
    of([len(b) for b, _ in truth]),
    np.concatenate([in_pixels(b, n) for n, (b, _) in enumerate(truth)]),
    np.concatenate([ignored for _, ignored in truth]),
  )
  detected = DetectedBoxes(
    of([len(b) for b, _ in found]),
    np.concatenate([in_pixels(b, n) for n, (b, _) in enumerate(found)]),
    np.concatenate([scores for _, scores in found]),
  )
  crowd, coco = evaluate_crowdhuman(true, detected, sizes), evaluate_boxes(true, detected)
  scores = {"AP@0.5": crowd.AP, "MR-2": crowd.MR, "JI": crowd.JI, "AP_coco": coco.AP}
  facts = facts | {
    "persons": crowd.persons,
    "MR-2": "0 is best",
    "scales": "1.0",
    "JI": "of a matching of most pairs, as mmdet; CrowdDet's tool uses that of largest total IoU",
  }
  resampling = Resampling("AP@0.5", rows, lambda weights: crowd.resampled_AP(weights.astype(int)))
  return Result(scores, facts, damaged, resampling)
