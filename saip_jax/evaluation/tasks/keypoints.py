"""2-D keypoints of a person in a crop: heat maps that a linear layer draws, or coordinates that it says.

Each person is alone in a crop around the true box ("ground-truth boxes"), so nothing is detected.
"""

import numpy as np

from saip_jax.evaluation.dense_ridge import DenseRidge
from saip_jax.evaluation.encoders import Encoder, encode, encode_pooled
from saip_jax.evaluation.metrics.pck import keypoint_scores
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, Labelled, groups
from saip_jax.evaluation.tasks.base import Result, facts_of

_PLACES = 4  # of a heat map along a cell: a map of 64x32 for a ViT at 256x128
_SIGMA = 2.0  # of its peaks, in its places


class Joints:
  """The joints of the first person in each image, as shares of its height and width.

  Attributes:
    names: (J,) what they are.
    places: (n, J, 2) x, y from 0 to 1.
    known: (n, J) bool: labelled, and inside the image.
    visible: (n, J) bool: known, and labelled as visible, where a data set tells.
    sizes: (n, 2) width and height in pixels.
  """

  def __init__(self, images: Labelled):
    points, self.names = images.of_first_persons("keypoints", "keypoints"), images.joint_names()
    wrong = next((i for i, p in enumerate(points) if len(p) != len(self.names)), None)
    if wrong is not None:
      raise ValueError(f"{images.source.name(wrong)} has {len(points[wrong])} keypoints: expected {len(self.names)}")
    points = np.array(points, np.float64)
    self.sizes = np.array([images.size_hw(i)[::-1] for i in range(len(images))], np.float64)
    self.places = points[..., :2] / self.sizes[:, None]
    self.known = (points[..., 2] > 0) & (self.places >= 0).all(2) & (self.places < 1).all(2)
    self.visible = self.known & (points[..., 2] == 2)


def heat_maps(encoder: Encoder, data: Data) -> Result:
  """A linear layer draws a heat map for each joint, four places along a cell; joints lie at their maxima.

  A maximum is refined by a parabola through it and its neighbours; places are measured from the image's edge, which
  is the unbiased treatment that UDP asks for.
  """
  train, test = data.train_and_test()
  truth, damaged = {part: Joints(part) for part in (train, test)}, []
  joints = truth[train]
  probe = DenseRidge(_PLACES, len(joints.names))
  of_person = groups(train)
  for part in encode(encoder, train.source, damaged):
    hw = tuple(n * _PLACES for n in part.cells.shape[1:3])
    maps = _peaks(joints.places[part.rows], hw)
    probe.add(part.cells, maps, joints.known[part.rows], of_person[part.rows])
  strength = probe.fit()
  found, rows = [], []
  for part in encode(encoder, test.source, damaged):
    found.append(_maxima(probe.predict(part.cells)))
    rows.append(part.rows)
  return _measured(np.concatenate(found), np.concatenate(rows), truth[test], train, test, strength, damaged)


def coordinates(encoder: Encoder, data: Data) -> Result:
  """A linear layer says the coordinates from image features and cells averaged over an 8x4 grid."""
  train, test = data.train_and_test()
  truth, damaged = {part: Joints(part) for part in (train, test)}, []
  rows, features = encode_pooled(encoder, train.source, damaged)
  known = np.repeat(truth[train].known[rows], 2, axis=1)
  probe = fit_ridge(features, truth[train].places[rows].reshape(known.shape), known, groups(train)[rows])
  rows, features = encode_pooled(encoder, test.source, damaged)
  places = probe.predict(features).reshape(len(rows), -1, 2)
  return _measured(places, rows, truth[test], train, test, probe.strength, damaged)


def _peaks(places: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
  """(n, J, 2) shares of width and height -> (n, h, w, J) a Gaussian around each."""
  x, y = (np.arange(n) + 0.5 for n in reversed(hw))
  at = places * np.array(hw[::-1])
  fall = lambda grid, centre: np.exp(-0.5 * ((grid - centre[..., None]) / _SIGMA) ** 2)
  return np.einsum("njh,njw->nhwj", fall(y, at[..., 1]), fall(x, at[..., 0]))


def _maxima(maps: np.ndarray) -> np.ndarray:
  """(n, h, w, J) maps -> (n, J, 2) x, y of their maxima as shares of width and height."""
  count, h, w, joints = maps.shape
  flat = maps.transpose(0, 3, 1, 2).reshape(count * joints, h, w)
  rows, columns = np.unravel_index(flat.reshape(len(flat), -1).argmax(1), (h, w))
  padded = np.pad(flat, ((0, 0), (1, 1), (1, 1)), mode="reflect")  # at the border: no refinement
  each = np.arange(len(flat))

  def offset(before, middle, after):
    bend = before - 2 * middle + after
    return np.where(bend < 0, np.clip(0.5 * (before - after) / np.where(bend < 0, bend, -1), -0.5, 0.5), 0)

  middle = padded[each, rows + 1, columns + 1]
  dy = offset(padded[each, rows, columns + 1], middle, padded[each, rows + 2, columns + 1])
  dx = offset(padded[each, rows + 1, columns], middle, padded[each, rows + 1, columns + 2])
  return np.stack([(columns + 0.5 + dx) / w, (rows + 0.5 + dy) / h], axis=1).reshape(count, joints, 2)


def _measured(places: np.ndarray, rows: np.ndarray, truth: Joints, train: Labelled, test: Labelled, strength: float,
              damaged: list[str]) -> Result:
  sizes = truth.sizes[rows]
  counted = truth.visible[rows] if truth.visible.any() else truth.known[rows]
  found = keypoint_scores(places * sizes[:, None], truth.places[rows] * sizes[:, None], counted, sizes[:, 1])
  scores = {f"PCK@{limit:g}": share for limit, share in reversed(found.pck.items())} | {"error": found.error}
  facts = facts_of(train=train, test=test) | {
      "boxes": "ground truth", "flip_test": False, "joints": truth.names, "counted_joints": found.joints,
      "unit": "height of the crop", "ridge_strength": strength,
  }
  return Result(scores, facts, damaged)
