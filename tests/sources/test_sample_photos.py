"""Whole data sets in the layouts of public ones: rendered, where every annotation is known, and real where present."""

import collections

import cv2
import numpy as np
import pytest

from input_pipeline.pairs import open_pairs
from input_pipeline.settings import PairsConfig
from input_pipeline.sources.recognize import recognize_source
from input_pipeline.sources.table import open_source
from tests.support.annotated_photos import decoded, mask, names, person
from tests.support.labeled_sets import plane_of
from tests.support.sample_photos import WHOLE_BODY

REAL_PERSONS = {  # path below mmpose_tests -> persons, joints
  "coco/test_coco.json": (13, 17),
  "coco/test_coco_wholebody.json": (13, WHOLE_BODY),
  "aic": (9, 14),
  "mpii/test_mpii.json": (5, 16),
  "mpii/test_mpii_trb.json": (5, 40),
  "halpe": (13, 136),
  "wflw": (4, 98),
  "lapa": (2, 106),
  "freihand": (8, 21),
  "h36m": (4, 17),
  "posetrack18": (14, 17),
  "posetrack18/annotations/test_posetrack18_val.json": (14, 17),
  "posetrack18/annotations/val": (14, 17),
  "interhand2.6m/test_interhand2.6m_data.json": (4, 0),
}
JOINTS_ALONE = ("lspet", "mmpose_tests/mpii/test_mpii.json")  # no box, no mask; a joint is known or not
KIND = {"pennfudan": "pennfudan", "lspet": "lsp"} | {
  f"coco128_yolo/{labels}": "yolo" for labels in ("object_detection", "instance_segmentation")
}


def _open(samples, path, tmp_path, kind=None, **further):
  """Opens a sample; of the rendered ones small persons too, as `truth` lists everybody."""
  kind = kind or KIND.get(path, "coco")
  if not samples.real and kind in ("coco", "yolo", "pennfudan", "lsp") and "whole" not in further:
    further = {"min_side": 0} | further
  return open_source(kind, samples.root / path, cache_dir=tmp_path / "work", **further)


def _truth(samples, path):
  """Returns the persons of a set's only file, or of the file itself."""
  [found] = [people for name, people in samples.truth.items() if name == path] or [
    people for name, people in list(samples.truth.items())[::-1] if name.startswith(f"{path}/")
  ][:1]
  return found


@pytest.mark.parametrize(
  "kind, name",
  [
    ("market1501", "market1501_sample"),
    ("market1501", "market1501_sample/train"),
    ("coco", "coco_mini"),
    ("yolo", "coco128_yolo/object_detection"),
    ("yolo", "coco128_yolo/instance_segmentation"),
    ("coco", "coco128_yolo/panoptic_segmentation"),
    ("folder", "coco128_yolo"),
    ("pennfudan", "pennfudan"),
    ("lsp", "lspet"),
    ("ccp", "ccp"),
    ("folder", "realsense_rgbd"),
    ("coco", "mmpose_tests/aic"),
    ("coco", "mmpose_tests/mpii"),
    ("coco", "mmpose_tests/mpii/test_mpii.json"),
    ("coco", "mmpose_tests/interhand2.6m"),
    ("coco", "mmpose_tests/posetrack18"),
    ("coco", "mmpose_tests/posetrack18/annotations/val"),
  ],
)
def test_kinds_are_recognized(samples, kind, name):
  assert recognize_source(str(samples.root / name)) == kind


def test_every_person_is_where_it_was_annotated(rendered_samples, tmp_path):
  """Boxes, joints and masks of every set are those that were written, to the pixel where the format is exact."""
  assert len(rendered_samples.truth) == 21
  for path, truth in rendered_samples.truth.items():
    source = _open(rendered_samples, path, tmp_path)
    assert set(names(source)) == truth.keys(), path
    for i, name in enumerate(names(source)):
      known, (left, top, right, bottom) = truth[name], source.crop_box(i)
      found, planes = person(source, i), source.annotations(i)[1]
      if path not in JOINTS_ALONE:
        expected = np.subtract(known.box, (left, top, 0, 0))
        np.testing.assert_allclose(found["box"], expected, atol=1e-3, err_msg=f"{path} {name}")
      if "keypoints" in found:
        joints, got = known.keypoints[: len(found["keypoints"])], np.array(found["keypoints"], float)
        seen = joints[:, 2] > 0
        np.testing.assert_allclose(got[seen, :2], joints[seen, :2] - (left, top), atol=1e-3, err_msg=f"{path} {name}")
        flags = got[:, 2] if path not in JOINTS_ALONE else np.where(got[:, 2] > 0, joints[:, 2], 0)
        np.testing.assert_array_equal(flags, joints[:, 2], f"{path} {name}")
      if "instances.png" in planes and "instance_segmentation" not in path:
        np.testing.assert_array_equal(mask(source, i) > 0, known.mask[top:bottom, left:right], f"{path} {name}")


