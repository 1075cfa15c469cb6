"""Parsing of several persons in cases worked out by hand, and against a plain count of every region."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from saip_jax.evaluation.metrics.instance_parsing import (
  PARSING_THRESHOLDS,
  ParsedImage,
  evaluate_instance_parsing,
  persons_of_maps,
)


def _person(top, parts, height=20, width=10):
  """A person of parts two rows high, one below the other."""
  found = np.zeros((height, width), np.uint8)
  for k, part in enumerate(parts):
    found[top + 2 * k : top + 2 * k + 2] = part
  return found


def test_persons_found_exactly_score_1_and_nobody_found_0():
  persons = np.stack([_person(0, [1, 2]), _person(10, [1, 3, 4])])
  images = [
    ParsedImage(persons, persons[::-1], np.array([0.2, 0.9])),
    ParsedImage(persons[:1], persons[:1], np.ones(1)),
  ]
  scores = evaluate_instance_parsing(iter(images), 5)
  assert (scores.APp50, scores.APp_vol, scores.PCP50, scores.APp) == (1, 1, 1, (1,) * 9) and scores.persons == 3
  none = evaluate_instance_parsing([ParsedImage(persons, persons[:0], np.zeros(0))], 5)
  assert (none.APp50, none.APp_vol, none.PCP50) == (0, 0, 0)


def test_parsing_worked_out_by_hand():
  true = np.stack([_person(0, [1, 2]), _person(10, [3, 4])])
  wrong_part = _person(0, [1, 3])  # IoU: background 1, class 1: 1, classes 2 and 3: 0; mean 1/2
  half = _person(10, [3])  # IoU: background 160/180, class 3: 1, class 4: 0; mean 0.6296
  twice = _person(10, [3, 4])
  image = ParsedImage(true, np.stack([wrong_part, half, twice]), np.array([0.9, 0.8, 0.7]))
  scores = evaluate_instance_parsing([image], 5)
  # At 0.1 to 0.4: hit, hit, false as taken. At 0.5 and 0.6: false, hit, false. Above: false, false, hit.
  assert scores.APp == pytest.approx((1, 1, 1, 1, 1 / 4, 1 / 4, 1 / 6, 1 / 6, 1 / 6))
  assert scores.APp50 == 1 / 4 and scores.APp_vol == pytest.approx((4 + 1 / 2 + 1 / 2) / 9)
  assert scores.PCP50 == pytest.approx((0 + 1 / 2) / 2)  # the first has no hit, half parses one of two parts


def test_ignored_pixels_persons_without_parts_and_images_without_persons():
  person = _person(0, [1, 2])
  hidden = person.copy()
  hidden[:4, :5] = 255
  guess = person.copy()
  guess[:4, :5] = 3  # where nothing counts
  images = [
    ParsedImage(np.stack([hidden, np.zeros_like(person)]), guess[None], np.array([0.9])),
    ParsedImage(np.zeros((0, 20, 10), np.uint8), person[None], np.array([0.1])),
  ]
  scores = evaluate_instance_parsing(images, 5)
  assert (scores.APp50, scores.PCP50, scores.persons, scores.persons_without_parts) == (1, 1, 1, 1)
  sure = [images[0], ParsedImage(images[1].true_parts, images[1].parts, np.array([1.0]))]
  assert evaluate_instance_parsing(sure, 5).APp50 == 1 / 2  # a false one first


def test_maps_of_cihp_become_persons():
  classes, persons = np.array([[1, 2, 0], [5, 5, 5]]), np.array([[1, 1, 0], [7, 7, 0]])
  assert persons_of_maps(classes, persons).tolist() == [[[1, 2, 0], [0, 0, 0]], [[0, 0, 0], [5, 5, 0]]]
  assert persons_of_maps(classes, np.zeros_like(persons)).shape == (0, 2, 3)


_ONES = np.ones((1, 2, 2), int)


@pytest.mark.parametrize(
  "image, words",
  [
    (ParsedImage(_ONES * 0, _ONES, np.ones(1)), "none of the images shows a person"),
    (ParsedImage(_ONES, _ONES, np.ones(2)), r"image 0 has parts \(1, 2, 2\)"),
    (ParsedImage(_ONES, _ONES[:, :1], np.ones(1)), r"image 0 has parts \(1, 1, 2\)"),
    (ParsedImage(_ONES, _ONES, np.array([np.nan])), "finite scores"),
    (ParsedImage(_ONES, _ONES * 9, np.ones(1)), "predicted has the label 9"),
  ],
)
def test_wrong_parsing_is_one_line(image, words):
  with pytest.raises(ValueError, match=words) as caught:
    evaluate_instance_parsing([image], 5)
  assert "\n" not in str(caught.value)


def test_regions_worked_out_by_hand():
  true = np.stack([_person(0, [1, 2]), _person(10, [1, 3])])
  moved = np.zeros((20, 10), np.uint8)
  moved[1:3], moved[3:4] = 1, 2  # the first person's head by a row too low: IoU 1/3; of the legs: 1/2
  other = _person(10, [2, 3])  # the head taken for a torso, class 3 exactly
  image = ParsedImage(true, np.stack([moved, other]), np.array([0.9, 0.8]))
  scores = evaluate_instance_parsing([image], 5)
  # Class 1, two true: one region, a hit below 1/3. Class 2, one true: a hit below 1/2, then a false one behind it.
  # Class 3: a hit. Class 4: no person shows it, so that it does not count.
  below_third, below_half, above = (1 / 2 + 1 + 1) / 3, (0 + 1 + 1) / 3, (0 + 0 + 1) / 3
  assert scores.APr == pytest.approx([below_third] * 3 + [below_half] + [above] * 5)
  assert scores.APr50 == pytest.approx(above) and scores.APr_vol == pytest.approx(np.mean(scores.APr))


def test_regions_found_again_worked_out_by_hand():
  """Of one person each class is one true region; three detections of the person are three of each region."""
  person = _person(0, [1, 2])
  half = np.where(np.arange(10) < 5, person, 0)  # IoU 1/2 with both regions
  image = ParsedImage(person[None], np.stack([person, half, person]), np.array([0.9, 0.8, 0.7]))
  scores = evaluate_instance_parsing([image], 5)
  assert scores.APr == (1,) * 9 and scores.APr_vol == 1  # the first is a hit, later ones come after full recall
  # Every detection above the threshold is a hit and adds the monotone precision at its place over the one true region:
  # below 1/2 hits 1, 1, 1 at precisions 1, 1, 1: 3. From 1/2 on hits 1, 0, 1 at 1 and 2/3: 5/3. Classes 3 and 4, which
  # no person shows, are 0 in the mean over all four.
  below, above = 3 * 2 / 4, 5 / 3 * 2 / 4
  assert scores.APr_CIHP == pytest.approx([below] * 4 + [above] * 5) and scores.APr_CIHP50 == pytest.approx(above)
  assert scores.APr_CIHP_vol == pytest.approx((4 * below + 5 * above) / 9) and scores.APr_CIHP50 < 1 < below


def test_the_forms_of_region_precision_are_one_where_nothing_is_found_twice():
  true = np.stack([_person(0, [1, 2]), _person(10, [1, 2])])
  image = ParsedImage(true, true[:1], np.array([0.9]))
  scores = evaluate_instance_parsing([image], 3)
  assert scores.APr == scores.APr_CIHP == (0.5,) * 9
  # A class that no person shows counts in the one mean, detected or not.
  wider = evaluate_instance_parsing([ParsedImage(true, np.where(true == 2, 3, true), np.array([0.9, 0.8]))], 4)
  assert wider.APr == (1 / 2,) * 9 and wider.APr_CIHP == pytest.approx([1 / 3] * 9)


def test_parts_of_two_persons_need_not_be_told_apart_right_for_a_region_to_hit():
  """Heads and legs of two people given to the wrong ones: each region is exact, no person is."""
  true = np.stack([_person(0, [1, 2]), _person(10, [1, 2])])
  swapped = np.where(true == 1, 1, np.where(true[::-1] == 2, 2, 0))
  scores = evaluate_instance_parsing([ParsedImage(true, swapped, np.array([0.9, 0.8]))], 3)
  assert scores.APr == (1,) * 9 and scores.APp[PARSING_THRESHOLDS.index(0.7)] == 0


def _plain_region_precision(images, classes, threshold):
  """AP^r by its words, mask by mask."""
  of_classes = []
  for c in range(1, classes):
    count, ranked = 0, []
    for k, image in enumerate(images):
      persons = [p for p in image.true_parts if ((p > 0) & (p < classes)).any()]
      regions = [(k, n) for n, person in enumerate(persons) if (person == c).any()]
      count += len(regions)
      nowhere = np.any([p == 255 for p in persons], axis=0) if persons else np.zeros(image.parts.shape[1:], bool)
      for d, (score, found) in enumerate(zip(image.scores, image.parts)):
        if not ((found == c) & ~nowhere).any():
          continue
        overlaps = []
        for region in regions:
          mask, counted = persons[region[1]] == c, persons[region[1]] != 255
          union = ((mask | (found == c)) & counted).sum()
          overlaps.append((mask & (found == c)).sum() / union)
        ranked.append((-score, k, d, regions, overlaps))
    if not count:
      continue
    taken, points = set(), []
    for rank, (_, _, _, regions, overlaps) in enumerate(sorted(ranked, key=lambda each: each[:3]), 1):
      best = overlaps.index(max(overlaps)) if overlaps else None
      if best is not None and overlaps[best] > threshold and regions[best] not in taken:
        taken.add(regions[best])
      points.append((len(taken) / count, len(taken) / rank))
    area, reached = 0.0, 0.0
    for recall in sorted({recall for recall, _ in points}):
      area += (recall - reached) * max(p for r, p in points if r >= recall)
      reached = recall
    of_classes.append(area)
  return np.mean(of_classes)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 1000]), st.booleans())
def test_regions_are_those_of_a_plain_count(seed, levels, ignored):
  """Blocky maps of few classes: equal scores, equal overlaps, absent classes, images without persons or detections."""
  rng, classes = np.random.default_rng(seed), 5
  blocks = lambda count: np.kron(
    rng.integers(0, classes - 1, (count, 3, 3)) * (rng.random((count, 3, 3)) < 0.6), np.ones((2, 2), np.int64)
  )
  images = []
  for _ in range(4):
    true, found = blocks(rng.integers(0, 4)), blocks(rng.integers(0, 5))
    copied = min(len(true), len(found))
    found[:copied] = np.where(rng.random((copied, 1, 1)) < 0.5, true[:copied], found[:copied])
    true[..., :2] = np.where(ignored & (rng.random(true[..., :2].shape) < 0.2), 255, true[..., :2])
    images.append(ParsedImage(true, found, rng.integers(0, levels, len(found)) / levels))
  images.append(ParsedImage(blocks(1) * 0 + 1, blocks(0), np.zeros(0)))
  scores = evaluate_instance_parsing(images, classes)
  assert scores.APr == pytest.approx(
    [_plain_region_precision(images, classes, t) for t in PARSING_THRESHOLDS], abs=1e-12
  )
