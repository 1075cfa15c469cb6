"""Detection of persons in whole photos: a linear layer says where the middle of a person is, and how large they are.

Without anchors, as CenterNet does it (Zhou et al. 2019): boxes lie around the largest values of a map. Photos are
squashed to one size; boxes are those of whole bodies where a data set has such.
"""

from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter

from input_pipeline.fields.boxes import box_of, boxes_in
from saip_jax.evaluation.dense_ridge import DenseRidge
from saip_jax.evaluation.encoders import Encoder, encode_source
from saip_jax.evaluation.metrics.boxes import DetectedBoxes, TrueBoxes, evaluate_boxes
from saip_jax.evaluation.metrics.crowdhuman import evaluate_crowdhuman
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, LabeledImages, order_by_hash
from saip_jax.evaluation.tasks.base import Result, facts_of

IMAGE_HW = (256, 384)  # photos are wider than crops of persons
_PLACES = 4  # of the map along a cell
_SIGMA = 1.5  # of its peaks, in its places
_MOST = 100  # detections of a photo


def probe_detection(encoder: Encoder, data: Data) -> Result:
  """Ridge regressions of a map of the middles of persons, and of their sizes from the cells that these lie in."""
  train, test = data.train_and_test(whole=True)
  boxes, damaged = [person_boxes(train, i) for i in range(len(train))], []
  middles, cells, sizes, owners = DenseRidge(_PLACES, 1), [], [], []
  for part in encode_source(encoder, train.source, damaged):
    grid = part.cells.shape[1:3]
    of_photo = [boxes[row][0][~boxes[row][1]] for row in part.rows]
    maps = np.stack([_peaks(each, tuple(n * _PLACES for n in grid)) for each in of_photo])
    middles.add(part.cells, maps[..., None], np.ones((len(maps), 1), bool), part.rows)
    for row, features, each in zip(part.rows, part.cells, of_photo):
      places = np.minimum((each[:, :2] + each[:, 2:] / 2) * grid[::-1], np.array(grid[::-1]) - 1e-6).astype(int)
      cells.append(features[places[:, 1], places[:, 0]])
      sizes.append(np.log(each[:, 2:]))
      owners += [row] * len(each)
  if not owners:
    raise ValueError(f"the {len(train)} photos of {train.source.identity['name']!r} show nobody: expected boxes")
  middles.fit()
  size = fit_ridge(np.concatenate(cells), np.concatenate(sizes), groups=np.array(owners))
  found, numbers = [], []
  for part in encode_source(encoder, test.source, damaged):
    maps = middles.predict(part.cells)[..., 0]
    for row, features, middle in zip(part.rows, part.cells, maps):
      found.append(_detections(middle, features, size))
      numbers.append(row)
  return score_detections(found, np.array(numbers), test, facts_of(train=train, test=test), damaged)


def person_boxes(images: LabeledImages, i: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the persons of a photo: (n, 4) x, y, width, height as shares of its size, cut to it, and (n,) ignored."""
  people = images.facts[i].get("people") or []
  if not all(map(box_of, people)):
    raise ValueError(
      f"a person in {images.source.name(i)} of {images.source.identity['name']!r} has no box: detection "
      "needs one for everybody; choose other --data"
    )
  return boxes_in(people, images.size_hw(i))


def _peaks(boxes: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
  """(n, 4) shares -> (h, w), the largest of the Gaussians around the middles of the boxes."""
  x, y = (np.arange(n) + 0.5 for n in reversed(hw))
  at = (boxes[:, :2] + boxes[:, 2:] / 2) * hw[::-1]
  fall = lambda grid, center: np.exp(-0.5 * ((grid - center[:, None]) / _SIGMA) ** 2)
  return np.max(fall(y, at[:, 1])[:, :, None] * fall(x, at[:, 0])[:, None], axis=0, initial=0.0)


def _detections(middle: np.ndarray, cells: np.ndarray, size) -> tuple[np.ndarray, np.ndarray]:
  """A map (h, w) and its cells -> (n, 4) boxes as shares, and (n,) scores 0 to 1, the best first."""
  rows, columns, scores = highest_peaks(middle)
  wide_high = np.exp(np.clip(size.predict(cells[rows // _PLACES, columns // _PLACES]), -10, 0))
  xy = np.stack([(columns + 0.5) / middle.shape[1], (rows + 0.5) / middle.shape[0]], axis=1)
  return np.concatenate([xy - wide_high / 2, wide_high], axis=1), scores


def highest_peaks(middle: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(h, w) -> rows and columns of at most 100 values that are the largest among their neighbors, and these, 0 to 1."""
  rows, columns = np.nonzero(middle == maximum_filter(middle, 3))
  best = np.argsort(-middle[rows, columns], kind="stable")[:_MOST]
  rows, columns = rows[best], columns[best]
  return rows, columns, np.clip(middle[rows, columns], 0, 1)


Detections = tuple[np.ndarray, np.ndarray]
"""Of a photo: (n, 4) x, y, width, height as shares of its size, and (n,) scores, 0 to 1."""


def score_detections(
  found: list[Detections], rows: np.ndarray, test: LabeledImages, facts: dict[str, Any], damaged: list[str]
) -> Result:
  """Measures persons that were detected, by whatever.

  Of detections with equal scores those of the earlier photo come first, as in the published evaluators; photos are put
  in the order of a hash of their names, so that scores do not depend on the order of files.

  Args:
    found: in each of n photos.
    rows: (n,) int, the photos.
    test: all photos.
    facts: what must be known to compare the scores, besides what is told here.
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
  told = {
    "persons": crowd.persons,
    "MR-2": "0 is best",
    "scales": "1.0",
    "JI": "of a matching of most pairs, as mmdet; CrowdDet's tool takes that of largest total IoU",
  }
  return Result(scores, facts | told, damaged)
