"""CrowdHuman's scores against mmdet's toy case, its definitions written out in loops, and cases worked out by hand."""

import dataclasses
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from saip_jax.evaluation.metrics.boxes import DetectedBoxes, TrueBoxes
from saip_jax.evaluation.metrics.crowdhuman import evaluate_crowdhuman


def _case(seed, images=8, persons=6, detections=10, levels=None):
  rng = np.random.default_rng(seed)
  n, m = images * persons, images * detections
  where = rng.integers(0, images - 1, n)  # the last image has no person
  boxes = np.concatenate([rng.uniform(-20, 80, (n, 2)), rng.uniform(10, 60, (n, 2))], 1)
  rows = rng.integers(0, n, m)
  found = boxes[rows] + rng.choice([0.0, 2.0, 12.0], (m, 1)) * rng.normal(size=(m, 4))
  found[:, 2:] = np.abs(found[:, 2:])
  scores = rng.random(m)
  if levels:
    scores = np.floor(scores * levels) / levels
  return (
    TrueBoxes(where, boxes, rng.random(n) < 0.2),
    DetectedBoxes(np.where(rng.random(m) < 0.9, where[rows], images - 1), found, scores),
    np.full((images, 2), 100),
  )


def _expected(true, found, sizes_wh):
  """AP, MR and JI by loops over images, detections and persons."""

  def corners(boxes, images):
    low, high = boxes[:, :2].copy(), boxes[:, :2] + boxes[:, 2:]
    size = sizes_wh[images]
    return np.concatenate([np.minimum(np.maximum(low, 0), size - 1), np.maximum(np.minimum(high, size), 0)], 1)

  def shared(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0)

  area = lambda a: max((a[2] - a[0]) * (a[3] - a[1]), 1e-6)
  iou = lambda a, b: shared(a, b) / (area(a) + area(b) - shared(a, b))
  mostly = lambda a, regions: any(shared(a, r) / area(a) > 0.5 for r in regions)
  true_boxes, boxes = corners(true.boxes_xywh, true.images), corners(found.boxes_xywh, found.images)
  persons_of = {i: true_boxes[(true.images == i) & ~true.ignored] for i in range(len(sizes_wh))}
  regions_of = {i: true_boxes[(true.images == i) & true.ignored] for i in range(len(sizes_wh))}

  listed = []
  for i in range(len(sizes_wh)):
    rows = sorted(np.flatnonzero(found.images == i), key=lambda r: -found.scores[r])
    taken = set()
    for r in rows:
      best, at = 0.5, None
      for k, person in enumerate(persons_of[i]):
        if k not in taken and iou(boxes[r], person) > best:
          best, at = iou(boxes[r], person), k
      if at is not None:
        taken.add(at)
        listed.append((found.scores[r], 1))
      elif not mostly(boxes[r], regions_of[i]):
        listed.append((found.scores[r], 0))
  listed.sort(key=lambda pair: -pair[0])
  count, hits, false, recall, precision, fppi = (~true.ignored).sum(), 0, 0, [], [], []
  for _, hit in listed:
    hits, false = hits + hit, false + 1 - hit
    recall.append(hits / count)
    precision.append(hits / (hits + false))
    fppi.append(false / len(sizes_wh))
  ap = sum((recall[k] - recall[k - 1]) * (precision[k] + precision[k - 1]) / 2 for k in range(1, len(recall)))
  missed = []
  for reference in (0.01, 0.0178, 0.0316, 0.0562, 0.1, 0.1778, 0.3162, 0.5623, 1.0):
    at = next((k for k, f in enumerate(fppi) if f >= reference), len(fppi) - 1)
    missed.append(1 - recall[at])

  best_ji = 0
  for tenth in range(10):
    ratios = []
    for i in range(len(sizes_wh)):
      rows = np.flatnonzero((found.images == i) & (found.scores > tenth / 10))
      rows = rows[np.argsort(-found.scores[rows], kind="stable")]
      persons = persons_of[i]
      pairs = {}
      if len(rows) and len(persons):
        table = np.array([[iou(boxes[r], p) >= 0.5 for p in persons] for r in rows])
        pairs = {d: p for d, p in enumerate(maximum_bipartite_matching(csr_matrix(table), "column")) if p >= 0}
      n = len(rows) - sum(mostly(boxes[r], regions_of[i]) for d, r in enumerate(rows) if d not in pairs)
      m = len(persons) - sum(mostly(p, regions_of[i]) for k, p in enumerate(persons) if k not in pairs.values())
      if n or m:
        ratios.append(len(pairs) / (m + n - len(pairs)))
    best_ji = max(best_ji, np.mean(ratios) if ratios else 0)
  return ap, np.exp(np.mean(np.log(missed))), best_ji


