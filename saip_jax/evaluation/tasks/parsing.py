"""Human parsing: the class of each pixel, predicted for each cell and resized to the image."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from input_pipeline.records import IGNORE_LABEL
from saip_jax.evaluation.encoders import Encoder, encode_source
from saip_jax.evaluation.logistic import fit_classes
from saip_jax.evaluation.metrics.segmentation import confusion_matrix, segmentation_scores
from saip_jax.evaluation.resampling import Resampling
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from saip_jax.evaluation.tasks.base import Result, check_same_labels, facts_of
from saip_jax.evaluation.tasks.grid_cells import average_flipped, average_over_cells, resize_bilinear, sample_cells


def probe_parsing(encoder: Encoder, data: Data) -> Result:
  """Logistic regression of the fractions of the classes in each cell; logits are resized bilinearly to the image."""
  train, test = data.train_and_test()
  names = part_names(train)
  classes, damaged = len(names), []
  shares = lambda i, grid: average_over_cells(
    part_labels(train, i, classes)[..., None] == np.arange(classes, dtype=np.uint8), grid
  )
  probe = fit_classes(*sample_cells(encoder, train, shares, damaged))
  logits = lambda cells: probe.logits(cells.reshape(-1, cells.shape[-1])).reshape(*cells.shape[:3], -1)
  predicted = (
    (int(row), maps)
    for part in encode_source(encoder, test.source, damaged)
    for row, maps in zip(part.rows, average_flipped(logits, part, names))
  )
  facts = facts_of(train=train, test=test) | {"strength": probe.strength}
  return score_parsing(predicted, names, test, facts, damaged)


def finetuned_parsing(network: Encoder, data: Data) -> Result:
  """The most probable class of each pixel; logits are resized bilinearly to the image."""
  train, test = data.train_and_test()
  names, damaged = part_names(test), []
  check_same_labels(part_names(train), names, test)
  predicted = (
    each
    for part in encode_source(network, test.source, damaged)
    for each in zip(part.rows.tolist(), average_flipped(lambda maps: maps, part, names))
  )
  return score_parsing(predicted, names, test, facts_of(train=train, test=test), damaged)


def part_names(images: LabeledImages) -> list[str]:
  """Returns the names of the classes; raises ValueError if there are none."""
  names = images.legend.get("parts")
  if not names:
    raise ValueError(f"{images.source.identity['name']!r} has no names of parts: choose other --data, such as people")
  return list(names)


def score_parsing(
  predicted: Iterable[tuple[int, np.ndarray]],
  names: list[str],
  test: LabeledImages,
  facts: dict[str, Any],
  damaged: list[str],
) -> Result:
  """Measures predicted classes of pixels.

  Args:
    predicted: (position in `test`, (h, w, C) logits) of each image; logits are resized bilinearly.
    names: (C,) names of the classes.
    test: the test part.
    facts: facts about the protocol, see `Result`.
    damaged: see `Result`; may grow while `predicted` is consumed.
  """
  rows, counts = [], []
  for i, maps in predicted:
    truth = part_labels(test, i, len(names))
    rows.append(i)
    counts.append(confusion_matrix(truth, resize_bilinear(maps, truth.shape).argmax(-1), len(names)))
  found = segmentation_scores(np.sum(counts, axis=0))
  of_image = np.array(counts, np.float64)
  scores = {"mIoU": found.mIoU, "mean_accuracy": found.mean_accuracy, "pixel_accuracy": found.pixel_accuracy}
  facts = facts | {
    "IoU": {name: iou for name, iou in zip(names, found.iou) if iou == iou},
    "absent": [names[c] for c in found.absent],
    "resolution": "of the labels",
    "scales": "1.0",
  }
  score = lambda weights: segmentation_scores(np.tensordot(weights, of_image, axes=1)).mIoU
  return Result(scores, facts, damaged, Resampling("mIoU", groups(test)[rows], score))


def part_labels(images: LabeledImages, i: int, classes: int) -> np.ndarray:
  """Returns the classes of image i, (H, W) uint8; `IGNORE_LABEL` for pixels that are not counted."""
  labels = images.plane(i, "parts.png")
  if labels is None:
    raise ValueError(
      f"{images.source.name(i)} of {images.source.identity['name']!r} has no parts: parsing needs them for each image"
    )
  wrong = np.setdiff1d(np.unique(labels), [*range(classes), IGNORE_LABEL])
  if len(wrong):
    raise ValueError(
      f"the parts of {images.source.name(i)} hold {wrong[0]}: expected 0 to {classes - 1}, or {IGNORE_LABEL}"
    )
  return labels
