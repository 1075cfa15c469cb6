"""The flip test: averages over an image and its mirror image, with left and right swapped."""

import numpy as np
import pytest

from saip_jax.evaluation.encoders import Encoder, encode_images, encode_source, flip_tested
from saip_jax.evaluation.tasks import keypoints, parsing
from tests.support.coded_people import GRID, HW, CodedData, CodedPictures, as_png

CELL = HW[0] // GRID[0]
NAMES = ("nose", "left_hand", "right_hand")
TEST = range(40, 60)


class SidedPictures(CodedPictures):
  """Coded images whose right half is bluer than the left, so that mirror images are recognizable."""

  def read(self, i):
    picture = np.zeros((*HW, 3), np.uint8)
    picture[..., 1], picture[:, HW[1] // 2 :, 2] = self._numbers[i], 1
    return as_png(picture)


def _encoder(image=lambda n, mirrored: [1.0], cells=lambda n, mirrored: np.ones((*GRID, 1))):
  def apply(images_u8):
    codes = [(int(picture[0, 0, 1]), bool(picture[0, 0, 2])) for picture in images_u8]
    return tuple(np.array([say(*code) for code in codes], np.float32) for say in (image, cells))

  return Encoder({"checkpoint": "sided", "image_hw": list(HW)}, HW, apply)


def _hands(n):
  """Returns (3, 2) x, y in cells: hands far apart, at heights by image number; the left hand is right in the image."""
  return np.array([[1.5, n % 3 + 2.5], [3.5, n % 5 + 1.5], [0.5, n % 7 + 0.5]])


def _map(n):
  """(h, w, 3) 1 at each joint."""
  maps = np.zeros((*GRID, 3))
  x, y = np.floor(_hands(n)).astype(int).T
  maps[y, x, np.arange(3)] = 1
  return maps


def _knowing_mirrors_alone(maps, blank):
  """Returns an encoder that knows the training images, and of test images only the mirror image, not mirrored back."""

  def cells(n, mirrored):
    return maps(n)[:, ::-1, [0, 2, 1]] if mirrored else np.full((*GRID, 3), blank) if n in TEST else maps(n)

  return _encoder(cells=cells)


def test_features_of_images_are_means_and_those_of_places_stay_apart():
  encoder = _encoder(lambda n, mirrored: [n + 10 * mirrored], lambda n, mirrored: np.full((*GRID, 1), float(mirrored)))
  pictures = SidedPictures([3, 5], lambda n: {})
  assert encode_images(encoder, pictures, [])[1].ravel().tolist() == [3, 5]
  assert encode_images(flip_tested(encoder), pictures, [])[1].ravel().tolist() == [8, 10]
  (part,) = encode_source(flip_tested(encoder), pictures, [])
  assert (part.cells == 0).all() and (part.mirrored == 1).all()
  assert [one.rows.tolist() for one in part.singly()] == [[0], [1]]


@pytest.mark.parametrize("measure", [keypoints.probe_heat_maps, keypoints.finetuned_keypoints])
def test_joints_of_the_mirror_image_are_turned_back(measure):
  points = lambda n: {"people": [{"keypoints": [[*(xy * CELL), 2] for xy in _hands(n)]}]}
  pictures = lambda numbers: SidedPictures(numbers, points, {"joints": NAMES})
  data, encoder = CodedData(pictures(range(40)), pictures(TEST)), _knowing_mirrors_alone(_map, 0)
  assert measure(encoder, data).scores["PCK@0.1"] < 0.5
  assert measure(flip_tested(encoder), data).scores["PCK@0.1"] == 1


@pytest.mark.parametrize("measure", [parsing.probe_parsing, parsing.finetuned_parsing])
def test_classes_of_the_mirror_image_are_turned_back(measure):
  def classes(n):
    found = np.repeat([[2, 2, 1, 1]], GRID[0], axis=0)
    found[: 2 + n % 3] = 0
    return found

  planes = lambda n: {"parts.png": np.kron(classes(n), np.ones((CELL, CELL))).astype(np.uint8)}
  legend = {"parts": ["none", "left arm", "right arm"]}
  pictures = lambda numbers: SidedPictures(numbers, lambda n: {}, legend, planes)
  data = CodedData(pictures(range(40)), pictures(TEST))
  encoder = _knowing_mirrors_alone(lambda n: np.eye(3)[classes(n)], 1 / 3)
  assert measure(encoder, data).scores["mIoU"] < 0.4
  assert measure(flip_tested(encoder), data).scores["mIoU"] > 0.9
