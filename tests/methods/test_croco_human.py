"""CroCo-Human: its masks, its cross-attention, its losses against float64 numpy, and batches with one kind of pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.settings import PAIR_KINDS
from saip_jax.heads.cross_block import CrossBlock
from saip_jax.losses.reconstruction import masked_mse_by_kind
from saip_jax.masking.foreground import hide_patches, patch_shares
from saip_jax.methods import METHODS
from saip_jax.recipes import load_recipe, parse_config
from saip_jax.training.mesh import make_mesh, shard_batch
from saip_jax.training.optimizer import make_optimizer, parameter_names
from saip_jax.training.step import init_state, make_train_step
from saip_jax.views.photometric import denormalize
from tests.support.tiny_methods import REPO, images_alone, tiny_method

KEY = jax.random.key(0)
TOY = {"width": 12, "depth": 2, "heads": 1, "tapped_block": 0}
POSITIONS = {"cosine": (), "rope": ("method.positions=rope", "model.backbone=vit_tiny_rope")}


def pairs(size=8):
  """A batch of pairs, every other one of another pose."""
  first, second = images_alone(size), images_alone(size, seed=1)
  return first | {
    "partner": second["image"],
    "partner_hw": second["image_hw"],
    "pair_type": np.arange(size, dtype=np.int32) % 2,
  }


def tiny(*overrides):
  return tiny_method("croco_human_demo", *overrides, **TOY)


def forward(method):
  """Returns a function (parameters, views) -> prediction."""
  return jax.jit(lambda p, views: method.autoencoder.forward(p["backbone"], p["mae"], views).prediction)


@pytest.fixture(scope="module", params=POSITIONS)
def setup(request):
  """(config, method, results for a batch and `KEY`) of a toy; one compilation."""
  config, method = tiny(*POSITIONS[request.param])

  def run(batch, key):
    params, method_state = method.init(KEY)
    (loss, aux), grads = jax.value_and_grad(method.loss, has_aux=True)(params, method_state, batch, key, 0)
    views = method.views(batch, key)
    out = method.autoencoder.forward(params["backbone"], params["mae"], views)
    return params, views, (loss, aux, out), grads

  return config, method, jax.jit(run)(pairs(), KEY)


@pytest.fixture(scope="module")
def drawn():
  """(method, its views of a batch and a key, compiled) of the toy."""
  _, method = tiny()
  return method, jax.jit(method.views)


@pytest.mark.parametrize("length, ratio", [(196, 0.9), (32, 0.75), (50, 0.61), (18, 1 - 1 / 18)])
def test_exactly_the_share_of_patches_is_hidden_and_those_seen_are_in_order(length, ratio):
  hidden = int(ratio * length)
  keep, restore = jax.vmap(lambda key: hide_patches(key, length, hidden))(jax.random.split(KEY, 500))
  assert keep.shape == (500, length - hidden)
  assert (np.diff(keep, axis=1) > 0).all()  # raster order, nothing twice
  np.testing.assert_array_equal(np.sort(restore, axis=1), np.tile(np.arange(length), (500, 1)))
  np.testing.assert_array_equal(np.take_along_axis(np.asarray(restore), np.asarray(keep), 1)[0], range(length - hidden))
  seen = np.asarray(restore < length - hidden).mean(0)  # every patch equally often: five standard deviations
  share = 1 - hidden / length
  assert np.abs(seen - share).max() < 5 * (share * (1 - share) / 500) ** 0.5


def test_the_person_is_hidden_first():
  person = np.zeros((64, 32), bool)
  person[16:64, 8:24] = True  # half of six patches
  shares = patch_shares(jnp.asarray(person, jnp.float32), 16)
  np.testing.assert_allclose(shares, [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
  keys = jax.random.split(KEY, 2000)
  often = lambda preference, hidden: np.asarray(
    jax.vmap(lambda key: hide_patches(key, 8, hidden, preference * shares)[1] >= 8 - hidden)(keys)
  ).mean(0)
  np.testing.assert_allclose(often(10.0, 6), [0, 0] + [1] * 6)
  np.testing.assert_allclose(often(10.0, 4), [0, 0] + [4 / 6] * 6, atol=0.06)
  np.testing.assert_allclose(often(0.0, 4), [0.5] * 8, atol=0.06)
  slight = often(0.4, 4)
  assert (slight[:2] < 0.45).all() and (slight[:2] > 0.1).all() and (slight[2:] > 0.5).all()


def test_loss_is_the_formula_in_float64():
  rng = np.random.default_rng(0)
  prediction, target = rng.normal(size=(2, 6, 8, 48))
  hidden, kind = (rng.random((6, 8)) < 0.75).astype(np.float64), np.array([0, 1, 1, 0, 1, 1])
  error = ((prediction - target) ** 2).mean(-1)
  expected = [error[kind == k][hidden[kind == k] > 0].mean() for k in (0, 1)]
  as_32 = [jnp.asarray(a, jnp.float32) for a in (prediction, target, hidden)]
  losses = jax.jit(masked_mse_by_kind, static_argnums=4)
  np.testing.assert_allclose(losses(*as_32, kind, 2), expected, rtol=1e-6)
  np.testing.assert_allclose(losses(*as_32, 0 * kind + 1, 2), [0, error[hidden > 0].mean()], rtol=1e-6)

  gradient = jax.jit(jax.grad(lambda p, kind: losses(p, *as_32[1:], kind, 2).sum()))
  for kinds in (kind, 0 * kind):
    found = np.asarray(gradient(as_32[0], kinds))
    assert np.isfinite(found).all() and not found[hidden == 0].any() and found[hidden > 0].all()


def test_loss_is_that_of_both_kinds_of_pairs(setup):
  _, _, (_, views, (loss, aux, out), _) = setup
  patches = np.asarray(views.images, np.float64).reshape(8, 4, 16, 2, 16, 3).swapaxes(2, 3).reshape(8, 8, 768)
  target = (patches - patches.mean(-1, keepdims=True)) / np.sqrt(patches.var(-1, ddof=1, keepdims=True) + 1e-6)
  error = ((np.asarray(out.prediction, np.float64) - target) ** 2).mean(-1)
  hidden = ~np.asarray(views.masks.seen)
  assert (hidden.sum(1) == 6).all()
  view, pose = (error[k::2][hidden[k::2]].mean() for k in (0, 1))
  assert float(aux.metrics["loss/view"]) == pytest.approx(view, rel=1e-4)  # float32 sums of pixels
  assert float(aux.metrics["loss/pose"]) == pytest.approx(pose, rel=1e-4)
  assert float(loss) == float(aux.metrics["loss/total"]) == pytest.approx(view + pose, rel=1e-4)
  assert float(aux.metrics["monitor/view_pairs"]) == 0.5


def test_every_parameter_learns_but_fixed_positions(setup):
  config, method, (params, _, _, grads) = setup
  still = {name for name, gradient in parameter_names(grads).items() if not np.any(gradient)}
  fixed = {"backbone/pos_embed"} if config.method.positions == "cosine" else set()
  assert still == {"backbone/inter_norm/bias", "backbone/inter_norm/scale"} | fixed
  assert {name for name in parameter_names(params) if "pos_embed" in name} == fixed
  jax.eval_shape(make_optimizer(config.optimizer, 10, method.param_groups())[0].init, params)  # covers all of them


def test_learned_positions_are_those_of_encoder_and_decoder():
  _, method = tiny("method.positions=learned")
  params, _ = jax.eval_shape(method.init, KEY)
  tables = {"backbone/pos_embed", "mae/pos_embed"}
  assert {name for name in parameter_names(params) if "pos_embed" in name} == tables


def test_the_prediction_depends_on_seen_patches_and_the_second_image_alone(setup):
  _, method, (params, views, (_, _, out), _) = setup
  paint = forward(method)
  painted = paint(params, views)
  np.testing.assert_allclose(painted, out.prediction, atol=1e-5)
  hidden = np.kron(np.asarray(~views.masks.seen).reshape(8, 4, 2), np.ones((16, 16)))[..., None].astype(np.float32)
  np.testing.assert_array_equal(paint(params, views.replace(images=views.images + 100 * hidden)), painted)
  for changed in ({"images": views.images + (1 - hidden)}, {"partners": views.partners[::-1]}):
    assert np.abs(paint(params, views.replace(**changed)) - painted).max() > 1e-4


def test_without_a_second_image_there_is_none_in_the_network():
  _, method = tiny("method.second_image=False")
  params, _ = jax.eval_shape(method.init, KEY)
  assert not any("cross" in name or "memory" in name for name in parameter_names(params))
  views = jax.jit(method.views)(pairs(), KEY)
  params, _ = jax.jit(method.init)(KEY)
  paint = forward(method)
  changed = views.replace(partners=views.partners + 1)
  np.testing.assert_array_equal(paint(params, changed), paint(params, views))


@pytest.mark.parametrize("positions", ["cosine", "rope"])
def test_decoder_never_changes_the_second_image(positions):
  """Applying the blocks one by one, each to the embedded second image, gives the same prediction."""
  _, method = tiny(*POSITIONS[positions], "method.mae.depth=3")
  decoder = method.autoencoder.decoder
  params = jax.jit(method.autoencoder.init)(KEY)
  first, second = jax.random.normal(KEY, (2, 4, 9, 12))
  restore = jnp.tile(jnp.arange(8), (4, 1))
  whole = jax.jit(lambda p: decoder.apply({"params": p}, first, restore, (4, 2), second))

  @jax.jit
  def one_by_one(params):
    bound = decoder.bind({"params": params})
    x, beside = bound._start(first, restore, (4, 2), second)
    for i in range(3):
      own = jax.tree.map(lambda a: a[i], params["blocks"])
      x = decoder_block(bound).apply({"params": own}, x, **beside)
    return bound.pred(bound.norm(x[:, 1:]))

  decoder_block = lambda bound: CrossBlock(bound.width, bound.heads, norm_memory=True)
  np.testing.assert_allclose(one_by_one(params), whole(params), atol=1e-5)


def test_views_have_their_own_crops_and_colors_and_are_not_mirrored(drawn):
  method, views_of = drawn
  batch = pairs(64)
  columns = np.broadcast_to(np.arange(40) * 3 + 20, (64, 80, 40)).astype(np.uint8)
  for name in ("image", "partner"):
    batch[name] = np.stack([columns, columns, columns], -1)
  views = views_of(batch, KEY)
  shown = np.asarray(denormalize(jnp.stack([views.images, views.partners])))  # (2, 64, 64, 32, 3)
  slopes = (shown[..., 20, :] - shown[..., 8, :]).mean((2, 3))
  assert (slopes > 0.01).all()  # brighter to the right, in all of them
  light = shown.mean((2, 3, 4)) / (batch["image"][0, :72, :36].mean() / 255)
  assert 0.5 < light.min() < 0.75 and 1.25 < light.max() < 1.6
  assert abs(np.corrcoef(light)[0, 1]) < 0.5 and np.corrcoef(shown[0, :, 0, 0, 0], light[0])[0, 1] < 0.999


def test_silhouettes_decide_what_is_hidden_where_there_are_some():
  settings = "method.masks.mode=foreground", "method.masks.preference=10.0", "method.crop_area=(1.0, 1.0)"
  _, method = tiny(*settings)
  spec = method.batch_spec(8)
  assert PAIR_KINDS == ("view", "pose")
  assert (spec["foreground"].shape, spec["has_foreground"].shape) == ((8, 80, 40), (8,))
  assert spec["pair_type"].dtype == jnp.int32 and spec["partner"].shape == (8, 80, 40, 3)
  batch = pairs() | {"foreground": np.zeros((8, 80, 40), bool), "has_foreground": np.arange(8) < 6}
  batch["foreground"][:, 18:72, :36] = True  # all but the first row of patches
  masks = jax.jit(method.views)(batch, KEY).masks
  np.testing.assert_array_equal(masks.keep_ids[:6], [[0, 1]] * 6)
  _, uniform = tiny("method.crop_area=(1.0, 1.0)")
  assert not {"foreground", "has_foreground"} & uniform.batch_spec(8).keys()
  others = jax.jit(uniform.views)(pairs(), KEY).masks
  np.testing.assert_array_equal(masks.keep_ids[6:], others.keep_ids[6:])


def test_draws_depend_on_seed_step_and_index_alone(drawn):
  _, views_of = drawn
  batch, order = pairs(), np.random.default_rng(0).permutation(8)
  once, shuffled = views_of(batch, KEY), views_of({name: a[order] for name, a in batch.items()}, KEY)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a)[order], b), once, shuffled)
  views = views_of(batch, jax.random.key(1))
  assert (views.masks.keep_ids != once.masks.keep_ids).any() and not np.allclose(views.partners, once.partners)


@pytest.mark.slow
def test_a_step_is_the_same_on_1_and_8_devices():
  """Two micro-steps an update, the first of them without a pair of one kind."""
  config, method = tiny("batch_size=16", "accumulate=2")
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  batch = pairs(16) | {"pair_type": np.int32([0] * 8 + [0, 1] * 4)}
  results = []
  for count in (1, 8):
    step = jax.jit(make_train_step(method, tx, schedule, config.accumulate, config.seed))
    state = jax.jit(lambda: init_state(method, tx, config.seed))()
    results.append(jax.device_get(step(state, shard_batch(make_mesh(jax.devices()[:count]), batch))))
  (one, metrics), (eight, metrics_of_eight) = results
  assert all(np.isfinite(value) for value in metrics.values()) and metrics["loss/view"] > 0
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), metrics, metrics_of_eight)
  moved = lambda state: jax.tree.leaves(state.params)
  for a, b in zip(moved(one), moved(eight)):
    np.testing.assert_allclose(a, b, atol=2e-5)


def test_half_precision_is_near(drawn):
  method, views_of = drawn
  views = views_of(pairs(), KEY)
  params, _ = jax.jit(method.init)(KEY)
  _, half = tiny("precision=bfloat16")
  painted = forward(half)(params, views)
  assert painted.dtype == jnp.bfloat16
  np.testing.assert_allclose(painted.astype(np.float32), forward(method)(params, views), atol=0.1)


def test_panel_shows_the_pair_and_what_comes_of_another(drawn):
  method, views_of = drawn
  params, _ = jax.jit(method.init)(KEY)
  panel = method.panels(params, {}, pairs(), KEY)["completion"]
  views = views_of(pairs(), KEY)
  assert [dict(row).keys() >= {kind} for row, kind in zip(panel.rows, ["view", "pose"] * 4)] == [True] * 8
  cells = dict(panel.rows[1])
  assert list(cells) == [
    "image",
    "pose",
    "first",
    "second",
    "seen",
    "hidden",
    "reconstruction",
    "with the seen",
    "with another second",
    "looked at in the second",
  ]
  seen = np.kron(np.asarray(views.masks.seen[1]).reshape(4, 2), np.ones((16, 16))) > 0
  np.testing.assert_array_equal(cells["hidden"][..., 0] > 0, ~seen)
  for name in ("with the seen", "with another second"):
    np.testing.assert_allclose(cells[name][seen], cells["first"][seen], atol=1e-5)
  assert np.abs(cells["with the seen"] - cells["with another second"])[~seen].max() > 1e-4
  squares = lambda image: {cell.tobytes() for cell in image.reshape(4, 16, 2, 16, 3).swapaxes(1, 2).reshape(8, -1)}
  assert squares(cells["looked at in the second"]) <= squares(cells["second"])


def test_published_recipe():
  """CroCo's numbers, and the known ones of CroCo-Human, repeated here on purpose."""
  config = parse_config(load_recipe(REPO / "configs" / "croco_human.py"))
  method = METHODS["croco_human"].build(config)
  assert config.optimizer.learning_rate == pytest.approx(1.5e-4 * config.batch_size / 256)
  auto = method.autoencoder
  assert (auto.patches, auto.patches - auto.seen_patches, auto.seen_patches) == (196, 176, 20)
  params, _ = jax.eval_shape(method.init, KEY)
  count = lambda tree: sum(a.size for a in jax.tree.leaves(tree))
  of_block = 4 * (512**2 + 512) * 2 + 2 * 4 * 512**2 + 5 * 512 + 4 * 2 * 512  # two attentions, an MLP, four norms
  assert count(params["mae"]["blocks"]) == 8 * of_block
  assert count(params["mae"]) == 8 * of_block + 768 * 512 + 512 + 512 + 2 * 512 + 512 * 768 + 768
  assert config.method.crop_area[0] ** 0.5 * config.data.canvas_hw[0] == 224


@pytest.mark.parametrize(
  "settings, message",
  [
    (("method.positions=rope",), "config.method.positions is 'rope'"),
    (("model.backbone=vit_tiny_rope",), "config.method.positions is 'cosine'"),
    (("method.masks.preference=-1.0",), "preference is -1.0"),
    (("method.jitter=(0.4, 2.0, 0.4)",), "jitter is"),
    (("method.mae.mask_ratio=0.1",), "of 8 patches none is hidden; raise it"),
    (("model.backbone=swin_tiny",), "set config.model.backbone"),
  ],
)
def test_impossible_settings_say_what_to_change(settings, message):
  with pytest.raises(ValueError, match=message):
    tiny(*settings)
