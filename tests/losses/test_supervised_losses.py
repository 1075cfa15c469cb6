"""Losses of supervised tasks against plain float64 numpy, and labels that follow the views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies

from input_pipeline.body import COCO_JOINTS, flip_pairs
from input_pipeline.people.parts import FLIPPED_PARTS, LIP_PARTS
from input_pipeline.records import IGNORE_LABEL
from saip_jax.evaluation.tasks.keypoints import maxima
from saip_jax.losses.classification import attribute_loss, cross_entropy
from saip_jax.losses.heat_maps import HEAT_MAP_SIGMA, heat_map_loss, heat_map_targets
from saip_jax.losses.triplet import triplet_loss
from saip_jax.methods.finetune.config import FinetuneConfig
from saip_jax.methods.finetune.tasks import SUPERVISED
from saip_jax.methods.finetune.views import SupervisedViews, supervised_view
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD, denormalize


def rng(seed=0):
  return np.random.default_rng(seed)


@pytest.mark.parametrize("identity", [[1, 1, 2, 2, 3, 3], [1, 1, 1, 2, 0, 0], [1, 2, 3, 4, 5, 5], [1] * 6, [0] * 6])
def test_triplet_loss(identity):
  x, identity, terms = rng().normal(size=(6, 4)), np.array(identity), []
  for i in np.flatnonzero(identity):
    distances = np.linalg.norm(x - x[i], axis=1)
    same = (identity == identity[i]) & (np.arange(6) != i)
    other = (identity > 0) & (identity != identity[i])
    if same.any() and other.any():
      terms.append(np.log1p(np.exp(distances[same].max() - distances[other].min())))
  value, gradient = jax.value_and_grad(triplet_loss)(jnp.float32(x), jnp.array(identity))
  assert float(value) == pytest.approx(np.mean(terms) if terms else 0, abs=1e-6)
  assert np.isfinite(gradient).all() and (np.abs(gradient[identity == 0]) == 0).all()


def test_equal_pictures_have_a_gradient():
  x = jnp.tile(jnp.array([[1.0, 2.0]]), (4, 1))
  value, gradient = jax.value_and_grad(triplet_loss)(x, jnp.array([1, 1, 2, 2]))
  assert float(value) == pytest.approx(np.log(2), abs=1e-5) and np.isfinite(gradient).all()


def test_cross_entropy_counts_what_is_known():
  logits, labels = 5 * rng().normal(size=(3, 4, 7)), rng(1).integers(0, 7, (3, 4))
  known = rng(2).random((3, 4)) < 0.6
  logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  want = -np.take_along_axis(logs, labels[..., None], -1)[..., 0][known].mean()
  labels = np.where(known, labels, 255)
  assert float(cross_entropy(jnp.float32(logits), jnp.array(labels), jnp.array(known))) == pytest.approx(want, rel=1e-6)
  assert float(cross_entropy(jnp.float32(logits), jnp.array(labels), jnp.zeros((3, 4), bool))) == 0


def test_attributes_weigh_by_how_rare_they_are():
  logits, shares = 3 * rng().normal(size=(5, 4)), np.array([0.0, 0.1, 0.5, 0.9])
  signs = rng(1).integers(-1, 2, (5, 4))
  p = 1 / (1 + np.exp(-logits))
  terms = np.where(signs > 0, -np.exp(1 - shares) * np.log(p), -np.exp(shares) * np.log(1 - p)) * (signs != 0)
  found = attribute_loss(jnp.float32(logits), jnp.int8(signs), jnp.float32(shares))
  assert float(found) == pytest.approx(terms.sum(1).mean(), rel=1e-6)


def test_heat_maps():
  points = np.array([[[10.0, 20.0], [0.5, 63.0], [31.9, 0.1]]])
  maps = np.asarray(heat_map_targets(jnp.float32(points), (64, 32), (16, 8)))
  y, x = np.mgrid[:16, :8] + 0.5
  for joint, (px, py) in enumerate(points[0] / 4):
    want = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * HEAT_MAP_SIGMA**2))
    np.testing.assert_allclose(maps[0, joint], want, atol=1e-6)
  predicted, known = rng().normal(size=(1, 16, 8, 3)), np.array([[True, False, True]])
  want = (((predicted.transpose(0, 3, 1, 2) - maps) ** 2) * known[..., None, None]).mean()
  found = heat_map_loss(jnp.float32(predicted), jnp.array(maps), jnp.array(known))
  assert float(found) == pytest.approx(want, rel=1e-6)


@given(strategies.floats(6, 26), strategies.floats(6, 58))
@settings(max_examples=20, deadline=None)
def test_the_peak_of_a_target_is_its_joint(x, y):
  """Targets and the reading of maps agree on the place of a joint, to a twentieth of a cell."""
  maps = np.asarray(heat_map_targets(jnp.float32([[[x, y]]]), (64, 32), (16, 8)))
  places, heights = maxima(np.moveaxis(maps, 1, -1), [str(k) for k in range(len(maps))])
  np.testing.assert_allclose(places[0, 0] * (32, 64), (x, y), atol=0.2)
  assert heights[0, 0] == pytest.approx(maps.max())


def test_left_and_right_come_from_names():
  assert flip_pairs(LIP_PARTS) == ((14, 15), (16, 17), (18, 19))
  assert flip_pairs(COCO_JOINTS) == tuple((k, k + 1) for k in range(1, 17, 2))
  assert flip_pairs(("left_eye", "nose", "upright")) == ()
  config = lambda **k: FinetuneConfig(name="finetune", task="parsing", views=SupervisedViews(), **k)
  assert config(classes=20, flip_pairs=flip_pairs(LIP_PARTS)).mirrored == tuple(FLIPPED_PARTS.tolist())
  for pairs in (((3, 20),), ((1, 2), (2, 3))):
    with pytest.raises(ValueError, match="flip_pairs"):
      config(classes=20, flip_pairs=pairs)


def a_picture(h=40, w=20):
  """A smooth image, red for the row and green for the column, on a larger canvas, and classes of blocks."""
  canvas = np.zeros((48, 32, 3), np.uint8)
  canvas[:h, :w, 0], canvas[:h, :w, 1] = 4 * np.arange(h)[:, None] + 50, 8 * np.arange(w) + 50
  canvas[:h, :w, 2] = 255
  parts = np.zeros((48, 32), np.uint8)
  parts[:h, :w] = np.arange(h)[:, None] // 10 * 5 + np.arange(w) // 4
  return canvas, parts, jnp.array([h, w])


@pytest.mark.parametrize(
  "settings",
  [
    SupervisedViews(),
    SupervisedViews(flip=1.0),
    SupervisedViews(shift=6),
    SupervisedViews(shift=6, flip=1.0),
    SupervisedViews(scale=(0.5, 0.5)),
    SupervisedViews(scale=(1.5, 1.5), shift=3, flip=0.5),
  ],
  ids=str,
)
def test_classes_follow_the_view(settings):
  canvas, parts, hw = a_picture()
  for seed in range(4):
    view, place = supervised_view(jnp.array(canvas), hw, jax.random.key(seed), settings, (80, 40))
    pixels, classes = np.asarray(denormalize(view)) * 255, np.asarray(place.classes(jnp.array(parts)))
    beyond = classes == IGNORE_LABEL
    np.testing.assert_allclose(pixels[beyond], 0, atol=1e-3)
    assert (pixels[~beyond, 2] > 254).all()
    row, column = (pixels[..., 0] - 50) / 4, (pixels[..., 1] - 50) / 8
    # a pixel between two of the picture has the class of one of them
    near = [np.floor((row + dr) / 10) * 5 + np.floor((column + dc) / 4) for dr in (0.2, 0.8) for dc in (0.2, 0.8)]
    assert np.mean(np.any([classes == n for n in near], axis=0)[~beyond]) > 0.97


def test_a_shifted_view_is_resized_padded_and_cropped():
  canvas, _, hw = a_picture()
  whole, _ = supervised_view(jnp.array(canvas), hw, jax.random.key(0), SupervisedViews(), (80, 40))
  black = -np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD)
  padded = np.broadcast_to(black, (80 + 20, 40 + 20, 3)).copy()
  padded[10:90, 10:50] = whole
  found = set()
  for seed in range(12):
    view, place = supervised_view(jnp.array(canvas), hw, jax.random.key(seed), SupervisedViews(shift=10), (80, 40))
    top, left = (round(float(s)) for s in place.box_yxhw[:2] * 2 + 10)
    np.testing.assert_allclose(view, padded[top : top + 80, left : left + 40], atol=1e-4)
    found.add((top, left))
  assert len(found) > 8 and all(0 <= n <= 20 for place in found for n in place)


def test_erasing():
  canvas, _, hw = a_picture()
  shares = []
  for seed in range(20):
    one = lambda erase: supervised_view(
      jnp.array(canvas), hw, jax.random.key(seed), SupervisedViews(erase=erase), (80, 40)
    )[0]
    changed = np.asarray(one(1.0) != one(0.0)).all(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert changed.sum() == len(rows) * len(columns)  # one rectangle
    shares.append(changed.mean())
  assert 0.01 < min(shares) and max(shares) < 0.36 and np.std(shares) > 0.03


def test_joints_change_sides_with_the_mirror_image():
  canvas, _, hw = a_picture()
  task, pairs = SUPERVISED["keypoints"], ((1, 2),)
  config = FinetuneConfig(name="finetune", task="keypoints", classes=3, flip_pairs=pairs, views=SupervisedViews())
  points = jnp.array([[10.0, 10.0, 2.0], [4.0, 20.0, 2.0], [15.0, 30.0, 0.0]])  # the right one is not known
  maps = {}
  for flip in (0.0, 1.0):
    _, place = supervised_view(jnp.array(canvas), hw, jax.random.key(0), SupervisedViews(flip=flip), (80, 40))
    maps[flip] = task.targets({"joints": points}, place, config.mirrored)
  assert maps[0.0][1].tolist() == [True, True, False] and maps[1.0][1].tolist() == [True, False, True]
  np.testing.assert_allclose(maps[0.0][0][:, :, ::-1][1], maps[1.0][0][2], atol=1e-5)
