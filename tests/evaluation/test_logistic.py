"""The logistic probe against scikit-learn."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from saip_jax.evaluation import logistic
from saip_jax.evaluation.logistic import fit_binary, fit_classes


def _data(rows, width, seed=0):
  rng = np.random.default_rng(seed)
  scaled = rng.normal(size=(rows, width))
  scores = scaled @ rng.normal(size=(width, 4)) + rng.normal(size=(rows, 4))
  return scaled * rng.uniform(0.1, 50, width) + rng.normal(size=width), scores


def _peers(features):
  linear_model = pytest.importorskip("sklearn.linear_model")
  from sklearn.preprocessing import StandardScaler

  scaler = StandardScaler().fit(features)
  return scaler.transform, lambda strength: linear_model.LogisticRegression(C=1 / strength, tol=1e-8, max_iter=5000)


@pytest.mark.parametrize("rows, width", [(200, 8), (60, 90)])
@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_classes_are_as_likely_as_for_scikit_learn(rows, width, strength):
  features, scores = _data(rows, width)
  features[:, 3] = 0.1  # constant: no information, and no division by a deviation of zero
  scaled, peer = _peers(features)
  labels, new = scores.argmax(1), _data(30, width, seed=1)[0]
  found = softmax(fit_classes(features, np.eye(4)[labels], strengths=[strength]).logits(new), axis=1)
  expected = peer(strength).fit(scaled(features), labels).predict_proba(scaled(new))
  np.testing.assert_allclose(found, expected, atol=5e-4)


@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_attributes_are_as_likely_as_for_scikit_learn(strength):
  features, scores = _data(200, 8)
  scaled, peer = _peers(features)
  labels, new = (scores > 0.5).astype(int), _data(30, 8, seed=1)[0]
  unknown = np.random.default_rng(0).random(labels.shape) < 0.2
  found = expit(fit_binary(features, np.where(unknown, 2, labels), strengths=[strength]).logits(new))
  for a in range(4):
    rows = ~unknown[:, a]
    expected = peer(strength).fit(scaled(features)[rows], labels[rows, a]).predict_proba(scaled(new))[:, 1]
    np.testing.assert_allclose(found[:, a], expected, atol=5e-4)


def test_attributes_weigh_what_they_are_said_to():
  features, scores = _data(200, 8)
  scaled, peer = _peers(features)
  labels, new = (scores > 0.5).astype(int), _data(30, 8, seed=1)[0]
  weights = np.random.default_rng(0).uniform(0, 3, labels.shape)
  found = expit(fit_binary(features, labels, strengths=[10.0], weights=weights).logits(new))
  for a in range(4):
    fitted = peer(10.0).fit(scaled(features), labels[:, a], sample_weight=weights[:, a])
    np.testing.assert_allclose(found[:, a], fitted.predict_proba(scaled(new))[:, 1], atol=5e-4)


def test_strengths_are_tried_until_weaker_ones_are_worse(monkeypatch):
  features, scores = _data(300, 60)
  noisy = np.random.default_rng(1).random(scores.shape) < expit(0.3 * scores)
  every, tried = sorted(logistic.LOGISTIC_STRENGTHS, reverse=True), []
  solve = logistic.minimize_all
  monkeypatch.setattr(
    logistic,
    "minimize_all",
    lambda x, targets, loss, strengths, start: (
      tried.append(float(strengths[0])),
      solve(x, targets, loss, strengths, start),
    )[1],
  )
  best = every.index(fit_classes(features, np.eye(2)[noisy[:, 0].astype(int)]).strength)
  assert tried == [*every[: best + 3], every[best]]  # two weaker ones were no better; then all rows
  assert 0 < best < len(every) - 3


def test_each_attribute_has_the_strength_that_suits_it():
  rng = np.random.default_rng(0)
  features = rng.normal(size=(300, 60))
  clear = features[:, 0] + 0.1 * rng.normal(size=300) > 0
  labels = np.stack([clear, rng.random(300) < 0.5], axis=1).astype(int)
  both = fit_binary(features, labels)
  assert both.strength.shape == (2,) and both.strength[0] * 10 <= both.strength[1]
  for a in range(2):  # each as if it had been fitted alone with it
    alone = fit_binary(features, labels[:, a : a + 1], strengths=[both.strength[a]])
    np.testing.assert_allclose(both.logits(features)[:, a : a + 1], alone.logits(features), atol=2e-3)


def test_shares_of_classes_are_fitted_as_rows_of_each_class():
  features, scores = _data(80, 5)
  labels, other = scores.argmax(1), scores.argmin(1)
  mixed = fit_classes(features, 0.75 * np.eye(4)[labels] + 0.25 * np.eye(4)[other], strengths=[1.0])
  rows = np.concatenate([np.repeat(features, 3, axis=0), features])
  apart = fit_classes(rows, np.eye(4)[np.concatenate([np.repeat(labels, 3), other])], strengths=[4.0])
  np.testing.assert_allclose(softmax(mixed.logits(features), 1), softmax(apart.logits(features), 1), atol=5e-4)


def test_a_row_without_a_class_says_nothing():
  features, scores = _data(80, 5)
  shares = np.eye(4)[scores.argmax(1)]
  shares[::4] = 0
  exchanged = features.copy()
  exchanged[::4] = features[::4][::-1]  # the mean and the deviation stay
  one, two = (fit_classes(x, shares, strengths=[1.0]).logits(features) for x in (features, exchanged))
  np.testing.assert_allclose(one, two, atol=1e-3)
  named = fit_classes(features, np.eye(4)[scores.argmax(1)], strengths=[1.0]).logits(features)
  assert np.abs(named - one).max() > 0.1


def test_groups_keep_a_probe_from_learning_persons_by_heart():
  rng = np.random.default_rng(0)
  persons = np.repeat(np.arange(60), 4)
  features = rng.normal(size=(60, 100))[persons] + 0.01 * rng.normal(size=(240, 100))
  labels = rng.integers(0, 2, (60, 3))[persons]  # labels depend only on the person and do not generalize
  strengths = (1e-1, 1e3)
  assert (fit_binary(features, labels, strengths=strengths).strength == 1e-1).all()
  assert (fit_binary(features, labels, groups=persons, strengths=strengths).strength == 1e3).all()
  shares = np.eye(2)[labels[:, 0]]
  assert fit_classes(features, shares, strengths=strengths).strength == 1e-1
  assert fit_classes(features, shares, groups=persons, strengths=strengths).strength == 1e3


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(features=np.zeros((9, 4))), r"\(9, 4\) and \(10, 2\)"),
    (dict(features=np.zeros((0, 4)), shares=np.zeros((0, 2))), "at least one row"),
    (dict(features=np.full((10, 4), np.nan)), "features are not finite in row 0"),
    (dict(shares=np.full((10, 2), np.inf)), "targets are not finite in row 0"),
    (dict(groups=np.zeros(10)), "all 10 rows are of one group"),
    (dict(strengths=[]), "at least one, all positive"),
    (dict(strengths=[1.0, 0.0]), "at least one, all positive"),
  ],
)
def test_a_mistake_is_one_line(change, words):
  with pytest.raises(ValueError, match=words) as caught:
    fit_classes(**dict(features=np.eye(10, 4), shares=np.eye(10, 2)) | change)
  assert "\n" not in str(caught.value)


def test_features_of_another_width_are_refused():
  with pytest.raises(ValueError, match=r"expected \(n, 4\), as fitted"):
    fit_classes(np.eye(10, 4), np.eye(10, 2)).logits(np.eye(10, 5))


def test_labels_that_are_no_numbers_are_refused():
  features, scores = _data(20, 4)
  labels = (scores > 0).astype(float)
  labels[3, 1] = np.nan
  with pytest.raises(ValueError, match="targets are not finite in row 3"):
    fit_binary(features, labels)
