"""Multi-person parsing: features that encode class and center of each cell, and uninformative ones."""

import numpy as np
import pytest

from saip_jax.evaluation.tasks import multi_parsing
from tests.support.coded_people import GRID, HW, CodedData, CodedPictures, knowing_encoder

CELL = HW[0] // GRID[0]
PARTS = ["none", "head", "legs"]


def _cells(number):
  """(h, w) parts and persons: two people three cells high and one wide, high or low; the second is not always there."""
  rng = np.random.default_rng(number)
  parts, persons = np.zeros((2, *GRID), np.uint8)
  for person, column in ((1, 0), (2, 2))[: 1 + (number % 4 > 0)]:
    top = rng.integers(0, GRID[0] - 2)
    parts[top : top + 3, column] = 1, 2, 2
    persons[top : top + 3, column] = person
  return parts, persons


def _planes(number):
  big = lambda plane: np.kron(plane, np.ones((CELL, CELL), np.uint8))
  parts, persons = map(big, _cells(number))
  parts[:, -1] = 255  # not counted
  return {"parts.png": parts, "instances.png": persons}


def _knowing(number):
  """Returns the targets of the three layers."""
  images = CodedData(CodedPictures([number], lambda n: {}, {}, _planes), CodedPictures([number], lambda n: {})).parts[0]
  return multi_parsing._targets(images, 0, 3, GRID)


def _data(planes=_planes, legend=None, test=range(60, 80)):
  pictures = lambda part: CodedPictures(part, lambda n: {}, legend or {"parts": PARTS}, planes)
  return CodedData(pictures(range(60)), pictures(test))


def test_what_points_at_its_middle_is_a_person():
  found = multi_parsing.probe_multi_parsing(knowing_encoder(cells=_knowing), _data())
  # Bilinear enlargement rounds the corners of squares of eight pixels.
  assert found.scores["mIoU"] > 0.6 and found.scores["APp@0.5"] > 0.8 and found.scores["PCP@0.5"] > 0.8
  assert found.scores["APr@0.5"] > 0.5 and found.scores["APr_vol"] > 0.5
  assert found.scores["APr_CIHP@0.5"] >= found.scores["APr@0.5"] and "Hariharan" in found.facts["APr"]
  assert "100 %" in found.facts["APr_CIHP"]
  assert found.facts["persons"] == sum(1 + (n % 4 > 0) for n in range(60, 80)) and found.facts["boxes"] == "none"


def test_who_knows_nothing_finds_nobody():
  found = multi_parsing.probe_multi_parsing(knowing_encoder(), _data())
  assert found.scores["APp_vol"] == found.scores["PCP@0.5"] == 0 and found.scores["mIoU"] < 0.34


def test_classes_without_persons_apart_are_one_person():
  """Features that know the classes, and middles everywhere the same: two people become one, and are missed."""
  blind = lambda n: _knowing(n)[..., :3]
  found = multi_parsing.probe_multi_parsing(knowing_encoder(cells=blind), _data())
  assert found.scores["mIoU"] > 0.6 and found.scores["APp@0.5"] < 0.6


def test_targets_are_shares_and_ways_to_the_own_middle():
  targets = _knowing(1)
  _, persons = _cells(1)
  assert targets.shape == (*GRID, 6)
  np.testing.assert_allclose(targets[..., :3].sum(2)[:, :3], 1, atol=1e-6)
  assert targets[persons > 0, 3].min() == pytest.approx(np.exp(-0.5)) and targets[..., 3].max() == pytest.approx(1)
  rows, columns = np.nonzero(persons == 1)
  middle = np.stack([columns, rows], 1).mean(0) + 0.5
  np.testing.assert_allclose(targets[rows, columns, 4:], middle - np.stack([columns, rows], 1) - 0.5, atol=0.05)


@pytest.mark.parametrize(
  "planes, legend, words",
  [
    (lambda n: {"parts.png": _planes(n)["parts.png"]}, None, "picture 0 of 'coded' .*instances.png"),
    (lambda n: {"instances.png": _planes(n)["instances.png"]}, None, "picture 0 of 'coded' has no parts"),
    (_planes, {"joints": ["a"]}, "'coded' .*parts"),
    (lambda n: {name: np.zeros(HW, np.uint8) for name in _planes(n)}, None, "shows a person"),
  ],
)
def test_photos_without_the_labels_are_refused(planes, legend, words):
  with pytest.raises(ValueError, match=words):
    multi_parsing.probe_multi_parsing(knowing_encoder(), _data(planes, legend))
