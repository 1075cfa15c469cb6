"""HAP: its losses against float64 numpy, its masks in the method, keypoints from the data set to the view."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.losses.alignment import alignment_loss, contrast
from saip_jax.masking.parts import part_patches
from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.training.mesh import make_mesh, shard_batch
from saip_jax.training.optimizer import make_optimizer, parameter_names
from saip_jax.views.photometric import denormalize
from saip_jax.views.plain import plain_crop_with_keypoints
from tests.support.tiny_methods import REPO, images_alone, tiny_method

KEY = jax.random.key(0)
WHOLE = "method.crop_area=(1.0, 1.0)", "method.crop_aspect=(0.5, 0.5)"  # crops are the picture, perhaps mirrored


def persons(size=8):
  """A batch of upright persons in 72x36 pixels."""
  head = [(18, 9), (16, 7), (20, 7), (14, 8), (22, 8)]
  limbs = [(6, 17), (9, 27), (10, 38), (5, 38), (6, 54), (7, 68)]
  points = np.float32([(x, y, 2) for x, y in head + [(18 + s * dx, y) for dx, y in limbs for s in (1, -1)]])
  return images_alone(size) | {"keypoints": np.tile(points, (size, 1, 1))}


@pytest.fixture(scope="module")
def setup():
  """(config, method, run, its results for a batch and `KEY`) of a toy; one compilation."""
  config, method = tiny_method("hap_demo", "model.image_hw=(128, 64)", *WHOLE)

  def run(batch, key):
    params, method_state = method.init(KEY)
    (loss, aux), grads = jax.value_and_grad(method.loss, has_aux=True)(params, method_state, batch, key, 0)
    views = method.views(batch, key)
    twice = jnp.repeat(views.images, 2, axis=0)
    out = method.autoencoder.forward(params["backbone"], params["mae"], twice, views.masks)
    return params, views, (loss, aux, out), grads

  run = jax.jit(run)
  return config, method, run, run(persons(), KEY)


def infonce(queries, keys, temperature):
  """The published formula."""
  queries, keys = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, keys))
  logits = queries @ keys.T / temperature
  return 2 * temperature * np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits))


def test_alignment_is_the_formula_in_float64():
  rng = np.random.default_rng(0)
  first, second = rng.normal(size=(2, 7, 12))
  as_32 = [jnp.asarray(a, jnp.float32) for a in (first, second)]
  expected = infonce(first, second, 0.2) + infonce(second, first, 0.2)
  align = jax.jit(alignment_loss)
  assert float(align(*as_32, 0.2)) == pytest.approx(expected, rel=1e-6)
  assert float(contrast(*as_32, 0.07)) == pytest.approx(infonce(first, second, 0.07), rel=1e-6)


def test_alignment_teaches_the_queries_alone():
  first, second = jax.random.normal(KEY, (2, 7, 12))
  of_queries, of_keys = jax.jit(jax.grad(contrast, (0, 1)))(first, second, 0.2)
  assert np.abs(of_queries).min() > 0 and not of_keys.any()
  assert float(alignment_loss(*jnp.ones((2, 64, 12)), 0.2)) == pytest.approx(0.8 * np.log(64), rel=1e-6)


def test_loss_is_reconstruction_of_both_masks_and_alignment(setup):
  config, _, _, (_, views, (loss, aux, out), _) = setup
  patches = np.asarray(views.images, np.float64).reshape(8, 8, 16, 4, 16, 3).swapaxes(2, 3).reshape(8, 32, 768)
  target = (patches - patches.mean(-1, keepdims=True)) / np.sqrt(patches.var(-1, ddof=1, keepdims=True) + 1e-6)
  error = ((np.asarray(out.prediction, np.float64).reshape(8, 2, 32, 768) - target[:, None]) ** 2).mean(-1)
  hidden = ~np.asarray(views.masks.seen).reshape(8, 2, 32)
  assert (hidden.sum(-1) == 16).all() and (hidden[:, 0] != hidden[:, 1]).any()
  mae = (error[:, 0][hidden[:, 0]].mean() + error[:, 1][hidden[:, 1]].mean()) / 2
  first, second = np.asarray(out.cls, np.float64).reshape(8, 2, -1).swapaxes(0, 1)
  align = infonce(first, second, 0.2) + infonce(second, first, 0.2)
  assert float(aux.metrics["loss/mae"]) == pytest.approx(mae, rel=1e-4)  # float32 sums of pixels
  assert float(aux.metrics["loss/align"]) == pytest.approx(align, rel=1e-5)
  assert float(loss) == float(aux.metrics["loss/total"]) == pytest.approx(mae + 0.05 * align, rel=1e-4)
  assert float(aux.metrics["monitor/parts"]) == 6


def test_every_parameter_learns(setup):
  config, method, _, (params, _, _, grads) = setup
  still = {name for name, gradient in parameter_names(grads).items() if not np.any(gradient)}
  assert still == {"backbone/inter_norm/bias", "backbone/inter_norm/scale"}  # of the tapped layer, which is not read
  jax.eval_shape(make_optimizer(config.optimizer, 10, method.param_groups())[0].init, params)  # covers all of them


def test_draws_depend_on_seed_step_and_index_alone(setup):
  _, _, run, (_, drawn, _, _) = setup
  batch, order = persons(), np.random.default_rng(0).permutation(8)
  _, shuffled, _, _ = run({name: a[order] for name, a in batch.items()}, KEY)
  apart = lambda views: (views.images, views.parts, *(a.reshape(8, 2, -1) for a in jax.tree.leaves(views.masks)))
  for a, b in zip(apart(drawn), apart(shuffled)):
    np.testing.assert_array_equal(np.asarray(a)[order], b)
  _, other, _, _ = run(batch, jax.random.key(1))
  assert (other.masks.keep_ids != drawn.masks.keep_ids).any() and (other.parts != drawn.parts).any()


def test_draws_are_equal_on_1_and_8_devices(setup):
  _, method, _, _ = setup
  draw = lambda n: jax.jit(method.views)(shard_batch(make_mesh(jax.devices()[:n]), persons()), KEY)
  one, eight = jax.device_get(draw(1)), jax.device_get(draw(8))
  jax.tree.map(np.testing.assert_array_equal, (one.masks, one.parts), (eight.masks, eight.parts))
  np.testing.assert_allclose(one.images, eight.images, atol=1e-5)


def test_keypoints_follow_the_crop():
  """The color of each pixel encodes its place: the view has the color of the image at each keypoint."""
  rows, columns = np.mgrid[:80, :40]
  image = np.stack([6 * columns, 3 * rows, 0 * rows], axis=-1).astype(np.uint8)
  keypoints = np.float32([(x, y, 1) for x in np.linspace(2, 34, 6) for y in np.linspace(2, 70, 8)])
  crop = lambda key: plain_crop_with_keypoints(
    image, jnp.int32([72, 36]), keypoints, key, (0.4, 0.6), (0.4, 0.6), (128, 64)
  )
  views, moved = jax.device_get(jax.jit(jax.vmap(crop))(jax.random.split(KEY, 16)))
  shown = np.asarray(denormalize(views)) * 255
  for view, points in zip(shown, moved):
    there = points[:, 2] > 0
    inner = there & (np.abs(points[:, :2] - (32, 64)) < (30, 62)).all(1)  # the filter bends colors at the edge
    x, y = points[inner, :2].astype(int).T
    np.testing.assert_allclose(view[y, x, 0] / 6 + 0.5, keypoints[inner, 0], atol=0.5)
    np.testing.assert_allclose(view[y, x, 1] / 3 + 0.5, keypoints[inner, 1], atol=0.7)
    assert 0.2 < there.mean() < 0.9 and not points[~there].any()
  mirrored = [np.corrcoef(points[points[:, 2] > 0, 0], keypoints[points[:, 2] > 0, 0])[0, 1] < 0 for points in moved]
  assert any(mirrored) and not all(mirrored)


def test_parts_are_those_of_the_keypoints_in_the_view(setup):
  _, _, _, (_, views, _, _) = setup
  scaled = persons()["keypoints"][0] * np.float32([64 / 36, 128 / 72, 1])
  mirrored = np.float32([64, 0, 0]) + scaled * np.float32([-1, 1, 1])
  expected = [np.asarray(part_patches(jnp.asarray(points), (8, 4), 16)) for points in (scaled, mirrored)]
  found = np.array([[(np.asarray(parts) == e).all() for e in expected] for parts in views.parts])
  assert found.any(1).all() and found.any(0).all()  # each is one of the two, and both are there


def test_without_parts_no_keypoints_are_asked_for():
  _, method = tiny_method("hap_demo", "method.masks.most_parts=0")
  assert method.batch_spec(8).keys() == {"image", "image_hw", "index"}
  views = jax.eval_shape(method.views, images_alone(), KEY)
  assert views.parts is None and views.masks.keep_ids.shape == (16, 4)
  _, method = tiny_method("hap_demo")
  assert {name: a.shape for name, a in method.batch_spec(8).items()}["keypoints"] == (8, 17, 3)


def test_published_recipe_starts_from_weights_of_mae():
  settings = ["--config.data.path=anywhere", "--config.model.backbone=vit_base"]
  recipe = lambda name: parse_config(apply_overrides(load_recipe(REPO / "configs" / f"{name}.py"), settings))
  config = recipe("hap")
  assert config.optimizer.learning_rate == pytest.approx(1.5e-4 * config.batch_size / 256)
  assert config.total_steps * config.batch_size == pytest.approx(400 * 2_090_121, rel=1e-3)
  hap, mae = METHODS["hap"].build(config), METHODS["mae"].build(recipe("mae"))
  assert hap.autoencoder.grid == (16, 8) and hap.config.mae.mask_ratio == 0.5
  params, taken = (jax.eval_shape(method.init, KEY)[0] for method in (hap, mae))
  assert jax.tree.map(lambda a: a.shape, params) == jax.tree.map(lambda a: a.shape, taken)
  assert sum(a.size for a in jax.tree.leaves(params["backbone"])) == 85_747_968  # ViT-B/16 and the norm of the tap


def test_panel_shows_both_masks(setup):
  _, method, _, (params, views, _, _) = setup
  panel = method.panels(params, {}, persons(), KEY)["masks"]
  assert len(panel.rows) == 8
  cells = dict(panel.rows[3])
  names = [f"{name} {k}" for k in (1, 2) for name in ("seen", "hidden", "reconstruction", "with the seen")]
  assert list(cells) == ["image", "crop", "parts", *names]
  for k in (1, 2):
    seen = np.kron(np.asarray(views.masks.seen[2 * 3 + k - 1]).reshape(8, 4), np.ones((16, 16))) > 0
    np.testing.assert_array_equal(cells[f"hidden {k}"][..., 0] > 0, ~seen)
  body = np.kron(np.asarray(views.parts[3]).any(0).reshape(8, 4), np.ones((16, 16))) > 0
  np.testing.assert_allclose(cells["parts"][~body], cells["crop"][~body] / 2, atol=1e-6)
  assert np.abs(cells["parts"][body] - cells["crop"][body] / 2).min(0).max() > 0.05


@pytest.mark.parametrize(
  "setting, message",
  [
    ("method.masks.part_fraction=(0.5, 2.0)", "part_fraction is"),
    ("method.align.weight=-1.0", "align.weight is -1.0"),
    ("method.align.temperature=0.0", "align.temperature is 0.0"),
    ("model.backbone=swin_tiny", "set config.model.back"),
  ],
)
def test_impossible_settings_say_what_to_change(setting, message):
  with pytest.raises(ValueError, match=message):
    tiny_method("hap_demo", setting)
