"""Attribute scores against scikit-learn, and a case worked out by hand."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from saip_jax.evaluation.metrics.attributes import evaluate_attributes


def _case(seed, pictures=60, attributes=7):
  rng = np.random.default_rng(seed)
  labels = (rng.random((pictures, attributes)) < rng.uniform(0.1, 0.9, attributes)).astype(int)
  labels[0], labels[1] = 0, 1  # every attribute both ways
  return np.clip(labels * 0.3 + rng.random((pictures, attributes)) * 0.7, 0, 1), labels


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed):
  metrics = pytest.importorskip("sklearn.metrics")
  probabilities, labels = _case(seed)
  probabilities[3] = 0.1  # nothing predicted
  predicted = probabilities > 0.5
  scores = evaluate_attributes(probabilities, labels)
  balanced = [metrics.balanced_accuracy_score(labels[:, a], predicted[:, a]) for a in range(7)]
  assert scores.balanced_accuracy == pytest.approx(balanced, abs=1e-12)
  assert scores.mA == pytest.approx(np.mean(balanced), abs=1e-12)
  of = dict(average="samples", zero_division=0)
  assert scores.accuracy == pytest.approx(metrics.jaccard_score(labels, predicted, **of), abs=1e-12)
  precision, recall = metrics.precision_score(labels, predicted, **of), metrics.recall_score(labels, predicted, **of)
  assert (scores.precision, scores.recall) == pytest.approx((precision, recall), abs=1e-12)
  assert scores.f1 == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-12)
  assert scores.one_sided == () and (scores.images, scores.images_without) == (60, (labels.sum(1) == 0).sum())


def test_a_case_worked_out_by_hand():
  labels = np.array([[1, 1, 0], [1, 2, 0], [0, 0, 0]])
  probabilities = np.array([[0.9, 0.5, 0.1], [0.9, 0.6, 0.1], [0.2, 0.1, 0.3]])  # 0.5 is not above 0.5
  scores = evaluate_attributes(probabilities, labels)
  assert scores.balanced_accuracy == (1.0, (0 + 1 / 2) / 2, 0.5)  # the third is never true: its positives count 0
  assert scores.one_sided == (2,) and scores.images_without == 1
  assert scores.accuracy == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
  precision, recall = (1 + 1 / 2 + 0) / 3, (1 / 2 + 1 + 0) / 3
  assert (scores.precision, scores.recall) == pytest.approx((precision, recall)) and scores.f1 == pytest.approx(0.5)


def test_each_attribute_may_have_its_own_threshold():
  labels = np.array([[1, 0], [0, 1]])
  probabilities = np.array([[0.3, 0.8], [0.1, 0.9]])
  assert evaluate_attributes(probabilities, labels, np.array([0.2, 0.85])).mA == 1.0
  assert evaluate_attributes(probabilities, labels).mA == 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 5))
def test_order_and_monotone_changes_of_probabilities_say_nothing(seed, power):
  probabilities, labels = _case(seed)
  one = evaluate_attributes(probabilities, labels, 0.5)
  rows = np.random.default_rng(seed).permutation(len(labels))
  two = evaluate_attributes(probabilities[rows] ** power, labels[rows], 0.5**power)
  numbers = lambda scores: (scores.mA, scores.accuracy, scores.precision, scores.recall, scores.f1)
  np.testing.assert_allclose(numbers(two), numbers(one))


def test_all_right_is_1_and_all_wrong_is_0():
  _, labels = _case(0)
  labels[0, 0] = 1  # some attribute in every picture
  labels[labels.sum(1) == 0, 0] = 1
  best, worst = evaluate_attributes(labels, labels), evaluate_attributes(1 - labels, labels)
  assert (best.mA, best.accuracy, best.precision, best.recall, best.f1) == (1, 1, 1, 1, 1)
  assert (worst.mA, worst.accuracy, worst.precision, worst.recall, worst.f1) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(probabilities=np.full((4, 2), 3.0)), r"probabilities\[0\].*sigmoid"),
    (dict(probabilities=np.full((4, 2), np.nan)), r"probabilities\[0\].*sigmoid"),
    (dict(labels=np.full((4, 2), -1)), r"labels\[0\] are not all 0, 1 or 2"),
    (dict(labels=np.zeros((4, 3), int)), r"\(4, 2\) and \(4, 3\)"),
    (dict(threshold=np.zeros(3)), r"threshold has the shape \(3,\).*2 attributes"),
    (dict(probabilities=np.zeros((0, 2)), labels=np.zeros((0, 2))), "at least one each"),
  ],
)
def test_a_mistake_is_one_line(change, words):
  arguments = dict(probabilities=np.zeros((4, 2)), labels=np.zeros((4, 2), int)) | change
  with pytest.raises(ValueError, match=words) as caught:
    evaluate_attributes(**arguments)
  assert "\n" not in str(caught.value)
