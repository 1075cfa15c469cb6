"""What detection, parsing of several, text retrieval and 3-D joints minimize, against plain numpy; boxes in views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings, strategies

from input_pipeline.fields.boxes import MOST_BOXES
from saip_jax.evaluation.tasks.detection import boxes_of_maps
from saip_jax.evaluation.tasks.multi_parsing import assign_persons
from saip_jax.heads.upsampling import Deconvolution
from saip_jax.losses.boxes import box_targets, peak_loss, side_loss
from saip_jax.losses.image_text import image_text_contrast
from saip_jax.losses.infonce import batch_contrast, unit
from saip_jax.losses.persons import middle_map, middles_of
from saip_jax.losses.pose3d import joint_distance
from saip_jax.methods.finetune.tasks import SUPERVISED
from saip_jax.methods.finetune.views import Placement
from saip_jax.views.geometry import keypoints_in_crop

draw_boxes = jax.jit(box_targets, static_argnums=(2, 3))


def targets_of(task, sample, place, mirrored):
  """Returns what a task learns of one view, compiled."""
  return jax.jit(SUPERVISED[task].targets, static_argnums=2)(sample, place, mirrored)


def rng(seed=0):
  return np.random.default_rng(seed)


def test_a_deconvolution_is_flax_own():
  x = jnp.float32(rng().normal(size=(2, 5, 3, 4)))
  variables = Deconvolution(6).init(jax.random.key(0), x)
  native = nn.ConvTranspose(6, (4, 4), (2, 2), use_bias=False).apply(variables, x)
  np.testing.assert_allclose(Deconvolution(6).apply(variables, x), native, atol=1e-6 * np.abs(native).max())


def test_peaks_are_focal():
  logits, peaks, known = 2 * rng().normal(size=(2, 3, 4)), rng(1).random((2, 3, 4)), rng(2).random((2, 3, 4)) < 0.8
  peaks[0, 1, 1] = peaks[1, 2, 3] = 1
  known[0, 1, 1] = known[1, 2, 3] = True
  p = 1 / (1 + np.exp(-logits))
  terms = np.where(peaks == 1, -((1 - p) ** 2) * np.log(p), -((1 - peaks) ** 4) * p**2 * np.log(1 - p))
  found = peak_loss(jnp.float32(logits), jnp.float32(peaks), jnp.array(known))
  assert float(found) == pytest.approx(terms[known].sum() / 2, rel=1e-5)
  assert float(peak_loss(jnp.float32(logits), jnp.float32(peaks), jnp.zeros((2, 3, 4), bool))) == 0


def test_sides_are_compared_by_giou():
  sides, targets, weights = rng().random((5, 4)) + 0.1, rng(1).random((5, 4)), rng(2).random(5)
  corners = lambda d: np.concatenate([-d[:, :2], d[:, 2:]], axis=1)
  area = lambda low, high: np.prod(np.maximum(high - low, 0), axis=1)
  a, b = corners(sides), corners(targets)
  both = area(np.maximum(a, b)[:, :2], np.minimum(a, b)[:, 2:])
  around = area(np.minimum(a, b)[:, :2], np.maximum(a, b)[:, 2:])
  either = area(a[:, :2], a[:, 2:]) + area(b[:, :2], b[:, 2:]) - both
  want = ((1 - (both / either - (around - either) / around)) * weights).sum() / weights.sum()
  assert float(side_loss(*map(jnp.float32, (sides, targets, weights)))) == pytest.approx(want, rel=1e-5)
  assert float(side_loss(*map(jnp.float32, (targets, targets, weights)))) == pytest.approx(0, abs=1e-5)


@given(strategies.floats(0, 60), strategies.floats(0, 90), strategies.floats(5, 35), strategies.floats(5, 35))
@settings(max_examples=20, deadline=None)
def test_a_box_that_is_drawn_is_found_again(x, y, wide, high):
  corners = np.array([[x, y, x + wide, y + high], [0, 0, 1, 1]])
  peaks, sides = draw_boxes(jnp.float32(corners), jnp.array([True, False]), (32, 24), 4)
  logits = np.log(np.clip(peaks, 1e-6, 1 - 1e-6) / (1 - np.clip(peaks, 1e-6, 1 - 1e-6)))
  boxes, scores = boxes_of_maps(logits, np.asarray(sides))
  assert np.max(peaks) == 1 and scores[0] > 0.99 and (scores[1:] < 0.99).all()
  np.testing.assert_allclose(boxes[0] * (96, 128, 96, 128), [x, y, wide, high], atol=1e-3)


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_follow_the_view_as_points_do(flip):
  place = Placement(jnp.array([10.0, -5.0, 60.0, 40.0]), jnp.array(flip), jnp.array([64, 32]), (128, 64))
  boxes = np.array([[4.0, 20, 10, 30], [12, 30, 5, 6]])
  corners = np.asarray(place.corners(jnp.float32(boxes)))
  points = [[x, y, 1.0] for x, y, w, h in boxes for x, y in ((x, y), (x + w, y + h))]
  points = np.asarray(keypoints_in_crop(jnp.float32(points), place.box_yxhw, place.out_hw, place.flip))
  points = points[:, :2].reshape(2, 2, 2)
  np.testing.assert_allclose(corners, np.concatenate([points.min(1), points.max(1)], axis=1), atol=1e-4)


def test_persons_cut_off_or_ignored_are_neither_found_nor_missed():
  boxes = np.zeros((MOST_BOXES, 5), np.float32)
  boxes[:3] = [10, 10, 20, 40, 1], [40, 0, 40, 64, 1], [20, 60, 24, 60, -1]  # shown; its middle beyond; a crowd
  place = Placement(jnp.array([0.0, 0.0, 128.0, 56.0]), jnp.array(False), jnp.array([128, 96]), (128, 56))
  sample = {"boxes": jnp.array(boxes), "has_boxes": jnp.array(True)}
  peaks, sides, known = map(np.asarray, targets_of("detection", sample, place, (0,)))
  assert peaks.shape == (32, 14) and np.argwhere(peaks == 1).tolist() == [[7, 5]]
  np.testing.assert_allclose(sides[7, 5], [3, 5, 2, 5])  # cells from x 22, y 30
  assert known[7, 5] and known[4, 4] and not known[5, 12] and not known[20, 8] and known[31, 0]
  unknown = sample | {"has_boxes": jnp.array(False)}
  assert not np.asarray(targets_of("detection", unknown, place, (0,))[2]).any()


def test_images_and_captions_of_one_person_are_positives():
  images, texts = (np.asarray(unit(jnp.float32(rng(seed).normal(size=(6, 5))))) for seed in (0, 1))
  identity, known = np.array([1, 2, 1, 0, 0, 3]), np.array([1, 1, 1, 1, 1, 0], bool)
  same = (identity[:, None] == identity) & (identity > 0) | np.eye(6, dtype=bool)
  logits, same = (images @ texts.T / 0.1)[:5, :5].astype(np.float64), same[:5, :5]
  want = 0.0
  for way, own in ((logits, same), (logits.T, same.T)):
    logs = way - np.log(np.exp(way).sum(1, keepdims=True))
    want -= np.mean([logs[i][own[i]].mean() for i in range(5)])
  contrast = jax.jit(image_text_contrast)
  found = contrast(jnp.array(images), jnp.array(texts), jnp.array(identity), jnp.array(known), 0.1)
  assert float(found) == pytest.approx(want, rel=1e-5)
  # Of different persons it is InfoNCE, and in a batch without captions nothing.
  alone = contrast(jnp.array(images), jnp.array(texts), jnp.arange(1, 7), jnp.ones(6, bool), 0.1)
  both = batch_contrast(images, texts, 0.1) + batch_contrast(texts, images, 0.1)
  assert float(alone) == pytest.approx(float(both), rel=1e-5)
  nothing = lambda x: contrast(x, jnp.array(texts), jnp.arange(6), jnp.zeros(6, bool), 0.1)
  value, gradient = jax.value_and_grad(nothing)(jnp.array(images))
  assert value == 0 and (np.asarray(gradient) == 0).all()


def test_joints_in_space():
  found, true = rng().normal(size=(2, 3, 3)), rng(1).normal(size=(2, 3, 3))
  known = np.array([[True, True, False], [False, True, True]])
  want = np.linalg.norm(found - true, axis=2)[known].mean()
  true[~known] = np.nan
  value, gradient = jax.value_and_grad(joint_distance)(jnp.float32(found), jnp.float32(true), jnp.array(known))
  assert float(value) == pytest.approx(want, rel=1e-5) and np.isfinite(gradient).all()
  gradient = jax.grad(joint_distance)(jnp.ones((1, 2, 3)), jnp.ones((1, 2, 3)), jnp.ones((1, 2), bool))
  assert (np.asarray(gradient) == 0).all()


def test_persons_drawn_by_middles_and_ways_are_told_apart_again():
  """Targets and decoding agree on the person of each pixel, also for truncated persons."""
  persons, parts = np.zeros((2, 64, 64), np.uint8)
  for number, (top, left, high, wide) in enumerate([(4, 4, 40, 16), (20, 40, 40, 20)], 1):
    persons[top : top + high, left : left + wide] = number
  parts[persons > 0] = 1 + persons[persons > 0] % 2
  place = Placement(jnp.array([0.0, 0.0, 64.0, 64.0]), jnp.array(False), jnp.array([64, 64]), (64, 64))
  sample = {"persons": persons, "has_persons": True, "parts": parts, "has_parts": True}
  sample = {name: jnp.array(value) for name, value in sample.items()}
  classes, near, known, way, shown = targets_of("multi_parsing", sample, place, (0, 1, 2))
  np.testing.assert_array_equal(classes, parts)
  assert np.asarray(known).all() and (np.asarray(shown) == (persons > 0)[2::4, 2::4]).all()
  found, sure = assign_persons(parts, np.asarray(near)[..., None], np.asarray(way), 1)
  assert len(found) == 2 and (sure > 0.9).all()
  assert {person.tobytes() for person in found} == {np.where(persons == n, parts, 0).tobytes() for n in (1, 2)}
  unknown = sample | {"has_persons": jnp.array(False)}
  _, _, known, _, shown = targets_of("multi_parsing", unknown, place, (0, 1, 2))
  assert not np.asarray(known).any() and not np.asarray(shown).any()


def test_middles():
  persons = rng().integers(0, 4, (6, 5))
  persons[persons == 2] = 0
  middles, there = middles_of(jnp.array(persons), 6)
  assert there.tolist() == [False, True, False, True, False, False]
  for number in (1, 3):
    rows, columns = np.nonzero(persons == number)
    np.testing.assert_allclose(middles[number], [columns.mean() + 0.5, rows.mean() + 0.5], rtol=1e-5)
  near = np.asarray(middle_map(middles, there, (6, 5)))
  y, x = np.mgrid[:6, :5] + 0.5
  want = np.max([np.exp(-((x - middles[n][0]) ** 2 + (y - middles[n][1]) ** 2) / 8) for n in (1, 3)], axis=0)
  np.testing.assert_allclose(near, want, atol=1e-6)
