"""Ties: expected scores against all orders, independence of the order of files, and facts in records."""

import itertools

import numpy as np
import pytest

from saip_jax.evaluation.metrics import similarity
from saip_jax.evaluation.metrics.knn import knn_attributes
from saip_jax.evaluation.metrics.ranking import ranking_of
from saip_jax.evaluation.metrics.retrieval import evaluate_retrieval, evaluate_text_retrieval
from saip_jax.evaluation.metrics.similarity import Variation, on_distinct_rows, similarities

KS = (1, 2, 5, 10)


def _in_all_orders(values, matches):
  """The mean of average precision, inverse penalty and hits over every order of the entries, sorted stably."""
  found = []
  for order in itertools.permutations(range(len(values))):
    order = np.array(order)[np.argsort(-values[list(order)], kind="stable")]
    ranks = np.flatnonzero(matches[order]) + 1
    found.append([np.mean(np.arange(1, len(ranks) + 1) / ranks), len(ranks) / ranks[-1], *(ranks[0] <= k for k in KS)])
  return np.mean(found, axis=0)


@pytest.mark.parametrize("levels", [1, 2, 4, 100])
def test_scores_are_the_means_over_all_orders_of_equal_entries(levels):
  rng = np.random.default_rng(levels)
  for _ in range(25):
    count = int(rng.integers(1, 7))
    values, matches = rng.integers(0, levels, count).astype(np.float32), rng.random(count) < 0.5
    matches[rng.integers(count)] = True
    found = ranking_of(values, matches)
    numbers = [found.average_precision(), found.inverse_negative_penalty(), *map(found.hit_within, KS)]
    np.testing.assert_allclose(numbers, _in_all_orders(values, matches), atol=1e-12)
    assert found.tied == any((values[k] == values[matches]).any() for k in np.flatnonzero(~matches))
  assert ranking_of(values, matches & False) is None


def test_one_match_among_four_equals_worked_out_by_hand():
  found = ranking_of(np.array([0.5, 0.5, 0.9, 0.5, 0.5]), np.array([False, True, False, False, False]))
  assert found.average_precision() == found.inverse_negative_penalty()
  assert found.average_precision() == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4)
  assert [found.hit_within(k) for k in (1, 2, 3, 5)] == pytest.approx([0, 1 / 4, 1 / 2, 1])


def _market(seed, queries, gallery, persons=12):
  rng = np.random.default_rng(seed)
  return (
    np.sort(rng.integers(1, persons, queries)),
    rng.integers(0, 6, queries),
    np.sort(rng.integers(0, persons, gallery)),
    rng.integers(0, 6, gallery),
  )


@pytest.mark.parametrize("features", ["constant", "copies", "zeros"])
def test_the_order_of_files_says_nothing(features):
  """Persons are consecutive, like their files; equal rows are in different blocks of a matrix product."""
  query_ids, query_cameras, gallery_ids, gallery_cameras = _market(0, 30, 401)
  rng = np.random.default_rng(1)
  kinds = rng.normal(size=(5, 193)) * (features != "zeros")
  draw = lambda n: np.full((n, 193), 0.3) if features == "constant" else kinds[rng.integers(0, 5, n)]
  query, gallery = draw(30), draw(401)
  whole = lambda order: evaluate_retrieval(
    query, query_ids, query_cameras, gallery[order], gallery_ids[order], gallery_cameras[order]
  )
  one = whole(np.arange(401))
  assert one.queries_with_ties == one.queries
  for seed in range(3):
    other = whole(np.random.default_rng(seed).permutation(401))
    assert (other.mAP, other.mINP) == pytest.approx((one.mAP, one.mINP), abs=1e-12)
    assert other.cmc == pytest.approx(one.cmc, abs=1e-12)


