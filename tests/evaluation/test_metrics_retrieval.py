"""Retrieval and nearest neighbors against scikit-learn and against answers worked out by hand."""

import itertools
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from saip_jax.evaluation.metrics import similarity
from saip_jax.evaluation.metrics.knn import knn_attributes
from saip_jax.evaluation.metrics.retrieval import evaluate_retrieval, evaluate_text_retrieval


def _random_case(seed, queries=40, gallery=300, width=16):
  rng = np.random.default_rng(seed)
  draw = lambda n: rng.normal(size=(n, width))
  return (
    draw(queries),
    rng.integers(1, 12, queries),
    rng.integers(0, 3, queries),
    draw(gallery),
    rng.integers(-1, 14, gallery),
    rng.integers(0, 3, gallery),
  )


def _expected(query, query_ids, query_cameras, gallery, gallery_ids, gallery_cameras):
  """The scores by scikit-learn and loops, of similarities that all differ."""
  metrics = pytest.importorskip("sklearn.metrics")
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  similarities = unit(query.astype(np.float32)) @ unit(gallery.astype(np.float32)).T
  average, inverse, hits = [], [], []
  for row, person, camera in zip(similarities, query_ids, query_cameras):
    shown = [
      g
      for g in np.argsort(-row, kind="stable")
      if gallery_ids[g] != -1 and not (gallery_ids[g] == person and gallery_cameras[g] == camera)
    ]
    matches = gallery_ids[shown] == person
    if matches.any():
      average.append(metrics.average_precision_score(matches, -np.arange(len(shown))))
      inverse.append(matches.sum() / (np.flatnonzero(matches)[-1] + 1))
      hits.append([matches[:k].any() for k in (1, 5, 10)])
  return np.mean(average), np.mean(inverse), np.mean(hits, axis=0), len(average)


@pytest.mark.parametrize("block_bytes", [1, 2**26])
def test_scores_are_those_of_scikit_learn(block_bytes, monkeypatch):
  monkeypatch.setattr(similarity, "_BLOCK_BYTES", block_bytes)
  for seed in range(5):
    case = _random_case(seed)
    if seed == 4:
      case[1][:7] = 50  # not in the gallery
    mean_ap, mean_inp, cmc, queries = _expected(*case)
    found = evaluate_retrieval(*case)
    assert found.mAP == pytest.approx(mean_ap, abs=1e-12) and found.mINP == pytest.approx(mean_inp, abs=1e-12)
    assert list(found.cmc.values()) == pytest.approx(list(cmc), abs=1e-12) and found.queries_with_ties == 0
    assert (found.queries, found.queries_without_match) == (queries, 40 - queries)
    assert found.queries_without_match == (7 if seed == 4 else 0)