def test_the_toy_case_of_mmdet():
  persons = [
    [1330, 317, 418, 1338],
    [792, 24, 723, 2017],
    [693, 291, 307, 894],
    [522, 290, 285, 826],
    [728, 336, 175, 602],
    [92, 337, 267, 681],
  ]
  region = [1387, 353, 320, 285]
  true = TrueBoxes(np.zeros(7, int), np.array([*persons, region]), np.arange(7) == 6)
  scores = evaluate_crowdhuman(
    true, DetectedBoxes(np.zeros(6, int), np.array(persons), np.ones(6)), np.array([[1640, 1640]])
  )
  assert (round(scores.AP, 4), scores.MR, scores.JI) == (0.8333, 0.0, 1.0) and scores.persons == 6


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("seed", range(6))
def test_scores_are_those_of_the_definition(seed, levels):
  case = _case(seed, levels=levels)
  scores = evaluate_crowdhuman(*case)
  np.testing.assert_allclose((scores.AP, scores.MR, scores.JI), _expected(*case), rtol=0, atol=1e-9)


def test_an_ignored_region_forgives_what_lies_in_it_but_takes_nobody_from_a_person():
  sizes = np.array([[100, 100]])
  true = TrueBoxes(np.zeros(2, int), np.array([[0, 0, 20, 40], [0, 0, 100, 50]]), np.array([False, True]))
  on_person, in_region, outside = [0, 0, 20, 40], [60, 5, 20, 40], [60, 60, 20, 40]
  score = lambda *boxes: evaluate_crowdhuman(
    true, DetectedBoxes(np.zeros(len(boxes), int), np.array(boxes), np.linspace(0.9, 0.5, len(boxes))), sizes
  )
  assert score(on_person, in_region) == score(on_person)
  assert (score(on_person).MR, score(on_person).JI) == (0.0, 1.0)
  assert score(on_person, outside).JI == 1.0  # at a threshold between the two
  assert score(outside, on_person).JI == 0.5


def test_nothing_found_is_the_worst():
  true, found, sizes = _case(0)
  none = DetectedBoxes(found.images[:0], found.boxes_xywh[:0], found.scores[:0])
  scores = evaluate_crowdhuman(true, none, sizes)
  assert (scores.AP, scores.MR, scores.JI) == (0.0, 1.0, 0.0) and scores.images == 8


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_order_of_rows_and_units_of_scores_say_nothing(seed):
  true, found, sizes = _case(seed)
  rng = np.random.default_rng(seed)
  rows, seen = rng.permutation(len(true.images)), rng.permutation(len(found.images))
  mixed = TrueBoxes(true.images[rows], true.boxes_xywh[rows], true.ignored[rows])
  other = DetectedBoxes(found.images[seen], found.boxes_xywh[seen], found.scores[seen] ** 3)
  one, two = evaluate_crowdhuman(true, found, sizes), evaluate_crowdhuman(mixed, other, sizes)
  assert two.AP == pytest.approx(one.AP, abs=1e-12) and two.MR == pytest.approx(one.MR, abs=1e-12)


@pytest.mark.parametrize(
  "change, sizes, words",
  [
    ({}, np.full((7, 2), 100), r"true.images are 0 to .: expected rows of the 7 sizes_wh|found.images are 0 to 7"),
    ({}, np.full(8, 100), r"sizes_wh has the shape \(8,\)"),
    (dict(scores=np.full(80, 1.5)), np.full((8, 2), 100), "found.scores are 1.5 to 1.5: expected 0 to 1"),
    (dict(boxes_xywh=np.full((80, 4), np.nan)), np.full((8, 2), 100), r"found.boxes_xywh\[0\] is not finite"),
  ],
)
def test_a_mistake_is_one_line(change, sizes, words):
  true, found, _ = _case(0)
  with pytest.raises(ValueError, match=words) as caught:
    evaluate_crowdhuman(true, dataclasses.replace(found, **change), sizes)
  assert "\n" not in str(caught.value)


def test_five_hundred_crowded_images_take_seconds():
  case = _case(0, images=500, persons=22, detections=40)
  start = time.perf_counter()
  evaluate_crowdhuman(*case)
  assert time.perf_counter() - start < 8