def test_features_that_say_nothing_score_what_shuffled_galleries_score():
  query_ids, query_cameras, gallery_ids, gallery_cameras = _market(3, 20, 150)
  same = np.ones((20, 2)), np.ones((150, 2))
  found = evaluate_retrieval(same[0], query_ids, query_cameras, same[1], gallery_ids, gallery_cameras)
  rng, shuffled = np.random.default_rng(0), []
  for _ in range(150):
    random = evaluate_retrieval(
      rng.normal(size=(20, 8)), query_ids, query_cameras, rng.normal(size=(150, 8)), gallery_ids, gallery_cameras
    )
    shuffled.append([random.mAP, random.mINP, random.cmc[1], random.cmc[10]])
  error = np.std(shuffled, axis=0) / np.sqrt(150)
  numbers = np.array([found.mAP, found.mINP, found.cmc[1], found.cmc[10]])
  assert (np.abs(numbers - np.mean(shuffled, axis=0)) < 4 * error).all()


def test_captions_that_fit_all_pictures_alike_are_chance():
  ids = np.arange(40)
  found = evaluate_text_retrieval(np.ones((40, 3)), ids, np.zeros((40, 3)), ids)
  assert found.cmc == pytest.approx({1: 1 / 40, 5: 5 / 40, 10: 10 / 40})
  assert found.mAP == found.mINP == pytest.approx(np.mean(1 / np.arange(1, 41)))


@pytest.mark.parametrize("gallery", [7, 64, 333])
def test_equal_rows_have_equal_similarities_to_the_last_bit(gallery):
  rng = np.random.default_rng(gallery)
  asked = rng.normal(size=(9, 100)).astype(np.float32)
  shown = rng.normal(size=(5, 100)).astype(np.float32)[rng.integers(0, 5, gallery)]
  ((_, found),) = similarities(asked, shown)
  np.testing.assert_allclose(found, asked @ shown.T, atol=1e-5)
  for row in found:
    assert len(np.unique(row)) == len(np.unique(shown, axis=0))
  read = on_distinct_rows(lambda rows: rows @ np.ones((100, 7)), shown)
  assert read.shape == (gallery, 7) and len(np.unique(read, axis=0)) == len(np.unique(shown, axis=0))


def test_features_equal_up_to_rounding_are_equal():
  rng = np.random.default_rng(0)
  one = rng.normal(size=(1, 64))
  noise = 1e-6 * rng.normal(size=(200, 64))
  query_ids, query_cameras, gallery_ids, gallery_cameras = _market(0, 20, 200)
  measured = lambda gallery: evaluate_retrieval(
    np.tile(one, (20, 1)), query_ids, query_cameras, gallery, gallery_ids, gallery_cameras
  )
  assert measured(one + noise) == measured(np.tile(one, (200, 1)))
  assert measured(one + 1e5 * noise).queries_with_ties < 20  # they differ
  labels = rng.integers(0, 2, (200, 3))
  np.testing.assert_allclose(knn_attributes(one + noise, labels, one), labels.mean(0)[None])


@pytest.mark.parametrize("parts", [1, 3])
def test_variation_is_seen_whatever_the_parts(parts):
  features = np.full((9, 4, 2, 5), 3.0, np.float32)
  features[4, 0, 0, 1] += 1e-6
  for change, equal in ((0.0, True), (0.01, False)):
    variation, changed = Variation(), features.copy()
    changed[7, 1, 1, 2] += change
    for part in np.array_split(changed, parts):
      variation.add(part)
    assert (variation.count, variation.equal) == (9, equal)


def test_untied_scores_do_not_depend_on_the_size_of_blocks(monkeypatch):
  rng = np.random.default_rng(0)
  query_ids, query_cameras, gallery_ids, gallery_cameras = _market(5, 30, 200)
  case = (rng.normal(size=(30, 16)), query_ids, query_cameras, rng.normal(size=(200, 16)), gallery_ids, gallery_cameras)
  one = evaluate_retrieval(*case)
  monkeypatch.setattr(similarity, "_BLOCK_BYTES", 1)
  assert evaluate_retrieval(*case).mAP == pytest.approx(one.mAP, abs=1e-9) and one.queries_with_ties == 0
