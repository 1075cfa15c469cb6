"""2-D keypoints of a person in a crop: heat maps or coordinates, predicted by linear layers or fine-tuned heads."""

from collections.abc import Callable, Sequence

import numpy as np

from input_pipeline.body import whole_body_names
from input_pipeline.fields.joints import joint_list
from input_pipeline.sources.held_out import hash_of
from saip_jax.evaluation.dense_ridge import DenseRidge
from saip_jax.evaluation.encoders import Encoder, encode_pooled, encode_source
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from saip_jax.evaluation.tasks.base import Result, check_same_labels, facts_of
from saip_jax.evaluation.tasks.grid_cells import average_flipped
from saip_jax.evaluation.tasks.joints import TrueJoints, score_joints, true_joints, true_whole_body

_PLACES = 4  # pixels of a heat map along the side of a cell: 64x32 for a ViT at 256x128
_SIGMA = 2.0  # of its peaks, in these pixels
_MOST_VALUES = 2**24  # of heat maps in memory at once


def probe_heat_maps(
  encoder: Encoder,
  data: Data,
  truth_of: Callable[[LabeledImages], TrueJoints] = true_joints,
  needs: str | None = "keypoints",
) -> Result:
  """A linear layer predicts a heat map for each joint, with 4x4 pixels per cell; joints are at their maxima.

  A maximum is refined by a parabola through it and its neighbors. Places are measured from the image's edge, the
  unbiased coordinates of UDP (arXiv 1911.07524).

  Args:
    encoder: the encoder.
    data: the data set.
    truth_of: reads the true joints.
    needs: an annotation; persons without it are left out. None keeps all persons, with unknown joints.
  """
  train, test = (part.having(needs) if needs else part for part in data.train_and_test())
  joints, truth, damaged = truth_of(train), truth_of(test), []
  _check_joints(joints, truth, train, test)
  probe = DenseRidge(_PLACES, len(joints.names))
  of_person = groups(train)
  for part in encode_source(encoder, train.source, damaged):
    hw = tuple(n * _PLACES for n in part.cells.shape[1:3])
    at_once = max(1, _MOST_VALUES // (hw[0] * hw[1] * len(joints.names)))
    for start in range(0, len(part.rows), at_once):
      rows = part.rows[start : start + at_once]
      maps = peaks(joints.places[rows], hw)
      probe.add(part.cells[start : start + at_once], maps, joints.known[rows], of_person[rows])
  strength = probe.fit()
  found, rows = [], []
  for part in encode_source(encoder, test.source, damaged):
    found += [
      maxima(average_flipped(probe.predict, one, joints.names), [test.source.name(int(row)) for row in one.rows])
      for one in part.singly()
    ]
    rows.append(part.rows)
  places, heights = map(np.concatenate, zip(*found))
  facts = facts_of(train=train, test=test) | {"ridge_strength": strength}
  return score_joints(places, heights, np.concatenate(rows), truth, facts, damaged)


def probe_coordinates(encoder: Encoder, data: Data) -> Result:
  """A linear layer predicts coordinates from image features and cells averaged over an 8x4 grid."""
  train, test = (part.having("keypoints") for part in data.train_and_test())
  joints, truth, damaged = true_joints(train), true_joints(test), []
  _check_joints(joints, truth, train, test)
  rows, features = encode_pooled(encoder, train.source, damaged)
  known = np.repeat(joints.known[rows], 2, axis=1)
  probe = fit_ridge(features, joints.places[rows].reshape(known.shape), known, groups(train)[rows])
  rows, features = encode_pooled(encoder, test.source, damaged)
  places = probe.predict(features).reshape(len(rows), -1, 2)
  facts = facts_of(train=train, test=test) | {"ridge_strength": probe.strength}
  return score_joints(places, None, rows, truth, facts, damaged)


def finetuned_keypoints(network: Encoder, data: Data) -> Result:
  """Joints are at the maxima of their heat maps, refined as in `maxima`."""
  train, test = data.train_and_test()
  test = test.having("keypoints")
  return _score_heat_maps(network, train, test, joint_list(train.source)[1], true_joints(test))


def finetuned_whole_body(network: Encoder, data: Data) -> Result:
  """As `finetuned_keypoints`, for the landmarks of the whole body."""
  train, test = data.train_and_test()
  return _score_heat_maps(network, train, test, whole_body_names(train.legend), true_whole_body(test))


def _score_heat_maps(
  network: Encoder, train: LabeledImages, test: LabeledImages, names: Sequence[str], truth: TrueJoints
) -> Result:
  check_same_labels(names, truth.names, test)
  damaged, found, rows = [], [], []
  for part in encode_source(network, test.source, damaged):
    maps = average_flipped(lambda maps: maps, part, names)
    found.append(maxima(maps, [test.source.name(int(row)) for row in part.rows]))
    rows.append(part.rows)
  places, heights = map(np.concatenate, zip(*found))
  return score_joints(places, heights, np.concatenate(rows), truth, facts_of(train=train, test=test), damaged)


def _check_joints(joints: TrueJoints, truth: TrueJoints, train: LabeledImages, test: LabeledImages) -> None:
  """Raises ValueError if a joint cannot be fitted, or if the two parts have different joints."""
  check_same_labels(joints.names, truth.names, test)
  unknown = [name for name, known in zip(joints.names, joints.known.any(0)) if not known]
  if unknown:
    raise ValueError(
      f"none of the {len(train)} images of {train.source.identity['name']!r} shows {unknown[0]}: "
      "expected each joint at least once; choose larger --data"
    )


def peaks(places: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
  """Returns (n, h, w, J) heat maps with a Gaussian around each place (n, J, 2), fractions of width and height."""
  x, y = (np.arange(n) + 0.5 for n in reversed(hw))
  at = places * np.array(hw[::-1])
  fall = lambda grid, center: np.exp(-0.5 * ((grid - center[..., None]) / _SIGMA) ** 2)
  return np.einsum("njh,njw->nhwj", fall(y, at[..., 1]), fall(x, at[..., 0]))


def maxima(maps: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the places of the maxima of heat maps.

  Args:
    maps: (n, h, w, J).
    names: (n,) names of the images; a hash of the name chooses among equal maxima, for example of a constant map.

  Returns:
    (n, J, 2) x, y as fractions of width and height, and (n, J) the values of the maxima.
  """
  count, h, w, joints = maps.shape
  flat = maps.transpose(0, 3, 1, 2).reshape(count * joints, h, w)
  largest = flat.reshape(len(flat), -1).argmax(1)
  level = flat.reshape(len(flat), -1) == flat.max((1, 2))[:, None]
  for k in np.flatnonzero(np.count_nonzero(level, axis=1) > 1):
    equal = np.flatnonzero(level[k])
    largest[k] = equal[hash_of(f"{names[k // joints]} {k % joints}") % len(equal)]
  rows, columns = np.unravel_index(largest, (h, w))
  each = np.arange(len(flat))
  return (
    _refined(flat, each, rows, columns).reshape(count, joints, 2),
    flat[each, rows, columns].reshape(count, joints),
  )


def all_maxima(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns (m,) the map and (m, 2) x, y, as in `maxima`, of every place that equals the maximum of maps (n, h, w)."""
  each, rows, columns = np.nonzero(maps == maps.max((1, 2), keepdims=True))
  return each, _refined(maps, each, rows, columns)


def _refined(flat: np.ndarray, each: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
  """Returns (m, 2) x, y as fractions of width and height of places in maps (n, h, w), refined by a parabola."""
  h, w = flat.shape[1:]
  padded = np.pad(flat, ((0, 0), (1, 1), (1, 1)), mode="reflect")  # at the border: no refinement

  def offset(before, middle, after):
    bend = before - 2 * middle + after
    return np.where(bend < 0, np.clip(0.5 * (before - after) / np.where(bend < 0, bend, -1), -0.5, 0.5), 0)

  middle = padded[each, rows + 1, columns + 1]
  dy = offset(padded[each, rows, columns + 1], middle, padded[each, rows + 2, columns + 1])
  dx = offset(padded[each, rows + 1, columns], middle, padded[each, rows + 1, columns + 2])
  return np.stack([(columns + 0.5 + dx) / w, (rows + 0.5 + dy) / h], axis=1)