@pytest.mark.parametrize(
  "file, joints",
  [("annotations/person_keypoints_train2017.json", 17), ("annotations/instances_train2017.json", 0), ("", 17)],
)
def test_coco_itself(samples, tmp_path, file, joints):
  path = f"coco_mini/{file}".rstrip("/")
  source = _open(samples, path, tmp_path)
  missing, crowds, persons = (40, 5, 130) if samples.real else (1, 1, len(samples.truth[path]))
  reasons = collections.Counter(reason for _, reason in source.left_out)
  assert reasons["no such photo"] == missing and reasons["a crowd, not one person"] == crowds
  assert len(source) == persons and len(source.legend.get("joints", ())) == joints
  for i in range(0, len(source), 7):
    crop, found = decoded(source, i), mask(source, i)
    assert crop.shape[:2] == found.shape and found.any()
    x, y, width, height = person(source, i)["box"]
    ys, xs = np.nonzero(found)  # the mask fills its box
    assert abs(xs.min() - x) < 3 and abs(ys.max() + 1 - y - height) < 3


def test_captions_and_detections_are_refused(samples, tmp_path):
  with pytest.raises(ValueError, match="no box"):
    _open(samples, "coco_mini/annotations/captions_train2017.json", tmp_path)
  with pytest.raises(ValueError, match="detections"):
    _open(samples, "mmpose_tests/coco/test_coco_det_AP_H_56.json", tmp_path)
  with pytest.raises(ValueError, match="JSON of another"):
    _open(samples, "mmpose_tests/interhand2.6m/test_interhand2.6m_camera.json", tmp_path)


@pytest.mark.parametrize("path", REAL_PERSONS)
def test_data_sets_with_cocos_conventions(samples, tmp_path, path):
  source = _open(samples, f"mmpose_tests/{path}", tmp_path)
  persons, joints = REAL_PERSONS[path]
  persons = persons if samples.real else len(_truth(samples, f"mmpose_tests/{path}"))
  assert len(source) == persons
  legend = source.legend.get("joints", [])
  if isinstance(joints, dict):
    assert {name: len(legend[name]) for name in joints} == joints
  else:
    assert len(legend) == joints
  inside = []
  for i in range(persons):
    height, width = decoded(source, i).shape[:2]
    known = [(x, y) for x, y, v in person(source, i).get("keypoints", ()) if v]
    inside += [0 <= x <= width and 0 <= y <= height for x, y in known]
    assert (
      "keypoints" not in person(source, i)
      or joints == {}
      or len(person(source, i)["keypoints"]) in ({joints} if isinstance(joints, int) else set(joints.values()))
    )
  assert all(inside) or not samples.real  # rendered people may be hidden where their box ends


def test_panoptic_coco_itself(samples, tmp_path):
  path = "coco128_yolo/panoptic_segmentation"
  source = _open(samples, path, tmp_path)
  persons = 68 if samples.real else len(samples.truth[path])
  assert len(source) == persons and all(mask(source, i).any() for i in range(0, persons, 5))


def test_yolo_itself(samples, tmp_path):
  paths = [f"coco128_yolo/{labels}" for labels in ("object_detection", "instance_segmentation")]
  detection, segments = (_open(samples, path, tmp_path) for path in paths)
  counts = (67, 69) if samples.real else tuple(len(samples.truth[path]) for path in paths)
  assert (len(detection), len(segments)) == counts
  boxes = [np.array([source.crop_box(i) for i in range(len(source))]) for source in (detection, segments)]
  nearest = np.abs(boxes[0][:, None] - boxes[1][None]).max(-1).min(1)
  assert np.median(nearest) < 3  # two versions of the same labels agree on where people are
  assert all(mask(segments, i).any() for i in range(0, counts[1], 5))
  with pytest.raises(ValueError, match="several: instance_segmentation/config.yaml, object_detection/config.yaml"):
    _open(samples, "coco128_yolo", tmp_path, "yolo")


def test_pennfudan_itself(samples, tmp_path):
  source = _open(samples, "pennfudan", tmp_path, margin=0)
  assert len(source) == (92 if samples.real else len(samples.truth["pennfudan"])) and not source.left_out
  gaps = []
  for i in range(len(source)):
    found = mask(source, i)
    ys, xs = np.nonzero(found)
    gaps.append((xs.min(), ys.min(), found.shape[1] - 1 - xs.max(), found.shape[0] - 1 - ys.max()))
  assert (np.median(gaps, axis=0) == 0).all()  # of most persons, box and mask end at the same pixel on every side


