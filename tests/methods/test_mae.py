"""MAE: its masks, its loss against float64 numpy, its gradients, and determinism of its draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones.convnext import ConvNeXt
from saip_jax.backbones.vit import ViT
from saip_jax.losses import reconstruction
from saip_jax.training.mesh import make_mesh, shard_batch
from saip_jax.training.optimizer import make_optimizer, parameter_names
from tests.support.tiny_methods import images_alone, tiny_method

KEY = jax.random.key(0)
ENCODERS = {
  "vit": (ViT(width=12, depth=2, heads=3, tapped_block=0, image_hw=(64, 32)), 16),
  "convnext": (ConvNeXt(dims=(4, 6, 8, 10), depths=(1, 1, 1, 1), image_hw=(64, 64)), 32),
}


@pytest.fixture(scope="module")
def setup():
  """(config, method, run, its results for a batch and `KEY`) of a toy; one compilation."""
  config, method = tiny_method("mae_demo")

  def run(batch, key):
    params, method_state = method.init(KEY)
    (loss, aux), grads = jax.value_and_grad(method.loss, has_aux=True)(params, method_state, batch, key, 0)
    views = method.views(batch, key)
    out = method.autoencoder.forward(params["backbone"], params["mae"], views.images, views.masks)
    return params, views, (loss, aux, out), grads

  run = jax.jit(run)
  return config, method, run, run(images_alone(), KEY)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_sees_exactly_the_kept_patches_in_their_order(name):
  backbone, patch = ENCODERS[name]
  (h, w), count = backbone.image_hw, backbone.image_hw[0] * backbone.image_hw[1] // patch**2
  images = jax.random.normal(KEY, (2, h, w, 3))
  params = jax.jit(lambda key: backbone.init(key, images[:1], ("cls", "hidden")))(KEY)
  encode = jax.jit(lambda images, ids: backbone.apply(params, images, ("cls", "tokens"), keep_ids=ids))
  ids = jnp.array([[3, 0], [1, 2]])
  features = encode(images, ids)
  assert features.tokens.shape == (2, 2, backbone.feature_width)

  hidden = np.ones((2, count), np.float32)
  np.put_along_axis(hidden, np.asarray(ids), 0, axis=1)
  hidden = np.kron(hidden.reshape(2, h // patch, w // patch), np.ones((patch, patch)))[..., None]
  elsewhere = encode(images + 100 * hidden, ids)  # what is hidden has no influence
  for read in ("cls", "tokens"):
    np.testing.assert_array_equal(getattr(elsewhere, read), getattr(features, read))
  seen_changed = encode(images + 100 * (1 - hidden), ids)
  assert not np.allclose(seen_changed.tokens, features.tokens, atol=1e-3)

  swapped = encode(images, ids[:, ::-1])
  np.testing.assert_allclose(swapped.tokens[:, ::-1], features.tokens, atol=1e-5)
  both = lambda images, ids: [backbone.apply(params, images, ("cls", "tokens"), keep_ids=i) for i in (ids, None)]
  everything, whole = jax.jit(both)(images, jnp.tile(jnp.arange(count), (2, 1)))  # nothing hidden: as without masks
  np.testing.assert_allclose(everything.tokens, whole.tokens, atol=1e-4)
  np.testing.assert_allclose(everything.cls, whole.cls, atol=1e-4)


@pytest.mark.parametrize("ratio", [0.75, 0.6, 0.1])
def test_as_many_patches_are_seen_as_the_ratio_says(ratio):
  _, method = tiny_method("mae_demo", "model.image_hw=(128, 64)", f"method.mae.mask_ratio={ratio}")
  draws = method.autoencoder.draw(jax.random.split(KEY, 400))
  kept = int(32 * (1 - ratio))
  assert draws.keep_ids.shape == (400, kept) and (np.asarray(draws.seen).sum(1) == kept).all()
  for ids, restore in zip(draws.keep_ids[:9], draws.restore_ids):
    np.testing.assert_array_equal(np.asarray(restore)[ids], np.arange(kept))
  share = np.asarray(draws.seen).mean(0)  # every patch equally often: five standard deviations
  assert np.abs(share - kept / 32).max() < 5 * (kept / 32 * (1 - kept / 32) / 400) ** 0.5


def test_loss_is_the_formula_in_float64():
  rng = np.random.default_rng(0)
  pixels, prediction = rng.random((3, 8, 48)), rng.normal(size=(3, 8, 48))
  hidden = (rng.random((3, 8)) < 0.75).astype(np.float64)
  target = (pixels - pixels.mean(-1, keepdims=True)) / np.sqrt(pixels.var(-1, ddof=1, keepdims=True) + 1e-6)
  expected = (((prediction - target) ** 2).mean(-1) * hidden).sum() / hidden.sum()
  as_32 = [jnp.asarray(a, jnp.float32) for a in (prediction, pixels, hidden)]
  ours = reconstruction.masked_mse(as_32[0], reconstruction.normalize_patches(as_32[1]), as_32[2])
  assert float(ours) == pytest.approx(expected, rel=1e-6)


def test_loss_is_that_of_the_hidden_patches_of_the_crop(setup):
  _, _, _, (_, views, (loss, aux, out), _) = setup
  patches = np.asarray(views.images, np.float64).reshape(8, 4, 16, 2, 16, 3).swapaxes(2, 3).reshape(8, 8, 768)
  target = (patches - patches.mean(-1, keepdims=True)) / np.sqrt(patches.var(-1, ddof=1, keepdims=True) + 1e-6)
  error = ((np.asarray(out.prediction, np.float64) - target) ** 2).mean(-1)
  assert float(loss) == pytest.approx(error[~np.asarray(views.masks.seen)].mean(), rel=1e-4)  # float32 sums of pixels
  assert float(aux.metrics["loss/total"]) == float(loss) == float(aux.metrics["loss/mae"])


def test_every_parameter_learns(setup):
  config, method, _, (params, _, _, grads) = setup
  still = {name for name, gradient in parameter_names(grads).items() if not np.any(gradient)}
  assert still == {"backbone/inter_norm/bias", "backbone/inter_norm/scale"}  # of the tapped layer, which is not read
  jax.eval_shape(make_optimizer(config.optimizer, 10, method.param_groups())[0].init, params)  # covers all of them


def test_draws_depend_on_seed_step_and_index_alone(setup):
  _, _, run, (_, views, _, _) = setup
  batch, order = images_alone(), np.random.default_rng(0).permutation(8)
  _, shuffled, _, _ = run({name: a[order] for name, a in batch.items()}, KEY)
  for a, b in zip(jax.tree.leaves(views), jax.tree.leaves(shuffled)):
    np.testing.assert_array_equal(np.asarray(a)[order], b)
  _, other, _, _ = run(batch, jax.random.key(1))
  assert not np.allclose(other.images, views.images) and (other.masks.keep_ids != views.masks.keep_ids).any()


def test_draws_are_equal_on_1_and_8_devices():
  _, method = tiny_method("mae_demo")
  one, eight = (
    jax.device_get(jax.jit(method.views)(shard_batch(make_mesh(jax.devices()[:n]), images_alone()), KEY))
    for n in (1, 8)
  )
  jax.tree.map(np.testing.assert_array_equal, one.masks, eight.masks)
  np.testing.assert_allclose(one.images, eight.images, atol=1e-5)


def test_crops_keep_their_colors(setup):
  """A crop of a uniform image is uniform: MAE has no color augmentation."""
  _, _, run, _ = setup
  batch = images_alone()
  batch["image"][:] = np.arange(8, dtype=np.uint8)[:, None, None, None] * 30
  _, views, _, _ = run(batch, KEY)
  images = views.images
  assert images.shape == (8, 64, 32, 3)
  mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
  expected = (np.arange(8)[:, None] * 30 / 255 - mean) / std
  np.testing.assert_allclose(images, np.broadcast_to(expected[:, None, None], images.shape), atol=1e-4)


def test_panel_shows_the_picture_where_it_was_seen(setup):
  _, method, _, (params, views, _, _) = setup
  panel = method.panels(params, {}, images_alone(), KEY)["reconstruction"]
  assert len(panel.rows) == 8
  cells = dict(panel.rows[0])
  assert list(cells) == ["image", "crop", "seen", "hidden", "reconstruction", "with the seen"]
  seen = np.kron(np.asarray(views.masks.seen[0]).reshape(4, 2), np.ones((16, 16))) > 0
  np.testing.assert_array_equal(cells["hidden"][..., 0] > 0, ~seen)
  np.testing.assert_allclose(cells["with the seen"][seen], cells["crop"][seen], atol=1e-5)
  np.testing.assert_allclose(cells["with the seen"][~seen], cells["reconstruction"][~seen], atol=1e-5)


def test_impossible_settings_say_what_to_change():
  with pytest.raises(ValueError, match="set config.model.backbone to a ViT or a ConvNeXt"):
    tiny_method("mae_demo", "model.backbone=swin_tiny")
  with pytest.raises(ValueError, match="mae.mask_ratio is 1.5"):
    tiny_method("mae_demo", "method.mae.mask_ratio=1.5")
  with pytest.raises(ValueError, match="of 8 patches none is seen"):
    tiny_method("mae_demo", "method.mae.mask_ratio=0.9")
  with pytest.raises(ValueError, match="patches of 32 pixels"):
    tiny_method("mae_demo", "model.backbone=convnext_femto", "model.image_hw=(80, 48)")
  _, method = tiny_method("mae_demo")
  with pytest.raises(ValueError, match="which=.teacher."):
    method.export_params({}, {}, "teacher")
