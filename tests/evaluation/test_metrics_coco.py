"""Average precision of keypoints and boxes against pycocotools."""

import contextlib
import dataclasses
import io
import math
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from input_pipeline.body import COCO_SIGMAS, CROWDPOSE_SIGMAS, WHOLE_BODY_PARTS, WHOLE_BODY_SIGMAS
from saip_jax.evaluation.metrics.boxes import DetectedBoxes, TrueBoxes, evaluate_boxes
from saip_jax.evaluation.metrics.oks import (
  DetectedPersons,
  TruePersons,
  evaluate_crowdpose,
  evaluate_keypoints,
  evaluate_whole_body,
)


def _people(seed, images=12, joints=17, levels=None, persons=4, detections=8):
  """Random persons and detections; with `levels` many scores and persons are exactly equal."""
  rng = np.random.default_rng(seed)
  where = np.sort(rng.integers(0, images, images * persons // 2))
  n = len(where)
  boxes = np.concatenate([rng.uniform(0, 300, (n, 2)), rng.uniform(10, 200, (n, 2))], 1)
  xy = boxes[:, None, :2] + rng.random((n, joints, 2)) * boxes[:, None, 2:]
  v = rng.integers(0, 3, (n, joints)) * (rng.random((n, 1)) < 0.85)
  areas = boxes[:, 2:].prod(1) * rng.uniform(0.3, 0.9, n)
  true = TruePersons(where, np.concatenate([xy, v[..., None]], 2), boxes, areas, rng.random(n) < 0.15)
  m = images * detections // 2
  copied = rng.integers(0, n, m)
  off = rng.choice([0.0, 2.0, 8.0, 60.0], (m, 1, 1)) * rng.normal(size=(m, joints, 2))
  found = DetectedPersons(
    np.where(rng.random(m) < 0.8, where[copied], rng.integers(0, images, m)), xy[copied] + off, rng.random(m)
  )
  if levels:
    found = dataclasses.replace(found, scores=np.floor(found.scores * levels) / levels)
    doubled = rng.integers(0, n, n // 2)  # persons at the place of another one
    for field in ("images", "keypoints", "boxes_xywh", "areas"):
      getattr(true, field)[: len(doubled)] = getattr(true, field)[doubled]
  return true, found


def _boxes(seed, images=12, levels=None):
  true, found = _people(seed, images, levels=levels, detections=20)
  rng = np.random.default_rng(seed + 1000)
  rows = rng.integers(0, len(true.images), len(found.images))
  boxes = true.boxes_xywh[rows] + rng.choice([0.0, 0.03, 0.15], (len(rows), 1)) * rng.normal(size=(len(rows), 4)) * 100
  boxes[:, 2:] = np.abs(boxes[:, 2:])
  if levels:
    boxes = np.round(boxes / 20) * 20
  return (
    TrueBoxes(true.images, true.boxes_xywh, true.crowd, true.areas),
    DetectedBoxes(np.where(rng.random(len(rows)) < 0.8, true.images[rows], found.images), boxes, found.scores),
  )


def _pycocotools(kind, true, found, images, sigmas=COCO_SIGMAS, keypoints="keypoints_xy", num_keypoints=None):
  """Returns `COCOeval.stats`, with nan for -1."""
  crowd = true.crowd if kind == "keypoints" else true.ignored
  annotations = []
  for k, image in enumerate(true.images.tolist()):
    own = dict(
      id=k + 1,
      image_id=image,
      category_id=1,
      bbox=true.boxes_xywh[k].tolist(),
      area=float(true.areas[k]),
      iscrowd=int(crowd[k]),
    )
    if kind == "keypoints":
      counted = int((true.keypoints[k, :, 2] > 0).sum()) if num_keypoints is None else int(num_keypoints[k])
      own |= dict(keypoints=true.keypoints[k].ravel().tolist(), num_keypoints=counted)
    annotations.append(own)
  results = []
  for k, image in enumerate(found.images.tolist()):
    own = dict(image_id=image, category_id=1, score=float(found.scores[k]))
    if kind == "keypoints":
      places = getattr(found, keypoints)[k]
      own["keypoints"] = np.concatenate([places, np.ones((len(places), 1))], 1).ravel().tolist()
    else:
      own["bbox"] = found.boxes_xywh[k].tolist()
    results.append(own)
  with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO()
    truth.dataset = dict(images=[dict(id=i) for i in range(images)], annotations=annotations, categories=[dict(id=1)])
    truth.createIndex()
    peer = COCOeval(truth, truth.loadRes(results), kind)
    peer.params.kpt_oks_sigmas = np.asarray(sigmas)
    peer.evaluate()
    peer.accumulate()
    peer.summarize()
  return np.where(peer.stats == -1, np.nan, peer.stats)


def _rows(part, rows):
  values = (getattr(part, field.name) for field in dataclasses.fields(part))
  return type(part)(*(None if value is None else value[rows] for value in values))


def _numbers(scores):
  return np.array(list(dataclasses.asdict(scores).values())[:-1])


@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("seed", range(6))
def test_keypoint_scores_are_those_of_pycocotools(seed, levels):
  true, found = _people(seed, levels=levels)
  scores = evaluate_keypoints(true, found)
  np.testing.assert_allclose(_numbers(scores), _pycocotools("keypoints", true, found, 12), atol=1e-9)
  assert scores.persons == ((true.keypoints[..., 2] > 0).any(1) & ~true.crowd).sum()


@pytest.mark.parametrize("seed", range(4))
def test_persons_whose_num_keypoints_is_0_are_ignored_where_they_are_labeled(seed):
  """As in CrowdPose, whose num_keypoints counts only visible joints: labeled joints still determine the similarity."""
  true, found = _people(seed, joints=14)
  counted = np.where(np.arange(len(true.images)) % 3 == 0, 0, 5)  # 5 also of persons without a labeled joint
  flagged = dataclasses.replace(true, ignored=counted == 0)
  peer = _pycocotools("keypoints", true, found, 12, CROWDPOSE_SIGMAS, num_keypoints=counted)
  scores = evaluate_keypoints(flagged, found, CROWDPOSE_SIGMAS)
  np.testing.assert_allclose(_numbers(scores), peer, atol=1e-9)
  assert abs(scores.AP - evaluate_keypoints(true, found, CROWDPOSE_SIGMAS).AP) > 1e-3


@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("seed", range(6))
def test_box_scores_are_those_of_pycocotools(seed, levels):
  true, found = _boxes(seed, levels=levels)
  np.testing.assert_allclose(_numbers(evaluate_boxes(true, found)), _pycocotools("bbox", true, found, 12), atol=1e-9)


def test_more_detections_than_take_part():
  true, found = _people(0, images=2, detections=120)
  peer = _pycocotools("keypoints", true, found, 2)
  np.testing.assert_allclose(_numbers(evaluate_keypoints(true, found)), peer, atol=1e-9)
  true, _ = _boxes(0, images=2)
  rows, k = np.random.default_rng(0).integers(0, len(true.images), 400), np.arange(400)
  found = DetectedBoxes(true.images[rows], true.boxes_xywh[rows] + k[:, None] % 7, k % 13 / 13)
  np.testing.assert_allclose(_numbers(evaluate_boxes(true, found)), _pycocotools("bbox", true, found, 2), atol=1e-9)


def test_images_without_persons_and_sizes_that_nobody_has():
  true, found = _people(1)
  alone = _rows(true, slice(3))
  alone = dataclasses.replace(alone, areas=np.full(3, 2000.0), crowd=np.zeros(3, bool))
  scores = evaluate_keypoints(alone, found)
  np.testing.assert_allclose(_numbers(scores), _pycocotools("keypoints", alone, found, 12), atol=1e-9)
  assert math.isnan(scores.AP_large) and math.isnan(scores.AR_large) and not math.isnan(scores.AP_medium)


def test_nothing_found_scores_0_and_everything_found_1():
  true, found = _people(2)
  none = _rows(found, slice(0))
  assert evaluate_keypoints(true, none).AP == evaluate_keypoints(true, none).AR == 0
  every = DetectedPersons(true.images, true.keypoints[..., :2], np.ones(len(true.images)))
  perfect = _numbers(evaluate_keypoints(true, every))
  np.testing.assert_allclose(perfect[~np.isnan(perfect)], 1)
  boxes = evaluate_boxes(
    TrueBoxes(true.images, true.boxes_xywh, true.crowd),
    DetectedBoxes(true.images, true.boxes_xywh, np.ones(len(true.images))),
  )
  assert boxes.AP == boxes.AR100 == pytest.approx(1)


def test_whole_body_parts_are_those_of_pycocotools_with_their_own_sigmas():
  true, found = _people(3, joints=133)
  true.keypoints[:, WHOLE_BODY_PARTS["foot"], 2] = 0
  scores = evaluate_whole_body(true, found)
  assert list(scores) == ["body", "foot", "face", "left_hand", "right_hand", "whole"] and scores["foot"] is None
  assert WHOLE_BODY_SIGMAS.shape == (133,) and sum(p.stop - p.start for p in WHOLE_BODY_PARTS.values()) == 2 * 133
  for name in ("body", "face", "left_hand", "whole"):
    part = WHOLE_BODY_PARTS[name]
    own = dataclasses.replace(true, keypoints=true.keypoints[:, part])
    peer = _pycocotools(
      "keypoints",
      own,
      dataclasses.replace(found, keypoints_xy=found.keypoints_xy[:, part]),
      12,
      WHOLE_BODY_SIGMAS[part],
    )
    same = [0, 1, 2, 5, 6, 7] if name != "body" else range(10)  # sizes of detections are those of the body here
    np.testing.assert_allclose(_numbers(scores[name])[same], peer[same], atol=1e-9)


def test_crowdpose_splits_images_by_how_crowded_they_are():
  true, found = _people(4, joints=14)
  index = {i: i / 11 for i in range(12)}  # 0, 1, 2 easy; 9, 10, 11 hard
  scores, by_level = evaluate_crowdpose(true, found, index)
  true = dataclasses.replace(true, areas=true.boxes_xywh[:, 2:].prod(1) * 0.53)
  np.testing.assert_allclose(_numbers(scores), _pycocotools("keypoints", true, found, 12, CROWDPOSE_SIGMAS), atol=1e-9)
  for level, images in (("easy", range(3)), ("medium", range(3, 9)), ("hard", range(9, 12))):
    rows, seen = np.isin(true.images, images), np.isin(found.images, images)
    own = _rows(true, rows)
    peer = _pycocotools("keypoints", own, _rows(found, seen), 12, CROWDPOSE_SIGMAS)
    assert by_level[level] == pytest.approx(peer[0], abs=1e-9)
  with pytest.raises(ValueError, match="crowd_index lacks image 11"):
    evaluate_crowdpose(true, found, {i: 0.5 for i in range(11)})


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 5), st.floats(-3, 3))
def test_order_of_rows_units_of_scores_and_shifts_say_nothing(seed, factor, shift):
  true, found = _people(seed, images=6)
  true.keypoints[..., 2] = 2  # persons without joints tie wherever their boxes overlap
  rng = np.random.default_rng(seed)
  other_true = _rows(true, rng.permutation(len(true.images)))
  other_true.keypoints[..., :2] += shift
  other_true.boxes_xywh[:, :2] += shift
  seen = _rows(found, rng.permutation(len(found.images)))
  other = DetectedPersons(seen.images, seen.keypoints_xy + shift, factor * seen.scores**3 + shift)
  np.testing.assert_allclose(
    _numbers(evaluate_keypoints(other_true, other)), _numbers(evaluate_keypoints(true, found)), atol=1e-9
  )


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(keypoints=np.zeros((24, 16, 3))), r"true.keypoints has the shape \(24, 16, 3\): expected \(24, 17, 3\)"),
    (dict(areas=np.zeros(3)), r"true.areas has the shape \(3,\): expected \(24,\)"),
    (dict(boxes_xywh=np.full((24, 4), np.nan)), r"true.boxes_xywh\[0\] is not finite"),
    (dict(crowd=np.ones(24, bool)), "none of the 24 persons counts"),
    (dict(ignored=np.ones(24, bool)), "none of the 24 persons counts"),
    (dict(ignored=np.ones(3, bool)), r"true.ignored has the shape \(3,\): expected \(24,\)"),
    (dict(images=np.full(24, 0.5)), r"true.images are float64 \(24,\): expected one integer"),
  ],
)
def test_a_mistake_is_one_line(change, words):
  true, found = _people(0)
  with pytest.raises(ValueError, match=words) as caught:
    evaluate_keypoints(dataclasses.replace(true, **change), found)
  assert "\n" not in str(caught.value)


