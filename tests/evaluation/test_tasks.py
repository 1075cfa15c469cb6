"""Each task: features that know the answer reach the best score, features that know nothing do not."""

import cv2
import numpy as np
import pytest

from saip_jax.evaluation.dense_ridge import DenseRidge
from saip_jax.evaluation.tasks import (
  attributes,
  correspondence,
  depth,
  detection,
  joints3d,
  keypoints,
  parsing,
  reid,
  text,
)
from saip_jax.evaluation.tasks.grid_cells import average_over_cells, cells_at, resize_bilinear
from tests.support.coded_people import GRID, HW, CodedData, CodedPictures, knowing_encoder

TRAIN, TEST = range(80), range(80, 110)
KNOWS_NOTHING = knowing_encoder()


def _data(facts, legend=None, planes=lambda number: {}):
  return CodedData(*(CodedPictures(part, facts, legend, planes) for part in (TRAIN, TEST)))


def _random(number, *shape):
  return np.random.default_rng(number).random(shape)


def test_retrieval_knows_persons_cameras_and_distractors():
  person = lambda n: n % 10
  facts = lambda n: {"people": [{"identity": person(n)}], "camera": n // 10 % 2}
  data = CodedData(
    CodedPictures(range(1, 10), facts, {"distractor": 0}), CodedPictures(range(10, 60), facts, {"distractor": 0})
  )
  found = reid.nearest_persons(knowing_encoder(lambda n: np.eye(10)[person(n)]), data)
  assert found.scores["mAP"] == found.scores["CMC@1"] == 1 and found.facts["queries"] == 9
  # In each of four stripes one cell differs from a stronger light, which differs between images.
  stands_out = np.arange(GRID[1])[None, :, None] == 1
  cells = lambda n: stands_out * np.eye(10)[person(n)] + 9 * _random(n, 1, 1, 10) + np.zeros((*GRID, 10))
  striped = reid.nearest_persons_by_stripes(knowing_encoder(cells=cells), data)
  assert striped.scores["mAP"] == 1 and striped.facts["image_features"] == "deviations of the cells of 4 stripes"
  # A feature that encodes only the camera ranks same-camera images first, which are excluded.
  cameras = reid.nearest_persons(knowing_encoder(lambda n: np.eye(2)[n // 10 % 2]), data)
  assert cameras.scores["mAP"] < 0.5
  # Identity 0 is a person unless the data set declares it a distractor.
  everybody = CodedData(CodedPictures(range(10), facts), CodedPictures(range(10, 60), facts))
  assert reid.nearest_persons(knowing_encoder(lambda n: np.eye(10)[person(n)]), everybody).facts["queries"] == 10


def test_attributes():
  labels = lambda n: [*(np.arange(3) == n % 4).astype(int), None if n % 5 == 0 else n % 2]
  data = _data(lambda n: {"people": [{"attributes": labels(n), "identity": n}]}, {"attributes": ["a", "b", "c", "d"]})
  knowing = knowing_encoder(lambda n: [*np.eye(4)[n % 4], n % 2])
  found = attributes.probe_attributes(knowing, data)
  assert found.scores["mA"] > 0.95 and attributes.probe_attributes(KNOWS_NOTHING, data).scores["mA"] == 0.5
  at = lambda n: np.eye(GRID[0])[2 * (n % 4)][:, None, None] * np.ones((*GRID, 1))  # the stripe encodes the kind
  by_place = knowing_encoder(cells=lambda n: np.concatenate([at(n), np.full((*GRID, 1), n % 2)], -1))
  assert (
    attributes.probe_attributes(by_place, data).scores["mA"]
    == 0.5
    < attributes.probe_attribute_stripes(by_place, data).scores["mA"]
  )
  with pytest.raises(ValueError, match="picture 80.* has 3 attributes: expected 4"):
    short = _data(lambda n: {"people": [{"attributes": labels(n)[: 4 - (n >= 80)]}]}, {"attributes": list("abcd")})
    attributes.probe_attributes(knowing, short)


def test_neighbors_vote_for_attributes():
  """Persons of eight kinds; the votes for a kind come from its persons with a known attribute."""
  labels = lambda n: [n % 8 // 4, n % 2, None if n % 16 < 8 else 1]
  data = _data(lambda n: {"people": [{"attributes": labels(n)}]}, {"attributes": ["a", "b", "c"]})
  found = attributes.nearest_attributes(knowing_encoder(lambda n: np.eye(8)[n % 8]), data)
  assert found.facts["neighbors"] == 20 and found.facts["balanced_accuracy"]["a"] == 1
  assert found.facts["balanced_accuracy"]["b"] == 1
  assert found.facts["balanced_accuracy"]["c"] == 0.5  # 1 for the known, and unknown counts as false
  assert attributes.nearest_attributes(KNOWS_NOTHING, data).facts["balanced_accuracy"]["a"] == 0.5
  with pytest.raises(ValueError, match="'coded' has no attributes"):
    attributes.nearest_attributes(KNOWS_NOTHING, _data(lambda n: {"people": [{"attributes": [1]}]}))


def _keypoints(number):
  """Two joints, of which the second is sometimes not labeled."""
  xy = 0.15 + 0.7 * _random(number, 2, 2)
  return [[x * HW[1], y * HW[0], v] for (x, y), v in zip(xy, (2, 2 * (number % 3 > 0)))]


def _heat_of(number):
  """Cells that hold the maps to be drawn: 4 x 4 places of two joints."""
  places = np.array(_keypoints(number))[:, :2] / HW[::-1]
  h, w = (4 * n for n in GRID)
  maps = keypoints.peaks(places[None], (h, w))[0]
  return maps.reshape(GRID[0], 4, GRID[1], 4, 2).transpose(0, 2, 1, 3, 4).reshape(*GRID, 32)


@pytest.mark.parametrize(
  "protocol, knowing",
  [
    (keypoints.probe_heat_maps, knowing_encoder(cells=_heat_of)),
    (keypoints.probe_coordinates, knowing_encoder(lambda n: np.array(_keypoints(n))[:, :2].reshape(-1))),
  ],
)
def test_keypoints(protocol, knowing):
  data = _data(lambda n: {"people": [{"keypoints": _keypoints(n)}]}, {"joints": ["left", "right"]})
  found = protocol(knowing, data)
  assert found.scores["PCK@0.05"] == 1 and found.scores["error"] < 0.01
  assert found.facts["counted_joints"] == 2 * len(TEST) - len([n for n in TEST if n % 3 == 0])
  assert protocol(KNOWS_NOTHING, data).scores["error"] > 0.1


def test_a_maximum_lies_between_places():
  peak = lambda x, y: keypoints.maxima(keypoints.peaks(np.array([[[x, y]]]), (32, 16)), ["a"])[0][0, 0]
  for x, y, most in [(0.5, 0.5, 0.12), (0.31, 0.77, 0.12), (0.02, 0.99, 0.5)]:  # places; at the border their middle
    assert np.abs((peak(x, y) - (x, y)) * (16, 32)).max() < most


def test_of_equal_maxima_the_name_of_the_image_picks_one():
  """For constant maps a hash of the image name chooses the place, so the score is that of chance."""
  names = [f"{k}.jpg" for k in range(400)]
  places, heights = keypoints.maxima(np.ones((400, 8, 4, 2)), names)
  assert (heights == 1).all() and abs(places.mean((0, 1)) - 0.5).max() < 0.05
  assert len(np.unique(places.reshape(-1, 2), axis=0)) == 32
  order = np.random.default_rng(0).permutation(400)
  again, _ = keypoints.maxima(np.ones((400, 8, 4, 2)), [names[k] for k in order])
  np.testing.assert_array_equal(again, places[order])


def test_keypoints_of_several_kinds_are_refused():
  facts = lambda n: {"people": [{"keypoints": _keypoints(n), "joints": f"kind{n % 2}"}]}
  data = _data(facts, {"joints": {"kind0": ["a", "b"], "kind1": ["c", "d"]}})
  with pytest.raises(ValueError, match="keypoints of several kinds"):
    keypoints.probe_coordinates(KNOWS_NOTHING, data)


def _parts(number):
  coarse = np.random.default_rng(number).integers(0, 3, GRID).astype(np.uint8)
  return np.kron(coarse, np.ones((8, 8), np.uint8))


def test_cells_and_maps_follow_opencv():
  plane = _random(0, 37, 21, 3).astype(np.float32)
  np.testing.assert_allclose(
    average_over_cells(plane, (5, 4)), cv2.resize(plane, (4, 5), interpolation=cv2.INTER_AREA), atol=1e-5
  )
  large = cv2.resize(plane, (64, 80), interpolation=cv2.INTER_LINEAR)
  np.testing.assert_allclose(resize_bilinear(plane, (80, 64)), large, atol=1e-5)
  rows, columns = np.array([0, 33, 79]), np.array([63, 5, 0])
  places = np.stack([(columns + 0.5) / 64, (rows + 0.5) / 80], axis=1)
  np.testing.assert_allclose(cells_at(plane, places), large[rows, columns], atol=1e-5)


def test_parsing():
  data = _data(lambda n: {}, {"parts": ["none", "arm", "leg"]}, lambda n: {"parts.png": _parts(n)})
  classes = lambda n: np.eye(3)[_parts(n)[::8, ::8]]
  found = parsing.probe_parsing(knowing_encoder(cells=classes), data)
  blind = parsing.probe_parsing(KNOWS_NOTHING, data)
  # Bilinear enlargement rounds the corners of squares of eight pixels.
  assert found.scores["mIoU"] > 0.65 and blind.scores["mIoU"] < 0.2
  assert set(found.facts["IoU"]) == {"none", "arm", "leg"}
  wrong = _data(lambda n: {}, {"parts": ["none", "arm"]}, lambda n: {"parts.png": _parts(n)})
  with pytest.raises(ValueError, match="parts of picture 0 hold 2: expected 0 to 1, or 255"):
    parsing.probe_parsing(KNOWS_NOTHING, wrong)


def _box(number):
  x, y, wide, high = _random(number, 4) * (0.4, 0.3, 0.2, 0.3) + (0.05, 0.05, 0.2, 0.3)
  return [x * HW[1], y * HW[0], wide * HW[1], high * HW[0]]


def test_detection():
  """A cell knows the map above it and the size of the person in the photo."""

  def cells(n):
    x, y, wide, high = _box(n) / np.tile(HW[::-1], 2)
    maps = detection._peaks(np.array([[x, y, wide, high]]), tuple(4 * g for g in GRID))
    maps = maps.reshape(GRID[0], 4, GRID[1], 4).transpose(0, 2, 1, 3).reshape(*GRID, 16)
    return np.concatenate([maps, np.broadcast_to(np.log([wide, high]), (*GRID, 2))], axis=2)

  data = _data(lambda n: {"people": [{"box": _box(n)}, {"box": [0, 0, 4, 4], "ignore": True}]})
  found = detection.probe_detection(knowing_encoder(cells=cells), data)
  assert found.scores["AP@0.5"] > 0.9 and found.scores["MR-2"] < 0.1 and found.facts["persons"] == len(TEST)
  assert detection.probe_detection(KNOWS_NOTHING, data).scores["AP@0.5"] < 0.3
  scores = [
    detection.probe_detection(
      KNOWS_NOTHING,
      CodedData(
        data.parts[0].source, CodedPictures(np.random.default_rng(seed).permutation(TEST), data.parts[1].source._facts)
      ),
    ).scores
    for seed in range(2)
  ]
  assert scores[0] == pytest.approx(scores[1], abs=1e-12)  # equal scores: the order of files has no part in it
  with pytest.raises(ValueError, match="a person in picture 0 .*has no box"):
    detection.probe_detection(KNOWS_NOTHING, _data(lambda n: {"people": [{}]}))


def test_depth_counts_the_person_alone():
  meters = lambda n: 2 + 6 * _random(n)
  body = np.zeros(HW, np.uint8)
  body[8:56, 8:24] = 1
  plane = lambda n: np.where(body, round(1000 * meters(n)), 40_000).astype(np.uint16)
  data = _data(lambda n: {}, {}, lambda n: {"depth.png": plane(n), "instances.png": body})
  found = depth.probe_depth(knowing_encoder(cells=lambda n: np.full((*GRID, 1), np.log(meters(n)))), data)
  assert found.scores["AbsRel"] < 0.01 and found.scores["delta1"] == 1 and found.facts["pixels"] == 30 * body.sum()
  assert depth.probe_depth(KNOWS_NOTHING, data).scores["AbsRel"] > 0.1


def test_joints_are_measured_from_the_hips():
  names = ["left_hip", "right_hip", "head"]
  head = lambda n: _random(n, 3) - 0.5
  away = lambda n: 10 * _random(n + 1000, 3)  # the translation of the person is irrelevant
  places = lambda n: [list(away(n) + p) for p in ([0.1, 0, 0], [-0.1, 0, 0], head(n))]
  data = _data(lambda n: {"people": [{"landmarks_xyz": places(n)}]}, {"landmarks": names})
  found = joints3d.probe_joints3d(knowing_encoder(head), data)
  assert found.scores["MPJPE_mm"] < 10 and found.facts["root"] == "left_hip + right_hip"
  assert joints3d.probe_joints3d(KNOWS_NOTHING, data).scores["MPJPE_mm"] > 50


def _places(number):
  """Three joints, in the middles of cells; the third is not always shown."""
  cells = np.random.default_rng(number).permutation(GRID[0] * GRID[1])[:3]
  return np.stack([(cells % GRID[1] + 0.5) / GRID[1], (cells // GRID[1] + 0.5) / GRID[0]], axis=1)


def _marked(number):
  """Returns cells that encode the joint in them; all other cells are equal."""
  cells = np.tile(np.eye(4)[3], (*GRID, 1))
  for joint, (x, y) in enumerate(_places(number)):
    cells[int(y * GRID[0]), int(x * GRID[1])] = np.eye(4)[joint]
  return cells


@pytest.mark.parametrize("known", [True, False])
def test_joints_are_found_again_by_their_features(known):
  points = lambda n: np.c_[_places(n) * HW[::-1], [2, 1, 2 * (n % 3 > 0)]].tolist()
  person = lambda n: {"keypoints": points(n)} | ({"identity": n // 2} if known else {})
  data = _data(lambda n: {"people": [person(n)]}, {"joints": ["a", "b", "c"]})
  found = correspondence.nearest_cells(knowing_encoder(cells=_marked), data)
  assert found.scores["PCK@0.05"] == 1 and found.facts["pairs"] == len(TEST)
  assert found.facts["pairs_of"] == ("one person" if known else "different persons")
  assert found.facts["PCK@0.1_of_the_same_place"] < 0.3  # joints lie anywhere
  blind = correspondence.nearest_cells(KNOWS_NOTHING, data)
  assert blind.scores["PCK@0.1"] < 0.3
  assert blind.facts["counted_joints"] == found.facts["counted_joints"] < 3 * len(TEST)


def test_of_places_that_fit_a_joint_alike_each_counts_with_its_share():
  """Joints in the center of an image of eight by four equal cells: the score of a random place."""
  data = _data(lambda n: {"people": [{"keypoints": [[HW[1] / 2, HW[0] / 2, 2]]}]}, {"joints": ["a"]})
  found = correspondence.nearest_cells(KNOWS_NOTHING, data)
  y, x = np.meshgrid((np.arange(GRID[0]) + 0.5) * 8 - 32, (np.arange(GRID[1]) + 0.5) * 8 - 16, indexing="ij")
  away = np.hypot(y, x) / HW[0]
  assert found.scores["error"] == pytest.approx(away.mean()) and found.scores["PCK@0.1"] == np.mean(away <= 0.1) > 0
  assert found.facts["joints_with_ties"] == found.facts["counted_joints"] == len(TEST)


def test_correspondence_needs_two_pictures_and_a_joint_in_both():
  lonely = _data(lambda n: {"people": [{"identity": n, "keypoints": [[5, 5, 2]]}]}, {"joints": ["a"]})
  with pytest.raises(ValueError, match="'coded' has one image of each person"):
    correspondence.nearest_cells(KNOWS_NOTHING, lonely)
  apart = _data(
    lambda n: {"people": [{"keypoints": [[5, 5, 2 * (n % 2)], [5, 5, 2 - 2 * (n % 2)]]}]}, {"joints": ["a", "b"]}
  )
  with pytest.raises(ValueError, match="'coded' show the same joint"):
    correspondence.nearest_cells(KNOWS_NOTHING, apart)


def test_text_is_matched_by_its_words():
  colors = ["red", "green", "blue", "white"]
  caption = lambda n: f"A person in a {colors[n % 4]} coat and {colors[n // 4 % 4]} shoes."
  facts = lambda n: {"people": [{"identity": n % 16, "captions": [caption(n)]}]}
  knowing = knowing_encoder(lambda n: [*np.eye(4)[n % 4], *np.eye(4)[n // 4 % 4]])
  found = text.probe_text(knowing, _data(facts))
  assert found.scores["R@5"] == 1 and found.facts["queries"] == len(TEST)
  with pytest.raises(ValueError, match="picture 0 .*has no caption"):
    text.probe_text(knowing, _data(lambda n: {"people": [{"identity": n}]}))


def test_a_dense_ridge_is_least_squares_over_the_known():
  rng = np.random.default_rng(0)
  cells, truth = rng.normal(size=(40, 3, 2, 5)), rng.normal(size=(5, 2 * 2 * 3))
  maps = (cells @ truth + 1.5).reshape(40, 3, 2, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(40, 6, 4, 3)
  known = rng.random((40, 3)) < 0.7
  spoilt = np.where(known[:, None, None], maps, 99.0)
  probe = DenseRidge(2, 3)
  for start in (0, 16):  # in pieces of any size
    rows = slice(start, start + 16 if start == 0 else None)
    probe.add(cells[rows], spoilt[rows], known[rows], np.arange(40)[rows])
  assert probe.fit() == 1.0  # nothing but rounding is gained by a penalty
  np.testing.assert_allclose(probe.predict(cells), maps, atol=0.02)
  with pytest.raises(ValueError, match="target 0 is known in none"):
    blind = DenseRidge(2, 3)
    blind.add(cells, maps, known & [False, True, True], np.arange(40))
    blind.fit()
