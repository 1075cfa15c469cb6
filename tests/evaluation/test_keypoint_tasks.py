"""Keypoints beyond PCK: AP where a joint list has sigmas, PCKh where heads are known, whole-body landmarks."""

import json

import cv2
import numpy as np
import pytest

from input_pipeline.body import COCO_JOINTS, FURTHER_JOINTS, MPII_JOINTS, WHOLE_BODY_JOINTS
from input_pipeline.people.landmarks import LANDMARKS
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from saip_jax.evaluation.tasks import joints, keypoints
from tests.support.coded_people import HW, CodedData, CodedPictures, knowing_encoder

SIZE = np.array(HW[::-1])
AIC = [
  "Right Shoulder",
  "Right Elbow",
  "Right Wrist",
  "Left Shoulder",
  "Left Elbow",
  "Left Wrist",
  "Right Hip",
  "Right Knee",
  "Right Ankle",
  "Left Hip",
  "Left Knee",
  "Left Ankle",
  "Head top",
  "Neck",
]


def _points(number, count):
  """x, y, v in pixels; every third person has no joint, of others every fifth is unknown."""
  xy = (0.1 + 0.8 * np.random.default_rng(number).random((count, 2))) * SIZE
  known = (np.arange(count) % 5 > 0) * (number % 3 > 0) * 2
  return np.concatenate([xy, known[:, None]], axis=1).tolist()


def _truth(names, facts, numbers=range(1, 13)):
  read = joints.true_whole_body if isinstance(names, dict) else joints.true_joints
  return read(LabeledImages(CodedPictures(numbers, facts, {"joints": names})))


def _scored(truth, places, sure=None):
  sure = np.ones(truth.known.shape) if sure is None else sure
  return joints.score_joints(places, sure, np.arange(len(places)), truth, {}, [])


def _person(number, count):
  return {"keypoints": _points(number, count), "box": [2, 2, 28, 60]}


@pytest.mark.parametrize("names", [COCO_JOINTS, (*COCO_JOINTS[5:], "head", "neck"), AIC])
def test_joint_lists_with_sigmas_have_an_average_precision(names):
  truth = _truth(list(names), lambda n: {"people": [_person(n, len(names))]})
  found = _scored(truth, truth.places)
  assert found.scores["AP"] == found.scores["AR"] == found.scores["PCK@0.05"] == 1
  assert found.facts["persons"] == 8 and found.facts["area"] == "0.53 of the boxes"  # others show no joint
  assert next(iter(found.scores)) == "PCK@0.1" and found.facts["matched"] == "each person alone"
  assert "AP_L" not in found.scores and "AP_L" in found.facts["nobody_of"]  # no person is that large
  away = np.random.default_rng(0).random(truth.places.shape)
  assert _scored(truth, away).scores["AP"] < 0.1
  # Half of the persons are found, and these are those that it is sure of: half of the recall at full precision.
  half = np.arange(len(away)) % 2 == 0
  places = np.where(half[:, None, None], truth.places, away + 3)
  sure = np.where(half[:, None], 1.0, 0.5) * np.ones(truth.known.shape)
  assert 0.4 < _scored(truth, places, sure).scores["AP"] < 0.6
  assert _scored(truth, places, 1 - sure).scores["AP"] < 0.4


def test_other_joints_and_found_places_without_confidence_have_none():
  truth = _truth(["a", "b"], lambda n: {"people": [_person(n, 2)]})
  assert "AP" not in _scored(truth, truth.places).scores
  truth = _truth(list(COCO_JOINTS), lambda n: {"people": [_person(n, 17)]})
  assert "AP" not in joints.score_joints(truth.places, None, np.arange(12), truth, {}, []).scores


def test_where_every_person_is_ignored_the_rest_is_measured():
  truth = _truth(list(COCO_JOINTS), lambda n: {"people": [_person(n, 17) | {"num_keypoints": 0}]})
  found = _scored(truth, truth.places)
  assert found.facts["AP"] == "not measured: every person is ignored, the first as num_keypoints is 0"
  assert found.scores["PCK@0.1"] == 1 and "AP" not in found.scores


