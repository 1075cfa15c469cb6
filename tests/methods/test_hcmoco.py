"""HCMoCo: three modalities in one step, missing modalities, memory banks, two stages, two exported encoders."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.schema import to_dict
from saip_jax import cli
from saip_jax.backbones.statistics import split_statistics
from saip_jax.initial import start_from
from saip_jax.interop import export
from saip_jax.interop.spec import BackboneSpec
from saip_jax.interop.weights import Weights, load_backbone, open_weights
from saip_jax.methods import METHODS
from saip_jax.methods.hcmoco.views import draw_places
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.run_folder.folder import write_config
from saip_jax.training.checkpoint import Checkpoints
from saip_jax.training.mesh import make_mesh, place_state, replicated, shard_batch, shardings_of
from saip_jax.training.optimizer import make_optimizer, parameter_names
from saip_jax.training.step import init_state, make_train_step
from tests.methods.test_hap import persons
from tests.support.tiny_methods import REPO
from tests.support.toy_weights import add_toy_backbone, random_backbone

KEY = jax.random.key(0)
COMMON = (
  "batch_size=8",
  "data.canvas_hw=(80, 40)",
  "model.image_hw=(128, 64)",
  "method.width=16",
  "method.places=20",
  "method.skeleton_blocks=1",
  "method.negatives=bank",
  "method.bank.size=200",
  "method.bank.draws=30",
  "optimizer.warmup_fraction=0.0",
)
SMALL = {
  "tinyvit_5m": {"dims": (8, 8, 12, 16), "depths": (1, 1, 1, 1), "heads": (1, 2, 2), "neck_width": 16},
  "vit_tiny": {"width": 12, "depth": 2, "heads": 3, "tapped_block": 0},
  "vit_toy": {},
}
STAGE1 = tuple(f"method.weights.{name}=0.0" for name in ("dense", "nodes", "joints"))


def tiny(*overrides, backbone="vit_tiny"):
  """Returns (config, method) of the demo with toy encoders."""
  settings = [f"--config.{s}" for s in (f"model.backbone={backbone}", *COMMON, *overrides)]
  config = parse_config(apply_overrides(load_recipe(REPO / "configs" / "hcmoco_demo.py"), settings))
  method = METHODS["hcmoco"].build(config)
  return config, dataclasses.replace(method, backbone=method.backbone.clone(**SMALL[backbone]))


def rgbd(size=8):
  """Persons with a wedge of depth; every other has none, and the third no joints."""
  depth = np.zeros((size, 80, 40), np.uint16)
  depth[:, 10:70, 8:28] = 2000 + 10 * np.arange(20, dtype=np.uint16)
  batch = persons(size) | {"depth": depth, "has_depth": np.arange(size) % 2 == 0}
  batch["keypoints"][2] = 0
  return batch


@pytest.fixture(scope="module")
def setup():
  """(method, run, its results for a batch with and without depth); one compilation."""
  config, method = tiny()

  def run(batch, key):
    params, method_state = method.init(KEY)
    (loss, aux), grads = jax.value_and_grad(method.loss, has_aux=True)(params, method_state, batch, key, 0)
    after = method.after_update(method_state, params, aux.for_update, 0)
    return {
      "params": params,
      "extra": method_state,
      "views": method.views(batch, key),
      "loss": loss,
      "metrics": aux.metrics,
      "grads": grads,
      "after": after,
    }

  run = jax.jit(run)
  return config, method, run, jax.device_get(run(rgbd(), KEY))


def test_loss_is_the_sum_of_its_terms_and_all_modules_learn(setup):
  config, method, _, found = setup
  losses = {name: float(found["metrics"][f"loss/{name}"]) for name in ("sample", "dense", "nodes", "joints")}
  assert all(np.isfinite(value) and value > 0 for value in losses.values())
  assert float(found["loss"]) == pytest.approx(sum(losses.values()), rel=1e-5)
  assert float(found["metrics"]["monitor/depth_known"]) == 0.5
  of_heads = {name: g for name, g in parameter_names(found["grads"]).items() if "backbone" not in name}
  assert all(np.any(g) and np.isfinite(g).all() for g in of_heads.values())
  for name in ("backbone", "depth_backbone"):
    assert all(np.any(g) for g in jax.tree.leaves(found["grads"][name]["patch_embed"]))
  jax.eval_shape(make_optimizer(config.optimizer, 10, method.param_groups())[0].init, found["params"])


def test_running_statistics_move(setup):
  _, _, _, found = setup
  before, after = found["extra"]["statistics"], found["after"]["statistics"]
  assert before.keys() == after.keys() == {"skeleton"}
  assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after)))


def test_encoders_with_batch_norms_keep_statistics_of_their_own():
  _, method = tiny(backbone="tinyvit_5m")

  def step(batch):
    params, method_state = method.init(KEY)
    _, aux = method.loss(params, method_state, batch, KEY, 0)
    maps = method.dense_maps(params, method_state, {"depth": jnp.zeros((2, 128, 64, 3))})
    return params, method_state, method.after_update(method_state, params, aux.for_update, 0), maps

  params, method_state, after, maps = jax.eval_shape(step, rgbd())
  assert method_state["statistics"].keys() == {"backbone", "depth_backbone", "skeleton"}
  assert jax.tree.map(jnp.shape, method_state) == jax.tree.map(jnp.shape, after)
  assert maps["depth"].shape == (2, *method.grid, 16) and method.grid == (32, 16)
  assert "batch_stats" in split_statistics(method.export_params(params, method_state, "depth"))


def test_banks_move_where_there_was_something_to_see(setup):
  _, _, _, found = setup
  index = persons()["index"]
  seen = {"rgb": index, "depth": index[::2], "skeleton": np.delete(index, 2)}
  for name, rows in seen.items():
    before, after = found["extra"]["banks"][name], found["after"]["banks"][name]
    np.testing.assert_array_equal(np.flatnonzero((before != after).any(1)), rows)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, rtol=1e-5)


def test_a_batch_without_depth_teaches_the_others(setup):
  _, _, run, _ = setup
  nothing = jax.device_get(run(rgbd() | {"has_depth": np.zeros(8, bool)}, KEY))
  assert nothing["metrics"]["loss/dense"] == 0 and np.isfinite(nothing["loss"])
  assert not any(np.any(g) for g in jax.tree.leaves(nothing["grads"]["depth_backbone"]))
  assert not any(np.any(g) for part in ("sample", "dense") for g in jax.tree.leaves(nothing["grads"][part]["depth"]))
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(nothing["grads"]))
  assert np.any(nothing["grads"]["backbone"]["patch_embed"]["kernel"])
  np.testing.assert_array_equal(nothing["after"]["banks"]["depth"], nothing["extra"]["banks"]["depth"])


def test_what_stands_where_there_is_no_depth_is_not_read(setup):
  _, _, run, found = setup
  noisy = rgbd()
  noisy["depth"][1::2] = np.random.default_rng(0).integers(0, 9000, noisy["depth"][1::2].shape)
  assert float(run(noisy, KEY)["loss"]) == float(found["loss"])


def test_draws_depend_on_seed_step_and_index_alone(setup):
  _, method, _, _ = setup
  batch, order, make = rgbd(), np.random.default_rng(0).permutation(8), jax.jit(method.views)
  one = jax.device_get(make(batch, KEY))
  shuffled = jax.device_get(make({name: a[order] for name, a in batch.items()}, KEY))
  np.testing.assert_array_equal(shuffled.drawn, one.drawn)
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(np.asarray(a)[order], b),
    one.replace(drawn=None),
    shuffled.replace(drawn=None),
  )
  other = make(batch, jax.random.key(1))
  assert (other.drawn != one.drawn).any() and (other.rgb != one.rgb).any() and (other.places != one.places).any()


def test_places_are_drawn_from_the_person_alone(setup):
  _, method, _, found = setup
  views, (h, w) = found["views"], method.grid
  person = np.any(views.depth.reshape(8, h, 16, w, 16, 3)[:, :, 0, :, 0] != 0, axis=-1)  # a cell's first pixel
  for i in range(0, 8, 2):
    assert person[i].reshape(-1)[views.places[i]].all() and len(set(views.places[i].tolist())) > 2
  wanted = np.zeros((4, 5), bool)
  wanted[[0, 2, 3], [1, 3, 4]] = True
  places = draw_places((jnp.arange(300) + 0.5) / 300, wanted)
  np.testing.assert_array_equal(np.bincount(places, minlength=20)[np.flatnonzero(wanted)], 100)


def test_negatives_of_the_batch_need_no_banks():
  config, method = tiny("method.negatives=batch")
  params, method_state = jax.eval_shape(method.init, KEY)
  assert "banks" not in method_state
  METHODS["hcmoco"].check_data(config.method, range(12345))
  _, aux = jax.eval_shape(lambda p, e: method.loss(p, e, rgbd(), KEY, 0), params, method_state)
  assert set(aux.for_update) == {"statistics"}


def test_bfloat16_keeps_losses_and_banks_in_float32_and_finite():
  _, method = tiny("precision=bfloat16")

  @jax.jit
  def run(batch):
    params, method_state = method.init(KEY)
    loss, aux = method.loss(params, method_state, batch, KEY, 0)
    return loss, method.after_update(method_state, params, aux.for_update, 0)["banks"]

  loss, banks = run(rgbd())
  assert loss.dtype == jnp.float32 and np.isfinite(loss)
  assert all(bank.dtype == jnp.float32 and np.isfinite(bank).all() for bank in banks.values())


@pytest.mark.slow
def test_steps_are_equal_on_1_and_8_devices_and_after_a_checkpoint(tmp_path):
  config, method = tiny("batch_size=16", "accumulate=2", "optimizer.name=sgd")
  tx, schedule = make_optimizer(config.optimizer, 10, method.param_groups())
  step = make_train_step(method, tx, schedule, config.accumulate, config.seed)
  batches = [rgbd(16) | {"index": np.arange(16, dtype=np.uint32) + 16 * n} for n in range(2)]
  ends = []
  for devices in (1, 8):
    mesh = make_mesh(jax.devices()[:devices])
    place = shardings_of(place_state(mesh, jax.eval_shape(lambda: init_state(method, tx, 0))))
    state = jax.jit(lambda: init_state(method, tx, 0), out_shardings=place)()
    run = jax.jit(step, in_shardings=(place, None), out_shardings=(place, None))
    start = jax.device_get(state.method_state["banks"]["rgb"])
    middle, _ = run(state, shard_batch(mesh, batches[0]))
    ends.append(jax.device_get(run(middle, shard_batch(mesh, batches[1]))[0]))
    if devices == 1:
      checkpoints = Checkpoints(tmp_path, 1, None, {})
      checkpoints.save(1, middle)
      checkpoints.close()
      checkpoints = Checkpoints(tmp_path, 1, None, {})
      restored = checkpoints.restore(place_state(mesh, jax.eval_shape(lambda: init_state(method, tx, 0))))
      checkpoints.close()
      again = jax.device_get(run(restored, shard_batch(mesh, batches[1]))[0])
      jax.tree.map(np.testing.assert_array_equal, again, ends[0])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *ends)
  np.testing.assert_array_equal(np.flatnonzero((ends[1].method_state["banks"]["rgb"] != start).any(1)), np.arange(32))


@pytest.fixture(scope="module")
def stage1(tmp_path_factory):
  """(folder of a first stage with one checkpoint, its state)."""
  with pytest.MonkeyPatch.context() as monkeypatch:
    add_toy_backbone(monkeypatch)
    config, method = tiny(*STAGE1, backbone="vit_toy")
    tx, _ = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
    state = jax.jit(lambda: init_state(method, tx, 7))()
    state.method_state["statistics"] = jax.jit(lambda tree: jax.tree.map(lambda a: a + 0.25, tree))(
      state.method_state["statistics"]
    )
    workdir = tmp_path_factory.mktemp("stage1")
    write_config(workdir, to_dict(config))
    checkpoints = Checkpoints(workdir, 1, None, {})
    checkpoints.save(4, state.replace(step=jnp.int32(4)))
    checkpoints.close()
    yield workdir, jax.device_get(state)


def test_the_second_stage_goes_on_from_the_first_and_its_banks(stage1):
  workdir, first = stage1
  assert "dense" not in first.params
  config, method = tiny(f"init_from={workdir}", backbone="vit_toy")
  tx, _ = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  everywhere, shapes = replicated(make_mesh(jax.devices()[:1])), jax.eval_shape(lambda: init_state(method, tx, 0))
  fresh = jax.jit(lambda: jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes))()
  state, line = start_from(config, method, fresh, everywhere)
  for name in ("backbone", "depth_backbone", "skeleton", "sample"):
    jax.tree.map(np.testing.assert_array_equal, state.params[name], first.params[name])
  jax.tree.map(np.testing.assert_array_equal, state.method_state, first.method_state)
  assert line.endswith("new: dense") and "banks" in line
  larger = tiny("method.bank.size=300", backbone="vit_toy")[1]
  with pytest.raises(ValueError, match="banks/rgb is"):  # another number of images
    start_from(config, larger, jax.eval_shape(lambda: init_state(larger, tx, 0)), everywhere)


def test_both_encoders_start_from_one_backbone(stage1):
  workdir, first = stage1
  _, method = tiny(backbone="vit_toy")
  weights = open_weights(workdir)
  params, method_state = jax.eval_shape(method.init, KEY)
  params, _ = method.load_params(params, method_state, {"backbone": weights.student["backbone"]}, None)
  for name in ("backbone", "depth_backbone"):
    jax.tree.map(np.testing.assert_array_equal, params[name], first.params["backbone"])


def test_both_encoders_are_loaded_from_a_run(stage1, capsys):
  workdir, first = stage1
  _, method = tiny(*STAGE1, backbone="vit_toy")
  for which, name in (("student", "backbone"), ("depth", "depth_backbone")):
    loaded = load_backbone(workdir, which)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, first.params[name])
    jax.tree.map(
      np.testing.assert_array_equal, method.export_params(first.params, first.method_state, which), loaded.params
    )
  with pytest.raises(ValueError, match="no teacher"):
    load_backbone(workdir, "teacher")
  with pytest.raises(ValueError, match="choose one of student, depth"):
    method.export_params(first.params, first.method_state, "teacher")
  refused = [
    "export",
    f"--checkpoint={workdir}",
    "--dialect=onnx",
    "--which=depth",
    f"--out={workdir / 'out'}",
    "--with-preprocessing",
  ]
  assert cli.main(refused) == 2 and "leave it out" in capsys.readouterr().err


@pytest.mark.torch
def test_the_encoder_of_depth_is_exported(tmp_path, monkeypatch):
  pytest.importorskip("timm")
  spec, out = BackboneSpec("vit_tiny", (64, 32), "grid2d"), tmp_path / "out"
  student = {name: random_backbone(spec, seed) for seed, name in enumerate(("backbone", "depth_backbone"))}
  monkeypatch.setattr(export, "open_weights", lambda path: Weights(spec, student, None, "a run"))
  assert cli.main(["export", "--checkpoint=W", "--dialect=timm", "--which=depth", f"--out={out}"]) == 0
  written = load_backbone(out).params
  np.testing.assert_array_equal(written["cls_token"], student["depth_backbone"]["cls_token"])
  assert "depth, repeated three times" in (out / "README.md").read_text()
  assert '"mean": [0.0, 0.0, 0.0]' in (out / "config.json").read_text()


def test_panel_shows_all_modalities(setup):
  _, method, _, found = setup
  panel = method.panels(found["params"], found["extra"], {n: a[:4] for n, a in rgbd().items()}, KEY)["modalities"]
  cells = [dict(row) for row in panel.rows]
  assert list(cells[0]) == ["image", "crop", "joints", "depth", "rgb map", "depth map"] and len(cells) == 4
  assert cells[0]["depth"].any() and not cells[1]["depth"].any() and not cells[1]["depth map"].any()
  assert cells[0]["depth map"].shape == (128, 64, 3) and cells[0]["rgb map"].std() > 0.05
  yellow = lambda row: (np.abs(row["joints"] - (1.0, 0.85, 0.1)) < 1e-6).all(-1).any()
  assert yellow(cells[0]) and not yellow(cells[2])


def test_published_numbers():
  first, second = (parse_config(load_recipe(REPO / "configs" / f"{name}.py")) for name in ("hcmoco", "hcmoco_stage2"))
  method = METHODS["hcmoco"].build(first)
  assert sum(method.backbone.map_widths) == 270 and method.grid == (80, 80)
  assert vars(first.method.weights) == {"sample": 1, "dense": 0, "nodes": 0, "joints": 0}
  assert dataclasses.replace(first.method, weights=second.method.weights) == second.method
  assert set(vars(second.method.weights).values()) == {1}
  assert (first.optimizer.name, first.optimizer.b1, first.optimizer.weight_decay) == ("sgd", 0.9, 1e-4)
  assert first.total_steps * first.batch_size == pytest.approx(100 * 82_000, rel=1e-2)


def test_sgd_is_pytorchs():
  settings = {
    "name": "sgd",
    "learning_rate": 0.1,
    "min_learning_rate": 0.1,
    "b1": 0.9,
    "weight_decay": 0.01,
    "grad_clip_norm": None,
  }
  config, method = tiny(*(f"optimizer.{name}={value}" for name, value in settings.items()))
  tx, _ = make_optimizer(config.optimizer, 10, method.param_groups())
  w = jnp.array([1.0, -2.0])
  state, expected, momentum = tx.init({"w": w}), np.array([1.0, -2.0]), np.zeros(2)
  for gradient in ([0.5, 1.0], [-1.0, 0.0], [0.25, 0.25]):
    updates, state = tx.update({"w": jnp.array(gradient)}, state, {"w": w})
    w = w + updates["w"]
    momentum = 0.9 * momentum + np.array(gradient) + 0.01 * expected
    expected = expected - 0.1 * momentum
    np.testing.assert_allclose(w, expected, rtol=1e-6)


@pytest.mark.parametrize(
  "setting, message",
  [
    ("method.weights.dense=-1.0", "weights.dense is -1.0"),
    ("method.temperature=0.0", "temperature is 0.0"),
    ("method.bank.momentum=1.0", "bank.momentum is 1.0"),
    ("method.negatives=all", "negatives is 'all'"),
  ],
)
def test_impossible_settings_say_what_to_change(setting, message):
  with pytest.raises(ValueError, match=message):
    tiny(setting)


def test_banks_must_have_a_row_for_each_image():
  config, _ = tiny()
  METHODS["hcmoco"].check_data(config.method, range(200))
  with pytest.raises(ValueError, match="bank.size is 200, the data set has 352 images: set it to 352"):
    METHODS["hcmoco"].check_data(config.method, range(352))
