"""Parsing of everybody in a photo: the class of each pixel, and whose it is.

As Panoptic-DeepLab (Cheng et al. 2020) with a linear layer for each of its heads: one says the shares of the classes in
a cell, one how close the middle of a person is, and one where the middle of the person lies that the cell shows. Cells
go to the middle that is nearest to the one that they point at. Nothing is told of the test photos: no boxes.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter

from saip_jax.evaluation.encoders import Encoder, encode_source
from saip_jax.evaluation.logistic import fit_classes
from saip_jax.evaluation.metrics.instance_parsing import ParsedImage, evaluate_instance_parsing, persons_of_maps
from saip_jax.evaluation.metrics.segmentation import IGNORED_LABEL, confusion_matrix, segmentation_scores
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, LabeledImages
from saip_jax.evaluation.tasks.base import Result, facts_of
from saip_jax.evaluation.tasks.grid_cells import average_over_cells, resize_bilinear, sample_cells
from saip_jax.evaluation.tasks.parsing import part_labels, part_names

_PLACES = 4  # along a cell, on which middles are sought
_REACH = 4  # places all around a middle in which there is no other
_SIGMA = 1.0  # of the peaks around middles, in cells
_LEAST = 0.1  # of a peak for it to be a person, as in the paper
_MOST = 50  # persons of a photo


def probe_multi_parsing(encoder: Encoder, data: Data) -> Result:
  """Logistic regression of the classes, ridge regressions of the middles and of the way to them, on each cell."""
  train, test = data.train_and_test(whole=True)
  names = part_names(train)
  classes, damaged = len(names), []
  cells, targets, of_photo = sample_cells(encoder, train, lambda i, grid: _targets(train, i, classes, grid), damaged)
  shares, near, way = np.split(targets, [classes, classes + 1], axis=1)
  shown = 2 * shares[:, 1:].sum(1) >= 1  # of the cell, by persons
  if not shown.any():
    raise ValueError(
      f"no cell of the {len(train)} photos of {train.source.identity['name']!r} shows a person: expected some to fit on"
    )
  part, middle = fit_classes(cells, shares, of_photo), fit_ridge(cells, near, groups=of_photo)
  to_middle = fit_ridge(cells[shown], way[shown], groups=of_photo[shown])

  def said() -> Iterator[ParsingMaps]:
    for encoded in encode_source(encoder, test.source, damaged):
      for row, cells in zip(encoded.rows, encoded.cells):
        say = lambda probe: probe(cells.reshape(-1, cells.shape[-1])).reshape(*cells.shape[:2], -1)
        yield int(row), say(part.logits), say(middle.predict), say(to_middle.predict)

  facts = facts_of(train=train, test=test) | {"strength": part.strength}
  return score_multi_parsing(said(), names, test, _PLACES, facts, damaged)


ParsingMaps = tuple[int, np.ndarray, np.ndarray, np.ndarray]
"""A photo, (h, w, C) logits of the classes, (h, w, 1) nearness of a middle, (h, w, 2) x, y in cells to the own one."""


def score_multi_parsing(
  said: Iterable[ParsingMaps],
  names: list[str],
  test: LabeledImages,
  places: int,
  facts: dict[str, Any],
  damaged: list[str],
) -> Result:
  """Measures persons and their parts that were predicted, by whatever.

  Args:
    said: of each photo; maps are enlarged bilinearly.
    names: (C,) of the classes.
    test: the photos.
    places: along a cell, on which middles are sought.
    facts: what must be known to compare the scores, besides what is told here.
    damaged: see `Result`; may grow while `said` is read.
  """
  classes = len(names)
  counts = np.zeros((classes, classes), np.int64)

  def parsed() -> Iterator[ParsedImage]:
    for i, logits, near, way in said:
      truth, persons = part_labels(test, i, classes), person_map(test, i)
      found = resize_bilinear(logits, truth.shape).argmax(-1)
      counts[:] += confusion_matrix(truth, found, classes)
      yield ParsedImage(persons_of_maps(truth, persons), *_persons(found, near, way, places))

  found, semantic = evaluate_instance_parsing(parsed(), classes), segmentation_scores(counts)
  scores = {
    "APp_vol": found.APp_vol,
    "APp@0.5": found.APp50,
    "PCP@0.5": found.PCP50,
    "APr_vol": found.APr_vol,
    "APr@0.5": found.APr50,
    "APr_CIHP_vol": found.APr_CIHP_vol,
    "APr_CIHP@0.5": found.APr_CIHP50,
    "mIoU": semantic.mIoU,
    "pixel_accuracy": semantic.pixel_accuracy,
  }
  told = {
    "boxes": "none",
    "persons": found.persons,
    "persons_without_parts": found.persons_without_parts,
    "APr": "each region found once (Hariharan et al. 2014), mean over the classes shown",
    "APr_CIHP": "as CIHP's public evaluators: a region may be found again, so that it can pass 100 %; mean over all "
    "classes",
    "IoU": {name: iou for name, iou in zip(names, semantic.iou) if iou == iou},
    "resolution": "of the labels",
    "scales": "1.0",
  }
  return Result(scores, facts | told, damaged)


def person_map(images: LabeledImages, i: int) -> np.ndarray:
  """Returns whose each pixel of photo i is, (H, W) uint8: 0 nobody's."""
  persons = images.plane(i, "instances.png")
  if persons is None:
    raise ValueError(
      f"{images.source.name(i)} of {images.source.identity['name']!r} does not tell persons apart: "
      "parsing of several needs instances.png for each photo; choose other --data, as cihp or people "
      "(scenes)"
    )
  return persons