def test_lspet_itself(samples, tmp_path):
  source = _open(samples, "lspet", tmp_path)
  known = [sum(v > 0 for _, _, v in person(source, i)["keypoints"]) for i in range(len(source))]
  if samples.real:
    assert len(source) == 750 and source.left_out[-1] == ("and 8,250 more", "left out as well, not listed one by one")
    assert 12 < np.mean(known) < 13
  else:
    truth = samples.truth["lspet"]
    assert len(source) == 8 and source.left_out == [("image 9", "no such photo")]
    assert known == [int((truth[name].keypoints[:, 2] > 0).sum()) for name in names(source)]


def test_market1501_itself(samples, tmp_path):
  source = _open(samples, "market1501_sample", tmp_path, "market1501")
  count, identities, ages, others = (11499, 671, 4, 26) if samples.real else (48, 6, 4, 4)
  assert len(source) == count and not source.left_out and len(source.legend["attributes"]) == others + ages
  facts = [source.annotations(i)[0] for i in range(len(source))]
  assert len({fact["people"][0]["identity"] for fact in facts}) == identities
  assert {fact["camera"] for fact in facts} == set(range(6)) or not samples.real
  attributes = np.array([fact["people"][0]["attributes"] for fact in facts[:: 50 if samples.real else 1]])
  assert set(attributes.ravel()) == {0, 1} and (attributes[:, :4].sum(1) == 1).all()  # one of the ages
  again = _open(samples, "market1501_sample/train", tmp_path, "market1501")
  assert source.identity["digest"] == again.identity["digest"]


def test_clothing_co_parsing_itself(samples, tmp_path):
  source = _open(samples, "ccp", tmp_path, "ccp")
  labeled, tags, classes, every = (80, 10, 59, 16) if samples.real else (4, 1, 20, 1)
  assert (len(source), len(source.left_out), len(source.legend["parts"])) == (labeled, tags, classes)
  skin, hair = (source.legend["parts"].index(name) for name in ("skin", "hair"))
  for i in range(0, labeled, every):
    parts = plane_of(source, i)
    assert (parts == hair).any() and ((parts == skin).any() or not samples.real)  # seen from behind
    assert parts.shape == cv2.imread(str(samples.root / "ccp" / source.name(i))).shape[:2]


@pytest.mark.parametrize(
  "kind, path, real, rendered",
  [
    ("multiview", "pose2sim_multiview/Demo_SinglePerson", (32, 32), (8, 8)),
    ("video", "uva_kinect_turntable", (0, 10), (0, 4)),
  ],
)
def test_recordings_have_pairs(samples, tmp_path, kind, path, real, rendered):
  source, pairs = open_pairs(_open(samples, path, tmp_path, kind), PairsConfig(), tmp_path)
  views, poses = real if samples.real else rendered
  assert pairs.summary[:2] == [f"{views} images have a view partner", f"{poses} images have a pose partner"]
  for i in range(len(source)):
    partner, kind = pairs.partner(i, 7 * i)
    (a, _), (b, _) = source.annotations(i), source.annotations(partner)
    assert a["group"] == b["group"] and (a["frame"] == b["frame"]) == (kind == 0)


@pytest.mark.parametrize(
  "path, photos, rendered",
  [
    ("coco_mini/annotations/person_keypoints_train2017.json", 40, 6),
    ("pennfudan", 35, 6),
    ("coco128_yolo/instance_segmentation", 26, 6),
    ("mmpose_tests/coco/test_coco_wholebody.json", 4, 2),
  ],
)
def test_whole_photos_have_the_same_persons_as_crops(samples, tmp_path, path, photos, rendered):
  crops, whole = (_open(samples, path, tmp_path, **further) for further in ({"min_side": 0}, {"whole": True}))
  facts = {whole.name(i): whole.annotations(i)[0] for i in range(len(whole))}
  assert len(facts) == (photos if samples.real else rendered)
  persons = {f"{photo}#{person['id']}": person for photo, fact in facts.items() for person in fact["people"]}
  assert set(names(crops)) == {name for name, person in persons.items() if not person.get("ignore")}
  for i in range(len(crops)):
    left, top, _, _ = crops.crop_box(i)
    x, y, width, height = persons[crops.name(i)]["box"]
    assert crops.annotations(i)[0]["people"][0]["box"] == pytest.approx([x - left, y - top, width, height], abs=1e-3)
  for i in range(0, len(whole), 9):
    people = whole.annotations(i)[0]["people"]
    if any("instances.png" in name for name in whole.annotations(i)[1]):
      assert plane_of(whole, i, "instances.png").max() <= len(people)
