"""Parsing of a person: the class of each pixel, by a linear layer on each cell, enlarged to the image."""

import numpy as np

from saip_jax.evaluation.encoders import Encoder, encode
from saip_jax.evaluation.logistic import fit_classes
from saip_jax.evaluation.metrics.segmentation import IGNORED, confusion_matrix, segmentation_scores
from saip_jax.evaluation.splits import Data, Labelled
from saip_jax.evaluation.tasks.base import Result, facts_of
from saip_jax.evaluation.tasks.cells import enlarged, mean_of_cells, sample_cells


def linear(encoder: Encoder, data: Data) -> Result:
  """Logistic regression of the shares of the classes in each cell; logits are enlarged bilinearly to the image."""
  train, test = data.train_and_test()
  names = train.legend.get("parts")
  if not names:
    raise ValueError(f"{train.source.identity['name']!r} names no parts: choose other --data, such as people")
  classes, damaged = len(names), []
  shares = lambda i, grid: mean_of_cells(labels_of(train, i, classes)[..., None] == np.arange(classes), grid)
  probe = fit_classes(*sample_cells(encoder, train, shares, damaged))
  counts = np.zeros((classes, classes), np.int64)
  for part in encode(encoder, test.source, damaged):
    logits = probe.logits(part.cells.reshape(-1, part.cells.shape[-1])).reshape(*part.cells.shape[:3], -1)
    for row, maps in zip(part.rows, logits):
      truth = labels_of(test, int(row), classes)
      counts += confusion_matrix(truth, enlarged(maps, truth.shape).argmax(-1), classes)
  found = segmentation_scores(counts)
  scores = {"mIoU": found.mIoU, "mean_accuracy": found.mean_accuracy, "pixel_accuracy": found.pixel_accuracy}
  facts = facts_of(train=train, test=test) | {
      "IoU": {name: iou for name, iou in zip(names, found.iou) if iou == iou},
      "absent": [names[c] for c in found.absent], "resolution": "of the labels", "scales": "1.0", "flip_test": False,
      "strength": probe.strength,
  }
  return Result(scores, facts, damaged)


def labels_of(images: Labelled, i: int, classes: int) -> np.ndarray:
  """Returns the classes of image i, (H, W) uint8, `IGNORED` where a pixel is not counted."""
  labels = images.plane(i, "parts.png")
  if labels is None:
    raise ValueError(f"{images.source.name(i)} of {images.source.identity['name']!r} has no parts: parsing needs them "
                     "for each image")
  wrong = np.setdiff1d(np.unique(labels), [*range(classes), IGNORED])
  if len(wrong):
    raise ValueError(f"the parts of {images.source.name(i)} hold {wrong[0]}: expected 0 to {classes - 1}, or {IGNORED}")
  return labels