def test_persons_are_matched_in_their_photo():
  """Two crops of one photo: joints of one person that are found in the crop of the other are that person's too."""
  facts = lambda n: {
    "people": [{"keypoints": _points(n % 2 + 1, 17), "box": [0, 0, *SIZE.tolist()], "area": 900.0}],
    "photo": f"photo {n // 2}",
    "crop": [100 * (n % 2), 0, *(2 * SIZE).tolist()],
  }
  truth = _truth(list(COCO_JOINTS), facts, range(2, 8))
  found = _scored(truth, truth.places)
  assert next(iter(found.scores.items())) == ("AP", 1.0) and found.facts["area"] == "of the annotations"
  in_photo = truth.places * 2 * SIZE + np.array([[100 * (n % 2), 0] for n in range(2, 8)])[:, None]
  other = in_photo[[1, 0, 3, 2, 5, 4]]
  swapped = (other - np.array([[100 * (n % 2), 0] for n in range(2, 8)])[:, None]) / (2 * SIZE)
  assert _scored(truth, swapped).scores["AP"] == 1
  assert "AP_M" in found.scores  # 900 pixels of the crop are 3600 of the photo


def test_the_levels_of_crowdpose():
  names = [*COCO_JOINTS[5:], "head", "neck"]
  truth = _truth(names, lambda n: {"people": [_person(n, 14)], "crowd_index": n % 3 / 2})
  found = _scored(truth, truth.places)
  assert found.scores["AP_medium"] == found.scores["AP_hard"] == 1 and "AP_easy" in found.facts["nobody_of"]
  assert found.facts["area"] == "0.53 of the boxes"


def test_mpii_is_measured_in_heads():
  person = lambda n: _person(n, 16) | ({"boxes": {"head": [4, 4, 6, 8]}} if n < 12 else {})
  truth = _truth(list(MPII_JOINTS), lambda n: {"people": [person(n)]}, range(1, 12))
  limit = 0.5 * 0.6 * 10 / SIZE[1]  # of the height
  near, far = (_scored(truth, truth.places + [0, shift * limit]) for shift in (0.99, 1.01))
  assert next(iter(near.scores.items())) == ("PCKh@0.5", 1.0) and near.scores["PCKh@0.1"] == 0
  assert far.scores["PCKh@0.5"] == 0 and "AP" not in far.scores
  without = _truth(list(MPII_JOINTS), lambda n: {"people": [_person(n, 16)]})
  assert "no head box is known" in _scored(without, without.places).facts["PCKh"]
  assert "HRNet" in near.facts["PCKh_limit"] and "PCKh_leaves_out" not in near.facts


def test_heads_without_a_size_are_left_out_of_PCKh_alone():
  head = {4: {"boxes": {"head": [4, 4, 0, 0]}}, 5: {}}
  person = lambda n: _person(n, 16) | {"box_from": "keypoints"} | head.get(n, {"boxes": {"head": [4, 4, 6, 0]}})
  truth = _truth(list(MPII_JOINTS), lambda n: {"people": [person(n)]}, range(1, 12))
  off = truth.places + np.where(np.isin(np.arange(11), (3, 4)), 0.0, 9.0)[:, None, None]  # those two are found
  found = _scored(truth, off)
  assert found.scores["PCKh@0.5"] == 0 < found.scores["PCK@0.1"]
  assert found.facts["PCKh_leaves_out"] == ("2 persons without a head box or with one of no size, the first: picture 4")
  assert found.facts["boxes"].startswith("around the true joints, 25 % larger")


def _whole_body(number):
  points = _points(number, 133)
  person = {"keypoints": points[:17], "box": [0, 0, 32, 64], "joints": "person", "more_keypoints": {}}
  start = 17
  for name, names in FURTHER_JOINTS.items():
    person["more_keypoints"][name] = points[start : start + len(names)]
    start += len(names)
  return person