def _targets(images: LabeledImages, i: int, classes: int, grid_hw: tuple[int, int]) -> np.ndarray:
  """Returns (h, w, classes + 3): shares of the classes, nearness of a middle, and x, y in cells to the own one."""
  parts, persons = part_labels(images, i, classes), person_map(images, i)
  persons = np.where((parts > 0) & (parts != IGNORED_LABEL), persons, 0)
  shares, everybody = (
    average_over_cells(parts[..., None] == np.arange(classes), grid_hw),
    np.unique(persons[persons > 0]),
  )
  if not len(everybody):
    return np.concatenate([shares, np.zeros((*grid_hw, 3))], axis=2)
  of_person = average_over_cells(persons[..., None] == everybody, grid_hw)  # (h, w, n)
  centers = _centers(grid_hw)
  middles = np.einsum("hwn,hwc->nc", of_person, centers) / of_person.sum((0, 1))[:, None]
  away = middles - centers[:, :, None]  # (h, w, n, 2)
  near = np.exp(-0.5 * (away**2).sum(3) / _SIGMA**2).max(2, keepdims=True)
  way = np.take_along_axis(away, of_person.argmax(2)[..., None, None], axis=2)[:, :, 0]
  return np.concatenate([shares, near, way], axis=2)


def _persons(found: np.ndarray, near: np.ndarray, way: np.ndarray, places: int) -> tuple[np.ndarray, np.ndarray]:
  """Classes (H, W), (h, w, 1) nearness and (h, w, 2) ways -> (P, H, W) classes of each person and (P,) how sure."""
  grid_hw = near.shape[:2]
  fine = resize_bilinear(near, tuple(n * places for n in grid_hw))[..., 0]
  rows, columns = np.nonzero((fine == maximum_filter(fine, 2 * _REACH + 1)) & (fine > _LEAST))
  best = np.argsort(-fine[rows, columns], kind="stable")[:_MOST]
  rows, columns = rows[best], columns[best]
  if not len(best):
    return np.zeros((0, *found.shape), found.dtype), np.zeros(0)
  middles = (np.stack([columns, rows], axis=1) + 0.5) / places  # (m, 2) in cells
  owners = (((_centers(grid_hw) + way)[:, :, None] - middles) ** 2).sum(3).argmin(2)  # (h, w)
  y, x = (((np.arange(pixels) + 0.5) * cells / pixels).astype(int) for pixels, cells in zip(found.shape, grid_hw))
  of_pixel = np.where(found > 0, owners[y[:, None], x], -1)
  kept = np.setdiff1d(of_pixel, [-1])
  return np.where(of_pixel == kept[:, None, None], found, 0), np.clip(fine[rows, columns][kept], 0, 1)


def _centers(grid_hw: tuple[int, int]) -> np.ndarray:
  """(h, w, 2) x, y of the centers of cells, in cells."""
  y, x = (np.arange(n) + 0.5 for n in grid_hw)
  return np.stack(np.broadcast_arrays(x, y[:, None]), axis=2)
