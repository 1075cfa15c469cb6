"""Segmentation against scikit-learn."""

import math
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from saip_jax.evaluation.metrics.segmentation import LIP_FLIP_PAIRS, confusion_matrix, segmentation_scores, unflip


def _maps(seed, classes=6, shape=(3, 20, 10), shown=6):
  rng = np.random.default_rng(seed)
  true = rng.integers(0, shown, shape)
  predicted = np.where(rng.random(shape) < 0.6, true, rng.integers(0, shown, shape))
  return np.where(rng.random(shape) < 0.1, 255, true).astype(np.uint8), predicted.astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_scikit_learn(seed, dtype):
  metrics = pytest.importorskip("sklearn.metrics")
  true, predicted = _maps(seed)
  found = confusion_matrix(true.astype(dtype), predicted.astype(dtype), 6)
  kept = true != 255
  np.testing.assert_array_equal(found, metrics.confusion_matrix(true[kept], predicted[kept], labels=range(6)))
  scores = segmentation_scores(found)
  iou = metrics.jaccard_score(true[kept], predicted[kept], average=None)
  assert scores.iou == pytest.approx(iou, abs=1e-12) and scores.mIoU == pytest.approx(iou.mean(), abs=1e-12)
  assert scores.mean_accuracy == pytest.approx(metrics.balanced_accuracy_score(true[kept], predicted[kept]), abs=1e-12)
  assert scores.pixel_accuracy == pytest.approx(metrics.accuracy_score(true[kept], predicted[kept]), abs=1e-12)
  assert scores.absent == () and scores.pixels == kept.sum()


def test_classes_that_are_nowhere_are_left_out_and_said():
  true, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 3])
  scores = segmentation_scores(confusion_matrix(true, predicted, 5))
  assert scores.absent == (2, 4) and math.isnan(scores.iou[2]) and scores.iou[3] == 0
  assert scores.mIoU == pytest.approx((1 + 0.5 + 0) / 3) and scores.mean_accuracy == 0.75


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_images_add_up_and_names_of_classes_say_nothing(seed):
  true, predicted = _maps(seed)
  whole = confusion_matrix(true, predicted, 6)
  np.testing.assert_array_equal(whole, sum(confusion_matrix(t, p, 6) for t, p in zip(true, predicted)))
  renamed = np.r_[np.random.default_rng(seed).permutation(6), np.zeros(249, int), 255]
  one, two = segmentation_scores(whole), segmentation_scores(confusion_matrix(renamed[true], renamed[predicted], 6))
  assert (two.mIoU, two.mean_accuracy, two.pixel_accuracy) == pytest.approx(
    (one.mIoU, one.mean_accuracy, one.pixel_accuracy)
  )
  best = segmentation_scores(confusion_matrix(true, np.where(true == 255, 0, true), 6))
  assert (best.mIoU, best.mean_accuracy, best.pixel_accuracy) == (1, 1, 1)


@pytest.mark.parametrize(
  "true, predicted, words",
  [
    ([0, 7], [0, 0], "true has the label 7: expected 0 to 5, or 255"),
    ([0, 1], [0, 6], "predicted has the label 6: expected 0 to 5"),
    ([0, 1], [0, 255], "predicted has the label 255"),
    ([0, -1], [0, 0], "true has labels -1 to 0"),
    ([0, 1], [0, 256], "predicted has labels 0 to 256"),
    ([0, 1], [0], r"\(2,\).*\(1,\).*resize"),
    ([0.0, 1.0], [0, 1], "float64.*expected integers"),
  ],
)
def test_wrong_labels_are_one_line(true, predicted, words):
  with pytest.raises(ValueError, match=words) as caught:
    confusion_matrix(np.array(true), np.array(predicted), 6)
  assert "\n" not in str(caught.value)


def test_a_set_without_a_pixel_that_counts_is_refused():
  with pytest.raises(ValueError, match="confusion is all 0"):
    segmentation_scores(confusion_matrix(np.full(4, 255), np.zeros(4, int), 3))


def test_what_is_predicted_where_nothing_counts_is_not_read():
  assert confusion_matrix(np.array([255, 1]), np.array([200, 1]), 2).tolist() == [[0, 0], [0, 1]]


def test_scores_of_a_mirrored_image_are_turned_back():
  scores = np.random.default_rng(0).random((2, 4, 20))
  back = unflip(scores, LIP_FLIP_PAIRS)
  np.testing.assert_array_equal(back[:, 0, 14], scores[:, 3, 15])
  np.testing.assert_array_equal(back[:, 1, 3], scores[:, 2, 3])
  np.testing.assert_array_equal(unflip(back, LIP_FLIP_PAIRS), scores)


def test_a_thousand_maps_take_a_second():
  true, predicted = (np.tile(maps, (100, 1, 1)) for maps in _maps(0, shape=(10, 256, 128)))
  start = time.perf_counter()
  confusion_matrix(true, predicted, 20)
  assert time.perf_counter() - start < 4
