"""The ridge probe against scikit-learn."""

import numpy as np
import pytest

from saip_jax.evaluation.ridge import fit_ridge


def _data(rows, width, targets=3, noise=0.1, seed=0):
  rng = np.random.default_rng(seed)
  features = rng.normal(size=(rows, width)) * rng.uniform(0.1, 50, width) + rng.normal(size=width)
  weights = rng.normal(size=(width, targets)) / features.std(0)[:, None]
  return features, features @ weights + 5 + noise * rng.normal(size=(rows, targets))


@pytest.mark.parametrize("rows, width", [(60, 8), (20, 90)])
@pytest.mark.parametrize("strength", [1e-2, 10.0])
def test_a_fit_is_that_of_scikit_learn(rows, width, strength):
  linear_model = pytest.importorskip("sklearn.linear_model")
  from sklearn.preprocessing import StandardScaler

  features, targets = _data(rows, width)
  features[:, 3] = 0.1  # constant: no information, and no division by a deviation of zero
  known = np.random.default_rng(1).random(targets.shape) < 0.8
  known[:, 1] = known[:, 0]
  scaler = StandardScaler().fit(features)
  new = _data(7, width, seed=2)[0]
  found = fit_ridge(features, np.where(known, targets, np.nan), known, strengths=[strength]).predict(new)
  for t in range(3):
    rows_of = known[:, t]
    peer = linear_model.Ridge(strength).fit(scaler.transform(features[rows_of]), targets[rows_of, t])
    np.testing.assert_allclose(found[:, t], peer.predict(scaler.transform(new)), rtol=1e-7, atol=1e-7)
  assert found.dtype == np.float64


def test_the_strength_is_the_best_on_held_out_groups():
  features, targets = _data(100, 40, noise=3.0)
  targets[:, 2] *= 1e3  # its unit must not decide
  groups = np.repeat(np.arange(25), 4)[::-1]
  strengths = (1e-3, 1e-1, 1e1, 1e3, 1e5)
  held_out = groups % 5 == 0
  unit = targets[~held_out].std(0)
  errors = [
    np.sum(
      (
        (
          fit_ridge(features[~held_out], targets[~held_out], strengths=[s]).predict(features[held_out])
          - targets[held_out]
        )
        / unit
      )
      ** 2
    )
    for s in strengths
  ]
  best = strengths[int(np.argmin(errors))]
  probe = fit_ridge(features, targets, groups=groups, strengths=strengths)
  assert probe.strength == best and best not in (strengths[0], strengths[-1])
  np.testing.assert_array_equal(probe.weights, fit_ridge(features, targets, strengths=[best]).weights)  # all rows


def test_groups_keep_a_probe_from_learning_persons_by_heart():
  rng = np.random.default_rng(0)
  persons = np.repeat(np.arange(100), 4)
  features = rng.normal(size=(100, 200))[persons] + 0.01 * rng.normal(size=(400, 200))
  targets = rng.normal(size=(100, 2))[persons]  # targets depend only on the person and do not generalize
  strengths = (1e-2, 1e6)
  assert fit_ridge(features, targets, strengths=strengths).strength == 1e-2
  assert fit_ridge(features, targets, groups=persons, strengths=strengths).strength == 1e6


def test_a_target_unknown_in_the_held_out_part_is_still_fitted():
  features, targets = _data(50, 5)
  known = np.ones_like(targets, bool)
  known[::5, 0], known[np.arange(50) % 5 != 0, 1] = False, False
  predicted = fit_ridge(features, targets, known).predict(features)
  np.testing.assert_allclose(predicted, targets, atol=1.5)


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(features=np.zeros((0, 4))), "(0, 4)"),
    (dict(targets=np.zeros((9, 2))), "(9, 2).*(10, T)"),
    (dict(targets=np.zeros(10)), "(10,).*(10, T)"),
    (dict(known=np.ones((10, 3), bool)), "(10, 3)"),
    (dict(features=np.full((10, 4), np.inf)), "features are not finite in row 0"),
    (dict(targets=np.full((10, 2), np.nan)), "targets are not finite in row 0.*known"),
    (dict(known=np.eye(10, 2) > 5), "target 0 is known in none of the 10 rows"),
    (dict(groups=np.zeros(10)), "all 10 rows are of one group"),
    (dict(groups=np.zeros(3)), "groups.*(3,).*10 rows"),
    (dict(strengths=[]), "at least one, all positive"),
    (dict(strengths=[1.0, 0.0]), "at least one, all positive"),
  ],
)
def test_a_mistake_is_one_line(change, words):
  arguments = dict(features=np.eye(10, 4), targets=np.eye(10, 2)) | change
  with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")) as caught:
    fit_ridge(**arguments)
  assert "\n" not in str(caught.value)


def test_features_of_another_width_are_refused():
  with pytest.raises(ValueError, match="expected .n, 4., as fitted"):
    fit_ridge(np.eye(10, 4), np.eye(10, 2)).predict(np.eye(10, 5))