def test_what_stands_at_unlabeled_joints_is_not_read():
  true, found = _people(5)
  hidden = true.keypoints.copy()
  hidden[hidden[..., 2] == 0, :2] = np.nan
  assert evaluate_keypoints(dataclasses.replace(true, keypoints=hidden), found) == evaluate_keypoints(true, found)
  with pytest.raises(ValueError, match=r"found.keypoints_xy\[0\] is not finite"):
    evaluate_keypoints(true, dataclasses.replace(found, keypoints_xy=np.full_like(found.keypoints_xy, np.inf)))


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(boxes_xywh=np.full((24, 4), -1.0)), r"true.boxes_xywh\[0\] has a negative size"),
    (dict(ignored=np.ones(24, bool)), "none of the 24 boxes counts"),
    (dict(areas=np.ones(2)), r"true.areas has the shape \(2,\)"),
  ],
)
def test_wrong_boxes_are_one_line(change, words):
  true, found = _boxes(0)
  with pytest.raises(ValueError, match=words) as caught:
    evaluate_boxes(dataclasses.replace(true, **change), found)
  assert "\n" not in str(caught.value)


def test_a_thousand_images_take_a_second_or_two():
  true, found = _people(0, images=1000, persons=5, detections=20)
  start = time.perf_counter()
  evaluate_keypoints(true, found)
  assert time.perf_counter() - start < 6
