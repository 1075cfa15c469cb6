"""DINO: its views, its loss against float64 numpy, what moves and how, and DINO+MAE."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.losses import matching
from saip_jax.methods.teacher import cosine_momentum
from saip_jax.recipes import load_recipe, parse_config
from saip_jax.training.mesh import make_mesh, shard_batch
from saip_jax.training.optimizer import make_optimizer, parameter_names
from saip_jax.views.multicrop import multicrop
from tests.support.tiny_methods import REPO, images_alone, tiny_method

KEY = jax.random.key(0)
PAINTS = ("method.mae.weight=0.5", "total_steps=100", "accumulate=2")
TINYVIT = {"dims": (8, 8, 12, 16), "depths": (1, 1, 1, 1), "heads": (1, 2, 2), "neck_width": 16}
UNREAD = {"backbone/inter_norm/bias", "backbone/inter_norm/scale"}  # of the tapped layer


def runner(method):
  """Returns a compiled function (params, method_state, batch, key, step) -> all results that the tests compare."""

  def run(params, method_state, batch, key, step):
    value_and_grad = jax.value_and_grad(method.loss, argnums=(0, 1), has_aux=True)
    (loss, aux), grads = value_and_grad(params, method_state, batch, key, step)
    return (loss, aux, grads, method.views(batch, key), method.after_update(method_state, params, aux.for_update, step))

  return jax.jit(run)


@pytest.fixture(scope="module")
def setup():
  """(config, method, run, params, method_state, outputs) of DINO+MAE; teacher and student differ."""
  config, method = tiny_method("dino_demo", *PAINTS)
  params, method_state = jax.jit(method.init)(KEY)
  method_state["teacher"] = jax.tree.map(
    lambda a: np.float32(1.1) * a + np.float32(0.01), jax.device_get(method_state["teacher"])
  )
  method_state["center"] = jnp.linspace(-0.1, 0.1, 32)
  run = runner(method)
  return config, method, run, params, method_state, run(params, method_state, images_alone(), KEY, 4)


def log_softmax(x):
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def dino_loss(logits, teacher_logits, center, temp_student, temp_teacher):
  """The published formula: mean over pairs of different views of -sum p_teacher log p_student."""
  targets = np.exp(log_softmax((teacher_logits - center) / temp_teacher))
  pairs = [(i, v) for i in range(2) for v in range(logits.shape[1]) if i != v]
  terms = [-(targets[:, i] * log_softmax(logits[:, v] / temp_student)).sum(-1).mean() for i, v in pairs]
  return np.mean(terms)


def test_loss_is_the_formula_in_float64():
  rng = np.random.default_rng(0)
  logits, taught, center = rng.uniform(-1, 1, (5, 4, 32)), rng.uniform(-1, 1, (5, 2, 32)), rng.normal(size=32) / 10
  as_32 = [jnp.asarray(a, jnp.float32) for a in (logits, taught, center)]
  ours = matching.matching_loss(as_32[0], matching.teacher_probabilities(as_32[1], as_32[2], 0.07), 0.1)
  assert float(ours) == pytest.approx(dino_loss(logits, taught, center, 0.1, 0.07), rel=1e-6)


def test_step_is_the_formula_on_its_own_logits(setup):
  """Student logits of two global and two local views, teacher logits of two, each with its own parameters."""
  config, method, _, params, method_state, (_, aux, _, views, _) = setup
  read = lambda params, images: method.backbone.apply(
    {"params": params["backbone"]}, images.reshape(-1, *images.shape[2:]), ("cls",)
  ).cls.reshape(8, 2, -1)
  score = lambda params, cls: method.head.apply({"params": params["head"]}, cls)

  @jax.jit
  def logits_of(params, teacher):
    student = jnp.concatenate([read(params, views.globals), read(params, views.locals)], axis=1)
    return score(params, student), score(teacher, read(teacher, views.globals))

  logits, taught = (np.asarray(a, np.float64) for a in logits_of(params, method_state["teacher"]))
  temp = 0.04 + (0.07 - 0.04) * 2 / 10  # micro-step 4 is update 2 of 10 warm-up updates
  expected = dino_loss(logits, taught, np.asarray(method_state["center"], np.float64), 0.1, temp)
  assert float(aux.metrics["loss/dino"]) == pytest.approx(expected, rel=1e-4)  # float32 networks
  total = aux.metrics["loss/dino"] + 0.5 * aux.metrics["loss/mae"]
  assert float(aux.metrics["loss/total"]) == pytest.approx(float(total), rel=1e-6)
  np.testing.assert_allclose(aux.for_update["center"], taught.mean((0, 1)), atol=1e-5)


def test_gradients_reach_the_student_and_nothing_else(setup):
  config, method, _, params, _, (_, _, (grads, extra_grads), _, _) = setup
  assert {name for name, g in parameter_names(grads).items() if not np.any(g)} == UNREAD
  assert not any(np.any(g) for g in jax.tree.leaves(extra_grads["teacher"]))
  jax.eval_shape(make_optimizer(config.optimizer, 10, method.param_groups())[0].init, params)  # covers all parameters


def test_teacher_and_center_follow_their_laws(setup):
  """Micro-step 4 ends no update: the teacher stays. Micro-step 5 ends update 2 of 100."""
  _, method, run, params, method_state, (_, aux, _, _, waiting) = setup
  jax.tree.map(np.testing.assert_array_equal, waiting["teacher"], method_state["teacher"])
  center = 0.9 * method_state["center"] + 0.1 * aux.for_update["center"]
  np.testing.assert_allclose(waiting["center"], center, atol=1e-7)
  assert method_state["teacher"].keys() == {"backbone", "head"}  # it paints nothing
  _, _, _, _, moved = run(params, method_state, images_alone(), KEY, 5)
  kept = 1 - (1 - 0.98) * (1 + np.cos(2 * np.pi / 100)) / 2
  for name, after in parameter_names(moved["teacher"]).items():
    before, student = parameter_names(method_state["teacher"])[name], parameter_names(params)[name]
    np.testing.assert_allclose(after, kept * before + (1 - kept) * student, atol=1e-6, err_msg=name)
  assert float(cosine_momentum(0.98, jnp.int32(2 * 100 - 1), 100, 2)) == pytest.approx(1, abs=1e-4)


def test_temperature_rises(setup):
  """Warm-up in the first 10 of 100 updates, each of two micro-steps."""
  _, method, *_ = setup
  temps = [float(method.temp_teacher(jnp.int32(step))) for step in (0, 1, 2, 10, 20, 199)]
  np.testing.assert_allclose(temps, [0.04, 0.04, 0.043, 0.055, 0.07, 0.07], rtol=1e-6)
  _, constant = tiny_method("dino_demo", "method.temp_teacher_warmup=0.0")
  assert constant.temp_teacher(jnp.int32(0)) == 0.07
  config = dataclasses.replace(method.config, temp_teacher_stairs=5)
  stairs = [float(dataclasses.replace(method, config=config).temp_teacher(jnp.int32(2 * u))) for u in range(0, 13)]
  expected = [*np.repeat([0.04, 0.0475, 0.055, 0.0625, 0.07, 0.07], 2), 0.07]
  np.testing.assert_allclose(stairs, expected, rtol=1e-6)


def test_views_have_their_own_colors():
  """Of noise and of white pictures: the first global view is always blurred and never solarized, and so on."""
  noise = np.random.default_rng(0).integers(0, 255, (64, 32, 16, 3), np.uint8)
  pictures = np.concatenate([noise, np.full_like(noise, 255)])
  crops = functools.partial(
    multicrop,
    locals_=1,
    aspect=(0.4, 0.6),
    global_area=(0.9, 1.0),
    local_area=(0.05, 0.1),
    global_hw=(32, 16),
    local_hw=(16, 8),
  )
  keys = jax.random.split(KEY, 128)
  globals_, locals_ = jax.jit(jax.vmap(crops, (0, None, 0)))(pictures, np.int32([32, 16]), keys)
  assert globals_.shape == (128, 2, 32, 16, 3) and locals_.shape == (128, 1, 16, 8, 3)
  rough = np.abs(np.diff(globals_[:64], axis=2)).mean((0, 2, 3, 4))
  assert rough[0] < 0.7 * rough[1]
  dark = lambda views: np.mean(np.asarray(views).mean((1, 2, 3)) < -1.5)  # white turned to black
  assert dark(globals_[64:, 0]) == dark(locals_[64:, 0]) == 0 and 0.05 < dark(globals_[64:, 1]) < 0.4


def test_draws_depend_on_seed_step_and_index_alone(setup):
  _, _, run, params, method_state, (_, _, _, views, _) = setup
  batch, order = images_alone(), np.random.default_rng(0).permutation(8)
  shuffled = run(params, method_state, {name: a[order] for name, a in batch.items()}, KEY, 4)[3]
  for a, b in zip(jax.tree.leaves(views), jax.tree.leaves(shuffled), strict=True):
    np.testing.assert_array_equal(np.asarray(a)[order], b)
  other = run(params, method_state, batch, jax.random.key(1), 4)[3]
  assert not np.allclose(other.globals, views.globals) and (other.masks.keep_ids != views.masks.keep_ids).any()


def test_draws_are_equal_on_1_and_8_devices(setup):
  _, method, _, _, _, (_, _, _, views, _) = setup
  eight = jax.device_get(jax.jit(method.views)(shard_batch(make_mesh(jax.devices()), images_alone()), KEY))
  jax.tree.map(np.testing.assert_array_equal, views.masks, eight.masks)
  np.testing.assert_allclose(views.globals, eight.globals, atol=1e-5)
  np.testing.assert_allclose(views.locals, eight.locals, atol=1e-5)


def test_a_weight_of_zero_costs_nothing(setup):
  _, method = tiny_method("dino_demo")
  params, method_state = jax.eval_shape(method.init, KEY)
  assert params.keys() == {"backbone", "head"} and method_state.keys() == {"teacher", "center"}
  metrics = jax.eval_shape(method.loss, params, method_state, method.batch_spec(8), KEY, 0)[1].metrics
  assert {name for name in metrics if name.startswith("loss/")} == {"loss/dino", "loss/total"}
  flops = lambda method: (
    jax.jit(method.loss).lower(*jax.eval_shape(method.init, KEY), method.batch_spec(8), KEY, 0).cost_analysis()["flops"]
  )
  assert flops(method) < flops(setup[1])
  assert tiny_method("dino_demo", "model.backbone=swin_tiny", dims=(8, 16, 32, 64))[1].autoencoder is None


def test_panels(setup):
  _, method, _, params, method_state, (_, _, _, views, _) = setup
  batch = {name: a[:2] for name, a in images_alone().items()}
  panels = method.panels(params, method_state, batch, KEY)
  names = [name for name, _ in panels["views"].rows[0]]
  assert names == ["image", "global 1", "global 2", "local 1", "local 2"]
  cells = dict(panels["reconstruction"].rows[1])
  seen = np.kron(np.asarray(views.masks.seen[1]).reshape(4, 2), np.ones((16, 16))) > 0
  np.testing.assert_allclose(cells["with the seen"][seen], cells["global 1"][seen], atol=1e-5)


def test_running_statistics_of_the_teacher_are_those_of_its_own_batches():
  _, method = tiny_method("dino_demo", "model.backbone=tinyvit_5m", **TINYVIT)
  params, method_state = jax.eval_shape(method.init, KEY)
  for_update = jax.eval_shape(method.loss, params, method_state, method.batch_spec(8), KEY, 0)[1].for_update
  values = iter(range(1000))
  method_state, for_update = jax.tree.map(
    lambda a: np.full(a.shape, next(values), np.float32), (method_state, for_update)
  )
  teacher = jax.tree.map(lambda a: np.zeros(a.shape, np.float32), params)
  after = method.after_update(method_state, teacher, for_update, 0)
  jax.tree.map(np.testing.assert_array_equal, after["statistics"], for_update["statistics"])
  exported = parameter_names(method.export_params(params, method_state, "teacher"))
  wanted = parameter_names(method_state["statistics"]["teacher"])
  assert wanted and all(exported[name] is value for name, value in wanted.items())


@pytest.mark.slow
def test_every_parameter_of_another_encoder_learns():
  _, method = tiny_method("dino_demo", "model.backbone=tinyvit_5m", **TINYVIT)
  params, method_state = jax.jit(method.init)(KEY)
  _, _, (grads, _), _, after = runner(method)(params, method_state, images_alone(), KEY, 199)
  still = {name for name, g in parameter_names(grads).items() if not np.any(g)}
  idle = {name for name in still if "/stages_0/" in name or "inter" in name or "neck" in name}
  assert still == idle, still - idle  # a branch that starts idle passes no gradient on; the tapped layer is not read
  assert jax.tree.structure(after) == jax.tree.structure(method_state)


def test_weights_of_elsewhere(setup):
  """Encoder and head are loaded; the teacher is their copy and still has no decoder."""
  _, method, _, params, method_state, _ = setup
  new = jax.tree.map(lambda a: a + np.float32(1), {"backbone": jax.device_get(params["backbone"])})
  loaded, beside = method.load_params(params, method_state, new, None)
  jax.tree.map(np.testing.assert_array_equal, beside["teacher"]["backbone"], new["backbone"])
  jax.tree.map(np.testing.assert_array_equal, loaded["mae"], params["mae"])
  assert beside["teacher"].keys() == {"backbone", "head"}


def test_impossible_settings_say_what_to_change():
  with pytest.raises(ValueError, match="set config.model.backbone to a ViT or a ConvNeXt"):
    tiny_method("dino_demo", "method.mae.weight=1.0", "model.backbone=tinyvit_5m")
  with pytest.raises(ValueError, match="method.mae.weight is -1.0"):
    tiny_method("dino_demo", "method.mae.weight=-1.0")
  with pytest.raises(ValueError, match="local_crops is -1"):
    tiny_method("dino_demo", "method.local_crops=-1")
  with pytest.raises(ValueError, match="prototypes_frozen is 1.5: it must lie in 0 to 1"):
    tiny_method("dino_demo", "method.prototypes_frozen=1.5")


def test_weight_decay_rises_along_half_a_cosine():
  """Without a gradient each update takes rate x decay off a weight: the published schedule, from 0.04 to 0.4."""
  settings = {"learning_rate": 0.5, "min_learning_rate": 0.5, "weight_decay": 0.04, "final_weight_decay": 0.4}
  config, method = tiny_method("dino_demo", *(f"optimizer.{name}={value}" for name, value in settings.items()))
  tx, _ = make_optimizer(config.optimizer, 10, method.param_groups())
  params = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
  state, update = tx.init(params), jax.jit(tx.update)
  for step in range(10):
    updates, state = update(jax.tree.map(jnp.zeros_like, params), state, params)
    decay = 0.4 + (0.04 - 0.4) * (1 + np.cos(np.pi * step / 10)) / 2
    np.testing.assert_allclose(updates["kernel"], -0.5 * decay, rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0)


def test_published_weight_decay():
  optimizer = parse_config(load_recipe(REPO / "configs" / "dino.py")).optimizer
  assert (optimizer.weight_decay, optimizer.final_weight_decay) == (0.04, 0.4)