def test_a_case_worked_out_by_hand():
  angles = np.deg2rad([0, 5, 10, 20, 30, 40, 60])
  gallery = np.stack([np.cos(angles), np.sin(angles)], 1) * np.arange(1, 8)[:, None]  # lengths are irrelevant
  ids = np.array([1, -1, 0, 1, 2, 1, 2])
  cameras = np.array([0, 1, 1, 1, 1, 2, 0])
  query = np.array([[3.0, 0.0], [1.0, 0.0], [0.5, 0.0]])
  # Query 0 sees [distractor, 1, 2, 1, 2] (its own camera's picture and junk are gone): AP = (1/2 + 2/4) / 2.
  # Query 1, of person 2 by camera 1, sees [1, distractor, 1, 1, 2]: AP = 1/5. Query 2's person is nowhere.
  found = evaluate_retrieval(query, np.array([1, 2, 3]), np.array([0, 1, 0]), gallery, ids, cameras)
  assert found.mAP == pytest.approx((0.5 + 0.2) / 2) and found.mINP == pytest.approx((2 / 4 + 1 / 5) / 2)
  assert found.cmc == {1: 0.0, 5: 1.0, 10: 1.0}
  assert (found.queries, found.queries_without_match) == (2, 1)


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(query_features=np.zeros((0, 16))), "query_features.*(0, 16)"),
    (dict(query_features=np.zeros((40, 8))), "8 wide and those of the gallery 16"),
    (dict(gallery_features=np.zeros(16)), "gallery_features.*(16,)"),
    (dict(query_ids=np.ones(39, int)), "query_ids.*(39,).*40"),
    (dict(gallery_cameras=np.ones(7, int)), "gallery_cameras.*(7,).*300"),
    (dict(gallery_cameras=np.full(300, 0.5)), "gallery_cameras are float64"),
    (dict(query_ids=np.r_[np.ones(3, int), np.zeros(37, int)]), r"query_ids\[3\] is 0.*add 1"),
    (dict(query_ids=np.full(40, -1)), r"query_ids\[0\] is -1"),
    (dict(query_features=np.full((40, 16), np.nan)), r"query_features\[0\] is not finite"),
    (dict(query_ids=np.full(40, 99)), "none of the 40 queries has a match"),
    (dict(gallery_ids=np.full(300, -1)), "none of the 40 queries has a match"),
  ],
)
def test_a_mistake_is_one_line(change, words):
  names = ("query_features", "query_ids", "query_cameras", "gallery_features", "gallery_ids", "gallery_cameras")
  with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")) as caught:
    evaluate_retrieval(**{**dict(zip(names, _random_case(0))), **change})
  assert "\n" not in str(caught.value)


def test_features_of_zero_and_a_gallery_smaller_than_the_ranks_are_no_error():
  found = evaluate_retrieval(np.zeros((1, 4)), [1], [0], np.zeros((2, 4)), [2, 1], [1, 1])
  assert found.mAP == found.mINP == 0.75 and found.cmc == {1: 0.5, 5: 1.0, 10: 1.0}  # first or second


def test_a_large_gallery_takes_seconds():
  rng = np.random.default_rng(0)
  draw = lambda n: (rng.normal(size=(n, 192)).astype(np.float32), rng.integers(1, 1500, n), rng.integers(0, 6, n))
  start = time.perf_counter()
  evaluate_retrieval(*draw(500), *draw(20_000))
  assert time.perf_counter() - start < 20  # a sixth of the 3,000 queries that may take as long


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_order_of_rows_lengths_and_turns_say_nothing(seed, factor):
  query, query_ids, query_cameras, gallery, gallery_ids, gallery_cameras = _random_case(seed)
  rng = np.random.default_rng(seed)
  q, g, turn = rng.permutation(40), rng.permutation(300), np.linalg.qr(rng.normal(size=(16, 16)))[0]
  one = evaluate_retrieval(query, query_ids, query_cameras, gallery, gallery_ids, gallery_cameras)
  two = evaluate_retrieval(
    factor * query[q] @ turn, query_ids[q], query_cameras[q], gallery[g] @ turn, gallery_ids[g], gallery_cameras[g]
  )
  assert two.mAP == pytest.approx(one.mAP, abs=1e-6) and two.mINP == pytest.approx(one.mINP, abs=1e-6)
  assert two.queries == one.queries


def test_sentences_find_pictures_whatever_the_camera():
  query, query_ids, _, gallery, gallery_ids, _ = _random_case(3)
  gallery_ids = gallery_ids + 1  # 0 and -1 mean nothing here
  found = evaluate_text_retrieval(query, query_ids, gallery, gallery_ids)
  cameras = np.zeros(40, int), np.ones(300, int)  # nothing is put aside
  mean_ap, mean_inp, cmc, queries = _expected(query, query_ids, cameras[0], gallery, gallery_ids, cameras[1])
  assert found.mAP == pytest.approx(mean_ap, abs=1e-9) and found.mINP == pytest.approx(mean_inp, abs=1e-9)
  assert list(found.cmc.values()) == pytest.approx(list(cmc)) and found.queries == queries == 40
  found = evaluate_text_retrieval(np.eye(2), np.array([-1, 0]), np.eye(2), np.array([-1, 7]))
  assert (found.mAP, found.queries, found.queries_without_match) == (1.0, 1, 1)
  with pytest.raises(ValueError, match="none of the 2 queries has a match: no image shows"):
    evaluate_text_retrieval(np.eye(2), np.array([1, 2]), np.eye(2), np.array([3, 4]))
  with pytest.raises(ValueError, match=r"text_ids are float64 \(2,\)"):
    evaluate_text_retrieval(np.eye(2), np.array([1.0, 2]), np.eye(2), np.array([3, 4]))


