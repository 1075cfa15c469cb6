"""Depth of a person: the distance of each pixel of the body from the camera, by a linear layer on each cell."""

import numpy as np

from saip_jax.evaluation.encoders import Encoder, encode_source
from saip_jax.evaluation.metrics.depth import evaluate_depth
from saip_jax.evaluation.resampling import Resampling, mean_of
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from saip_jax.evaluation.tasks.base import Result, facts_of
from saip_jax.evaluation.tasks.grid_cells import average_over_cells, resize_bilinear, sample_cells

_LEAST = 0.5  # fraction of a cell with known depth, for the cell to be fitted


def probe_depth(encoder: Encoder, data: Data) -> Result:
  """Ridge regression of the mean log depth of each cell, resized bilinearly to the image."""
  train, test = data.train_and_test()
  damaged: list[str] = []

  def targets(i: int, grid_hw: tuple[int, int]) -> np.ndarray:
    meters = depth_of(train, i)
    logs = np.log(np.maximum(meters, 1e-3)) * (meters > 0)
    share, total = np.moveaxis(average_over_cells(np.stack([meters > 0, logs], axis=2), grid_hw), 2, 0)
    return np.where(share >= _LEAST, total / np.maximum(share, _LEAST), np.nan)[..., None]

  cells, logs, of_person = sample_cells(encoder, train, targets, damaged)
  probe = fit_ridge(cells, logs, groups=of_person)
  rows, predicted, true = [], [], []
  for part in encode_source(encoder, test.source, damaged):
    maps = probe.predict(part.cells.reshape(-1, part.cells.shape[-1])).reshape(*part.cells.shape[:3], 1)
    for row, logs in zip(part.rows, maps):
      meters = depth_of(test, int(row))
      rows.append(row)
      predicted.append(np.exp(resize_bilinear(logs, meters.shape)[..., 0][meters > 0]))
      true.append(meters[meters > 0])
  starts = np.cumsum([0, *map(len, true)])
  true = np.concatenate(true)
  found = evaluate_depth(np.concatenate(predicted), true, np.ones(len(true), bool))
  within = np.diff(np.pad(np.cumsum(found.within), (1, 0))[starts])
  scores = {"delta1": found.delta1, "AbsRel": found.abs_rel, "RMSE_mm": found.rmse * 1e3}
  facts = facts_of(train=train, test=test) | {
    "pixels": found.pixels,
    "where": "on the person, where depth is known",
    "ridge_strength": probe.strength,
  }
  resampling = Resampling("delta1", groups(test)[rows], mean_of(within, np.diff(starts)))
  return Result(scores, facts, damaged, resampling)


def depth_of(images: LabeledImages, i: int) -> np.ndarray:
  """Returns the depth of image i, (H, W) float32 meters, 0 if unknown or not on the person."""
  depth = images.plane(i, "depth.png")
  if depth is None:
    raise ValueError(
      f"{images.source.name(i)} of {images.source.identity['name']!r} has no depth: choose other --data, such as people"
    )
  person = images.plane(i, "instances.png", "parts.png")
  return np.where(True if person is None else person > 0, depth, 0).astype(np.float32) / 1e3
