"""The bootstrap of scores: its formula, and scores of test sets in which images are really repeated."""

import numpy as np
import pytest

from saip_jax.evaluation.evaluate import evaluation_text
from saip_jax.evaluation.metrics.attributes import balanced_accuracy, evaluate_attributes
from saip_jax.evaluation.metrics.boxes import DetectedBoxes, TrueBoxes
from saip_jax.evaluation.metrics.crowdhuman import evaluate_crowdhuman
from saip_jax.evaluation.metrics.pck import keypoint_scores
from saip_jax.evaluation.metrics.retrieval import evaluate_retrieval
from saip_jax.evaluation.resampling import Resampling, bootstrap, interval, mean_of
from saip_jax.evaluation.tasks.joints import resampling_of as pck_resampling
from saip_jax.evaluation.tasks.reid import resampling_of


def test_the_spread_of_a_mean_is_that_of_its_groups():
  random = np.random.default_rng(0)
  of_group = random.normal(size=60)
  groups = np.repeat(np.arange(60), 5)  # five equal images each tell no more than one
  draws = bootstrap(Resampling("mean", groups, mean_of(of_group[groups], np.ones(300))), 4000)
  assert draws.std() == pytest.approx(of_group.std() / np.sqrt(60), rel=0.05)
  low, high = interval(draws)
  assert (low, high) == pytest.approx(
    of_group.mean() + 1.96 * of_group.std() / np.sqrt(60) * np.array([-1, 1]), abs=0.02
  )


def test_the_interval_holds_the_truth_as_often_as_it_claims():
  random = np.random.default_rng(1)
  held = 0
  for _ in range(300):
    values = random.exponential(size=80)
    low, high = interval(bootstrap(Resampling("mean", np.arange(80), mean_of(values, np.ones(80))), 200))
    held += low <= 1 <= high
  assert 0.89 < held / 300 < 0.98  # 95 % less what skewed values and few draws cost


def test_two_encoders_see_the_same_draws():
  random = np.random.default_rng(2)
  hard, groups = random.random(100), np.arange(100) // 4
  better = bootstrap(Resampling("s", groups, mean_of(1 - 0.5 * hard, np.ones(100))), 300)
  worse = bootstrap(Resampling("s", groups + 7, mean_of(0.9 - 0.5 * hard, np.ones(100))), 300)
  np.testing.assert_allclose(better - worse, 0.1, atol=1e-12)


@pytest.fixture
def times():
  return np.random.default_rng(3).integers(0, 4, 40)


def test_mA_of_repeated_images(times):
  random = np.random.default_rng(4)
  shares, labels = random.random((40, 6)), random.integers(0, 2, (40, 6))
  repeated = evaluate_attributes(np.repeat(shares, times, 0), np.repeat(labels, times, 0))
  found = balanced_accuracy(shares > 0.5, labels == 1, times.astype(float))
  np.testing.assert_allclose(found, repeated.balanced_accuracy, atol=1e-12)


def test_PCK_of_repeated_images(times):
  random = np.random.default_rng(5)
  true = random.uniform(0, 100, (40, 5, 2))
  case = true + random.normal(0, 8, true.shape), true, random.random((40, 5)) < 0.7, random.uniform(80, 120, 40)
  resampling = pck_resampling(keypoint_scores(*case), np.arange(40))
  repeated = keypoint_scores(*(np.repeat(each, times, axis=0) for each in case))
  assert resampling.score == "PCK@0.1"
  assert resampling.of(times.astype(float)) == pytest.approx(repeated.pck[0.1], abs=1e-12)


def test_mAP_of_repeated_queries(times):
  random = np.random.default_rng(6)
  features, persons, cameras = random.normal(size=(40, 8)), random.integers(1, 12, 40), random.integers(0, 3, 40)
  gallery = random.normal(size=(90, 8)), random.integers(1, 10, 90), random.integers(0, 3, 90)  # 10, 11: no match
  resampling = resampling_of(evaluate_retrieval(features, persons, cameras, *gallery), persons)
  repeated = evaluate_retrieval(*(np.repeat(each, times, axis=0) for each in (features, persons, cameras)), *gallery)
  has = np.isin(persons, gallery[1])
  assert len(resampling.groups) == has.sum() and set(resampling.groups) == set(persons[has])
  assert resampling.of(times[has].astype(float)) == pytest.approx(repeated.mAP, abs=1e-12)


def test_AP_of_repeated_photos(times):
  random = np.random.default_rng(7)
  photos, found_in = np.repeat(np.arange(40), 3), np.repeat(np.arange(40), 5)
  boxes = np.concatenate([random.uniform(0, 60, (120, 2)), random.uniform(20, 40, (120, 2))], 1)
  found = boxes[random.integers(0, 3, 200) + 3 * found_in] + random.normal(0, 4, (200, 4))
  ignored, scores = random.random(120) < 0.2, random.random(200)
  once = evaluate_crowdhuman(
    TrueBoxes(photos, boxes, ignored), DetectedBoxes(found_in, found, scores), np.full((40, 2), 120)
  )
  assert once.resampled_AP(np.ones(40, int)) == once.AP
  copies = np.repeat(np.arange(40), times)
  rows, found_rows = (np.concatenate([np.flatnonzero(of == k) for k in copies]) for of in (photos, found_in))
  number = lambda each: np.repeat(np.arange(len(copies)), each)
  repeated = evaluate_crowdhuman(
    TrueBoxes(number(3), boxes[rows], ignored[rows]),
    DetectedBoxes(number(5), found[found_rows], scores[found_rows]),
    np.full((len(copies), 2), 120),
  )
  assert once.resampled_AP(times) == pytest.approx(repeated.AP, abs=1e-12)


def test_the_text_shows_the_interval_beside_its_score():
  record = {
    "task": "reid",
    "protocol": "nearest",
    "encoder": {"checkpoint": "W", "image_hw": [64, 32]},
    "scores": {"mAP": 0.5, "CMC@1": 0.7},
    "uncertainty": {"score": "mAP", "low": 0.451, "high": 0.548, "groups": 9, "draws": 500},
    "facts": {},
    "left_out": [],
  }
  lines = evaluation_text(record).splitlines()
  assert lines[-2].endswith("50.00 %  (95 %: 45.10 % to 54.80 %)") and lines[-1].endswith("70.00 %")
  assert "95 %" not in evaluation_text(record | {"uncertainty": None})