@pytest.mark.parametrize("block_bytes", [1, 2**26])
@pytest.mark.parametrize("neighbors", [1, 20, 1000])
def test_neighbors_vote_as_those_of_scikit_learn(neighbors, block_bytes, monkeypatch):
  sklearn_neighbors = pytest.importorskip("sklearn.neighbors")
  monkeypatch.setattr(similarity, "_BLOCK_BYTES", block_bytes)
  rng = np.random.default_rng(0)
  labels, tests = rng.integers(-2, 5, 200), rng.integers(-2, 5, 90)
  features, test_features = (rng.normal(size=(len(y), 6)) + 0.8 * np.eye(7, 6)[y] for y in (labels, tests))
  peer = sklearn_neighbors.KNeighborsClassifier(
    min(neighbors, 200), metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
  )
  expected = peer.fit(features, labels).predict(test_features)
  classes = np.unique(labels)
  votes = knn_attributes(features, (labels[:, None] == classes).astype(int), test_features, neighbors)
  np.testing.assert_allclose(votes, peer.predict_proba(test_features), atol=1e-6)
  np.testing.assert_array_equal(classes[votes.argmax(1)], expected)
  assert np.mean(expected == tests) > 1 / 7


def test_neighbors_that_are_equally_near_share_what_votes_are_left():
  train, is_2 = np.array([[1.0, 0], [0, 1], [1, 0], [2, 0], [-1, 0]]), np.array([[0], [0], [1], [1], [0]])
  for order in itertools.permutations(range(5)):
    for neighbors in (1, 2, 3):  # two of the three nearest are of class 2
      votes = knn_attributes(train[[*order]], is_2[[*order]], np.array([[5.0, 0]]), neighbors)
      assert votes[0, 0] == pytest.approx(2 / 3)
  # Known labels of three equals are 1, 1 and 0, of which two vote; a nearer one votes 0, exp(-0.2 / 0.1) as far.
  shown = np.array([[1.0, 0], [0.8, 0.6], [0.8, 0.6], [0.8, 0.6], [0.8, 0.6]])
  labels, weight = np.array([[0], [1], [2], [1], [0]]), np.exp(-(1 - np.float32(0.8)) / 0.1)
  expected = weight * 3 / 4 * 2 / (1 + weight * 3 / 4 * 3)  # four equals, three of which vote
  for order in itertools.permutations(range(5)):
    shares = knn_attributes(shown[[*order]], labels[[*order]], np.array([[1.0, 0]]), neighbors=4, temperature=0.1)
    assert shares[0, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(train_labels=np.zeros(3, int)), r"train_labels are int64 \(3,\)"),
    (dict(features=np.zeros((2, 3))), "4 wide and features 3"),
    (dict(neighbors=0), "neighbors=0"),
    (dict(temperature=0.0), "temperature=0.0"),
    (dict(train_features=np.full((4, 4), np.nan)), r"train_features\[0\] is not finite"),
  ],
)
def test_a_mistake_about_neighbors_is_one_line(change, words):
  arguments = dict(train_features=np.eye(4), train_labels=np.eye(4, dtype=int), features=np.eye(4)) | change
  with pytest.raises(ValueError, match=words):
    knn_attributes(**arguments)