def test_whole_bodies_are_measured_by_parts():
  names = {"person": list(COCO_JOINTS)} | {name: list(part) for name, part in FURTHER_JOINTS.items()}
  truth = _truth(names, lambda n: {"people": [_whole_body(n)]})
  assert truth.names == WHOLE_BODY_JOINTS and not truth.visible.any()
  hand = np.where(np.arange(133)[:, None] < 112, 0.0, 0.3)  # the right hand is off
  found = _scored(truth, truth.places + hand)
  assert found.scores["AP_body"] == found.scores["AP_face"] == found.scores["AP_left_hand"] == 1
  assert found.scores["AP_right_hand"] == 0 and found.facts["counted_joints"] == 8 * truth.known[0].sum()
  with pytest.raises(ValueError, match="'coded' has no landmarks of feet, face and hands"):
    joints.true_whole_body(
      LabeledImages(CodedPictures([1], lambda n: {"people": [_person(1, 17)]}, {"joints": ["a"] * 17}))
    )


def test_landmarks_of_the_built_in_people_lie_where_the_camera_sees_them():
  matrix = [[90.0, 0, 16], [0, 90, 32], [0, 0, 1]]
  xyz = np.random.default_rng(0).normal(0, 0.4, (len(LANDMARKS), 3)) + (0, 0, 4)
  xyz[0] = (9, 0, 4)  # beside the picture
  facts = lambda n: {"camera_matrix": matrix, "people": [{"landmarks_xyz": xyz.tolist()}]}
  truth = joints.true_whole_body(LabeledImages(CodedPictures([1], facts, {"landmarks": list(LANDMARKS)})))
  expected = (xyz @ np.array(matrix).T)[:, :2] / xyz[:, 2:] / SIZE
  np.testing.assert_allclose(truth.places[0][1:], expected[1:])
  assert not truth.known[0, 0] and truth.known[0, 1:].mean() > 0.8


def test_a_joint_that_nobody_shows_is_named():
  facts = lambda n: {"people": [{"keypoints": [[5, 5, 2], [0, 0, 0]]}]}
  data = CodedData(*(CodedPictures(part, facts, {"joints": ["nose", "tail"]}) for part in (range(9), range(9, 12))))
  with pytest.raises(ValueError, match="none of the 9 images of 'coded' shows tail"):
    keypoints.probe_heat_maps(knowing_encoder(), data)


def test_crops_of_one_photo_are_put_aside_together_and_know_their_place(tmp_path):
  photos, persons = [], []
  for k in range(40):
    (tmp_path / "images").mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / "images" / f"{k}.png"), np.zeros((80, 120, 3), np.uint8))
    photos.append({"id": k, "file_name": f"{k}.png", "width": 120, "height": 80})
    persons += [
      {
        "id": 2 * k + j,
        "image_id": k,
        "category_id": 1,
        "bbox": [10 + 50 * j, 10, 40, 60],
        "area": 2000.0,
        "keypoints": [20 + 50 * j, 30, 2] * 17,
        "iscrowd": 0,
      }
      for j in range(2)
    ]
  (tmp_path / "person_keypoints_train.json").write_text(
    json.dumps(
      {
        "images": photos,
        "annotations": persons,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_JOINTS)}],
      }
    )
  )
  train, test = Data("coco", str(tmp_path), str(tmp_path / "cache"), 0, hold_out=True).train_and_test()
  of = [{part.facts[i]["photo"] for i in range(len(part))} for part in (train, test)]
  assert not of[0] & of[1] and len(train) == 2 * len(of[0]) and len(np.unique(groups(train))) == len(of[0])
  assert train.facts[1]["crop"] == [54, 4, 52, 72]
  truth = joints.true_joints(test)
  found = _scored(truth, truth.places)
  assert found.scores["AP"] == 1 and found.facts["matched"] == "in the photo"
