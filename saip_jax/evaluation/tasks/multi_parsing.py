"""Multi-person parsing of photos: the class of each pixel, and the person that it belongs to.

As Panoptic-DeepLab (Cheng et al. 2020): one head predicts the classes, one a heat map of the centers of persons, and
one the offset from a cell to the center of its person. A cell belongs to the center nearest to the one it points at.
The probe has a linear layer for each head. No boxes of the test photos are used.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter

from input_pipeline.records import IGNORE_LABEL
from saip_jax.evaluation.encoders import Encoder, encode_source
from saip_jax.evaluation.logistic import fit_classes
from saip_jax.evaluation.metrics.instance_parsing import ParsedImage, evaluate_instance_parsing, persons_of_maps
from saip_jax.evaluation.metrics.segmentation import confusion_matrix, segmentation_scores
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, LabeledImages
from saip_jax.evaluation.tasks.base import Result, check_same_labels, facts_of
from saip_jax.evaluation.tasks.grid_cells import average_over_cells, resize_bilinear, sample_cells
from saip_jax.evaluation.tasks.parsing import part_labels, part_names

_PLACES = 4  # pixels of the heat map along the side of a cell
_REACH = 4  # a center is the maximum within this many pixels around it
_SIGMA = 1.0  # of the peaks around centers, in cells
_LEAST = 0.1  # value of a peak that is a person, as in the paper
_MOST = 50  # persons per photo


def probe_multi_parsing(encoder: Encoder, data: Data) -> Result:
  """Logistic regression of the classes, ridge regressions of the centers and of the offsets to them, on each cell."""
  train, test = data.train_and_test(whole=True)
  names = part_names(train)
  classes, damaged = len(names), []
  cells, targets, of_photo = sample_cells(encoder, train, lambda i, grid: _targets(train, i, classes, grid), damaged)
  shares, near, offsets = np.split(targets, [classes, classes + 1], axis=1)
  shown = 2 * shares[:, 1:].sum(1) >= 1  # persons cover at least half of the cell
  if not shown.any():
    raise ValueError(
      f"no cell of the {len(train)} photos of {train.source.identity['name']!r} shows a person: expected some to fit on"
    )
  part, center = fit_classes(cells, shares, of_photo), fit_ridge(cells, near, groups=of_photo)
  to_center = fit_ridge(cells[shown], offsets[shown], groups=of_photo[shown])

  def predicted() -> Iterator[ParsingMaps]:
    for encoded in encode_source(encoder, test.source, damaged):
      for row, cells in zip(encoded.rows, encoded.cells):
        apply = lambda probe: probe(cells.reshape(-1, cells.shape[-1])).reshape(*cells.shape[:2], -1)
        yield int(row), apply(part.logits), apply(center.predict), apply(to_center.predict)

  facts = facts_of(train=train, test=test) | {"strength": part.strength}
  return score_multi_parsing(predicted(), names, test, _PLACES, facts, damaged)


def finetuned_multi_parsing(network: Encoder, data: Data) -> Result:
  """As `parsing.finetuned_parsing`, and pixels belong to the center nearest to the one they point at."""
  train, test = data.train_and_test(whole=True)
  names, damaged = part_names(test), []
  check_same_labels(part_names(train), names, test)

  def predicted() -> Iterator[ParsingMaps]:
    for part in encode_source(network, test.source, damaged):
      maps = np.split(part.cells, [len(names), len(names) + 1], axis=-1)
      yield from zip(part.rows.tolist(), *maps)

  return score_multi_parsing(predicted(), names, test, 1, facts_of(train=train, test=test), damaged)


ParsingMaps = tuple[int, np.ndarray, np.ndarray, np.ndarray]
"""Position of a photo, (h, w, C) logits, (h, w, 1) heat map of centers, (h, w, 2) x, y offsets in cells."""


def score_multi_parsing(
  predicted: Iterable[ParsingMaps],
  names: list[str],
  test: LabeledImages,
  places: int,
  facts: dict[str, Any],
  damaged: list[str],
) -> Result:
  """Measures predicted persons and their parts.

  Args:
    predicted: maps of each photo, which are resized bilinearly.
    names: (C,) names of the classes.
    test: the test part.
    places: pixels of the heat map of centers along the side of a cell.
    facts: facts about the protocol, see `Result`.
    damaged: see `Result`; may grow while `predicted` is consumed.
  """
  classes = len(names)
  counts = np.zeros((classes, classes), np.int64)

  def parsed() -> Iterator[ParsedImage]:
    for i, logits, near, offsets in predicted:
      truth, persons = part_labels(test, i, classes), person_map(test, i)
      found = resize_bilinear(logits, truth.shape).argmax(-1)
      counts[:] += confusion_matrix(truth, found, classes)
      yield ParsedImage(persons_of_maps(truth, persons), *assign_persons(found, near, offsets, places))

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
  facts = facts | {
    "boxes": "none",
    "persons": found.persons,
    "persons_without_parts": found.persons_without_parts,
    "APr": "each region found once (Hariharan et al. 2014), mean over the classes shown",
    "APr_CIHP": "as CIHP's public evaluators: a region may be found again, so that it can exceed 100 %; mean over all "
    "classes",
    "IoU": {name: iou for name, iou in zip(names, semantic.iou) if iou == iou},
    "resolution": "of the labels",
    "scales": "1.0",
  }
  return Result(scores, facts, damaged)


def person_map(images: LabeledImages, i: int) -> np.ndarray:
  """Returns the person of each pixel of photo i, (H, W) uint8; 0 for no person."""
  persons = images.plane(i, "instances.png")
  if persons is None:
    raise ValueError(
      f"{images.source.name(i)} of {images.source.identity['name']!r} has no map of persons: "
      "multi-person parsing needs instances.png for each photo; choose other --data, such as cihp or people "
      "(scenes)"
    )
  return persons


def _targets(images: LabeledImages, i: int, classes: int, grid_hw: tuple[int, int]) -> np.ndarray:
  """Returns (h, w, classes + 3): fractions of the classes, heat map of centers, and x, y offsets in cells."""
  parts, persons = part_labels(images, i, classes), person_map(images, i)
  persons = np.where((parts > 0) & (parts != IGNORE_LABEL), persons, 0)
  shares, numbers = (
    average_over_cells(parts[..., None] == np.arange(classes, dtype=np.uint8), grid_hw),
    np.unique(persons[persons > 0]),
  )
  if not len(numbers):
    return np.concatenate([shares, np.zeros((*grid_hw, 3))], axis=2)
  of_person = average_over_cells(persons[..., None] == numbers, grid_hw)  # (h, w, n)
  centers = _centers(grid_hw)
  targets = np.einsum("hwn,hwc->nc", of_person, centers) / of_person.sum((0, 1))[:, None]
  away = targets - centers[:, :, None]  # (h, w, n, 2)
  near = np.exp(-0.5 * (away**2).sum(3) / _SIGMA**2).max(2, keepdims=True)
  offsets = np.take_along_axis(away, of_person.argmax(2)[..., None, None], axis=2)[:, :, 0]
  return np.concatenate([shares, near, offsets], axis=2)


def assign_persons(
  found: np.ndarray, near: np.ndarray, offsets: np.ndarray, places: int
) -> tuple[np.ndarray, np.ndarray]:
  """Assigns the pixels of a photo to persons.

  Args:
    found: (H, W) classes.
    near: (h, w, 1) heat map of the centers of persons.
    offsets: (h, w, 2) x, y in cells to the center of a cell's person.
    places: see `score_multi_parsing`.

  Returns:
    (P, H, W) the classes of each person, 0 elsewhere, and (P,) confidences.
  """
  grid_hw = near.shape[:2]
  fine = resize_bilinear(near, tuple(n * places for n in grid_hw))[..., 0]
  rows, columns = np.nonzero((fine == maximum_filter(fine, 2 * _REACH + 1)) & (fine > _LEAST))
  best = np.argsort(-fine[rows, columns], kind="stable")[:_MOST]
  rows, columns = rows[best], columns[best]
  if not len(best):
    return np.zeros((0, *found.shape), found.dtype), np.zeros(0)
  peaks = (np.stack([columns, rows], axis=1) + 0.5) / places  # (m, 2) in cells
  owners = (((_centers(grid_hw) + offsets)[:, :, None] - peaks) ** 2).sum(3).argmin(2)  # (h, w)
  y, x = (((np.arange(pixels) + 0.5) * cells / pixels).astype(int) for pixels, cells in zip(found.shape, grid_hw))
  of_pixel = np.where(found > 0, owners[y[:, None], x], -1)
  shown = np.setdiff1d(of_pixel, [-1])
  return np.where(of_pixel == shown[:, None, None], found, 0), np.clip(fine[rows, columns][shown], 0, 1)


def _centers(grid_hw: tuple[int, int]) -> np.ndarray:
  """Returns (h, w, 2) x, y of the centers of cells, in cells."""
  y, x = (np.arange(n) + 0.5 for n in grid_hw)
  return np.stack(np.broadcast_arrays(x, y[:, None]), axis=2)
