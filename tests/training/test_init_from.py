"""A new run that starts from other weights: what is taken, what is new, what is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from input_pipeline.schema import to_dict
from saip_jax import initial
from saip_jax.initial import start_from
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.spec import BackboneSpec, Weights
from saip_jax.interop.tables import flatten
from saip_jax.interop.tensor_files import write_safetensors
from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.training.mesh import make_mesh, replicated
from saip_jax.training.state import TrainState
from tests.support.tiny_saip import REPO, TINY
from tests.support.toy_method import toy_config, train_toy
from tests.support.toy_weights import add_toy_backbone, random_backbone


@pytest.fixture(autouse=True)
def toy_backbone(monkeypatch):
  add_toy_backbone(monkeypatch)


def config_of(*overrides):
  settings = [f"--config.{s}" for s in (*TINY, "model.backbone=vit_toy", *overrides)]
  return parse_config(apply_overrides(load_recipe(REPO / "configs" / "saip_demo.py"), settings))


@pytest.fixture(scope="module")
def fresh():
  """A run that has just begun: its method and its state."""
  with pytest.MonkeyPatch.context() as monkeypatch:
    add_toy_backbone(monkeypatch)
    method = METHODS["saip"].build(config_of())
    params, method_state = jax.jit(method.init, out_shardings=replicated(make_mesh(jax.devices()[:1])))(
      jax.random.key(0)
    )
  return method, TrainState(np.int32(0), params, method_state, {"mu": params})


@pytest.fixture
def source(fresh, monkeypatch):
  """Lets `init_from` find what this is called with: (student, teacher, what else `Weights` holds)."""

  def hold(student, teacher=None, image_hw=(128, 64), name="vit_toy", spec=None, **others):
    weights = Weights(spec or BackboneSpec(name, image_hw, "grid2d"), student, teacher, "elsewhere", **others)
    monkeypatch.setattr(initial, "open_weights", lambda path: weights)

  return hold


def test_networks_of_the_same_parameters_start_from_each_other():
  """HCMoCo's HRNet from timm's file, which was trained with the other way of enlarging maps."""
  spec = BackboneSpec("hrnet_w18", (64, 64))
  assert initial._same_parameters(spec, "hrnet_w18_bilinear")
  assert not initial._same_parameters(BackboneSpec("vit_tiny", (64, 64), "grid2d"), "vit_tiny_rope")
  assert not initial._same_parameters(spec, "convnext_femto")


def start(fresh, *overrides):
  method, state = fresh
  config = config_of("init_from=somewhere", *overrides)
  return start_from(config, method, state, replicated(make_mesh(jax.devices()[:1])))


def moved(tree, by):
  return jax.tree.map(lambda a: np.asarray(a) + np.float32(by), tree)


def assert_same(ours, theirs):
  ours, theirs = flatten(jax.device_get(ours)), flatten(jax.device_get(theirs))
  assert ours.keys() == theirs.keys()
  for path, value in theirs.items():
    np.testing.assert_array_equal(ours[path], value, err_msg=path)


def test_student_teacher_and_heads_are_taken(fresh, source):
  _, old = fresh
  student, teacher = moved(old.params, 1), moved(old.params, 2)
  source(student, teacher, head_counts={"csr_heads": 2, "css_heads": 2})
  state, line = start(fresh)
  assert_same(state.params, student)
  assert_same(state.method_state["teacher"], teacher)
  assert_same({"center": state.method_state["center"]}, {"center": old.method_state["center"]})
  assert state.opt_state is old.opt_state and state.step == 0
  parts = "(backbone, csm, csr, css)"
  total = 104 + 7 + (8 + 12) + (30 + 12 * 2)
  assert line == (
    f"initial  {total} tensors of the student {parts}, {total} tensors of the teacher {parts} from elsewhere;"
    " new: nothing"
  )
  arrays = [a.unsafe_buffer_pointer() for a in jax.tree.leaves((state.params, state.method_state))]
  assert len(set(arrays)) == len(arrays)  # the state is donated


def test_without_a_teacher_it_is_a_copy_of_the_student(fresh, source):
  _, old = fresh
  source({"backbone": moved(old.params["backbone"], 1)}, new=("student/backbone/inter_norm/scale",))
  state, line = start(fresh)
  assert_same(state.params, old.params | {"backbone": moved(old.params["backbone"], 1)})
  assert_same(state.method_state["teacher"], state.params)
  assert line == (
    "initial  103 tensors of the student (backbone), the teacher is a copy of the student from elsewhere; new: csm,"
    " csr, css, student/backbone/inter_norm/scale"
  )
  arrays = [a.unsafe_buffer_pointer() for a in jax.tree.leaves((state.params, state.method_state))]
  assert len(set(arrays)) == len(arrays)


def test_the_backbone_alone(fresh, source):
  _, old = fresh
  source(moved(old.params, 1), moved(old.params, 2), head_counts={"csr_heads": 16})
  state, line = start(fresh, "init_heads=False")
  heads = {name: old.params[name] for name in ("csm", "csr", "css")}
  assert_same(state.params, heads | {"backbone": moved(old.params["backbone"], 1)})
  assert_same(state.method_state["teacher"], heads | {"backbone": moved(old.params["backbone"], 2)})
  assert line.endswith("new: csm, csr, css")


def test_the_teacher_can_be_what_a_run_starts_from(fresh, source):
  _, old = fresh
  source(moved(old.params, 1), moved(old.params, 2))
  state, line = start(fresh, "init_which=teacher", "init_heads=False")
  heads = {name: old.params[name] for name in ("csm", "csr", "css")}
  assert_same(state.params, heads | {"backbone": moved(old.params["backbone"], 2)})
  assert_same(state.method_state["teacher"], state.params)
  assert line.startswith("initial  104 tensors of the teacher (backbone)")
  source(moved(old.params, 1))
  with pytest.raises(ValueError, match="init_from=somewhere: it has no teacher, which config.init_which asks for"):
    start(fresh, "init_which=teacher")


def test_positions_of_another_size_are_resized(fresh, source):
  _, old = fresh
  spec = BackboneSpec("vit_toy", (256, 128), "grid2d")
  backbone = random_backbone(spec)
  source({"backbone": backbone}, image_hw=(256, 128))
  state, _ = start(fresh)
  expected = Weights(spec, {"backbone": backbone}, None, "x").resized((128, 64)).backbone()
  assert_same(state.params["backbone"], expected)
  assert state.params["backbone"]["pos_embed"].shape == (1, 33, 24)


def test_all_that_does_not_fit_is_listed(fresh, source):
  _, old = fresh
  student = moved(old.params, 1)
  student["csm"]["fc1"]["bias"] = np.zeros(17, np.float32)
  del student["css"]["map1"]
  student["mim"] = {"bias": np.zeros(2, np.float32)}
  source(student)
  with pytest.raises(ValueError) as error:
    start(fresh)
  for words in (
    "--config.init_from=somewhere",
    "csm/fc1/bias is (17,), expected (16,)",
    "mim/bias is (2,), expected none",
    "css/map1/kernel is missing, expected (3, 3, 16, 16)",
    "--config.init_heads=False",
  ):
    assert words in str(error.value), error.value
  start(fresh, "init_heads=False")

  student["backbone"] = random_backbone(BackboneSpec("vit_tiny", (128, 64), "grid2d"))
  source(student)
  with pytest.raises(ValueError, match="backbone/norm/bias") as error:
    start(fresh)
  assert "init_heads" not in str(error.value)


def test_what_no_shape_shows_is_refused(fresh, source):
  _, old = fresh
  source(moved(old.params, 1), head_counts={"csr_heads": 16, "css_heads": 2})
  with pytest.raises(ValueError, match="csr_heads was 16, config.method.csr.heads is 2; --config.init_heads=False"):
    start(fresh)
  source(moved(old.params, 1), name="vit_tiny")
  with pytest.raises(ValueError, match="weights of vit_tiny, config.model.backbone is vit_toy"):
    start(fresh)


def test_a_file_is_read(fresh, tmp_path):
  method, state = fresh
  spec = BackboneSpec("vit_toy", (128, 64), "grid2d")
  weights = Weights(spec, {"backbone": random_backbone(spec)}, None, "x")
  path = tmp_path / "a.safetensors"
  write_safetensors(path, DIALECTS["timm"].to_state(weights))
  config = dataclasses.replace(config_of(), init_from=str(path))
  state, line = start_from(config, method, state, replicated(make_mesh(jax.devices()[:1])))
  np.testing.assert_array_equal(state.params["backbone"]["cls_token"], weights.backbone()["cls_token"])
  assert "102 tensors of the student (backbone)" in line and str(path) in line
  config = dataclasses.replace(config, init_from=str(tmp_path / "none"))
  with pytest.raises(ValueError, match="--config.init_from=.*none: no such file"):
    start_from(config, method, state, None)


def test_the_loop_starts_from_them_once(tmp_path, monkeypatch, capsys):
  """Also on several devices, and with every state after it as exact as ever."""
  linear = {"kernel": np.full((24, 5), 0.25, np.float32), "bias": np.float32(0.5)}
  weights = Weights(BackboneSpec("vit_tiny", (32, 16), "grid2d"), {"linear": linear}, None, "elsewhere")
  asked = []
  monkeypatch.setattr(initial, "open_weights", lambda path: asked.append(path) or weights)
  settings = ("init_from=somewhere", "optimizer.min_learning_rate=1e-2", "optimizer.warmup_fraction=0.0")
  whole = train_toy(tmp_path / "whole", *settings, "total_steps=4", devices=2)
  parts = train_toy(tmp_path / "parts", *settings, "total_steps=2", devices=2)
  parts = train_toy(tmp_path / "parts", *settings, "total_steps=4", devices=2)
  assert asked == ["somewhere"] * 2  # not when resumed
  assert jax.tree.all(jax.tree.map(np.array_equal, whole, parts))
  without = train_toy(tmp_path / "without", *settings[1:], "total_steps=4", devices=2)
  assert np.abs(without.params["linear"]["kernel"] - whole.params["linear"]["kernel"]).max() > 0.05
  assert capsys.readouterr().out.count("initial  2 tensors of the student (linear)") == 2
  assert json.loads((tmp_path / "parts" / "config.json").read_text())["init_from"] == "somewhere"
  with pytest.raises(ValueError, match="config.init_from was 'somewhere', now 'other'"):
    train_toy(tmp_path / "parts", *settings[1:], "init_from=other", "total_steps=4")


def test_weights_that_are_not_finite_are_refused_before_anything_is_compiled(tmp_path, monkeypatch):
  spec = BackboneSpec("vit_toy", (128, 64), "grid2d")
  state = DIALECTS["timm"].to_state(Weights(spec, {"backbone": random_backbone(spec)}, None, "x"))
  state["norm.bias"][3] = np.nan
  write_safetensors(tmp_path / "a.safetensors", state)
  monkeypatch.setattr(jax, "jit", None)
  with pytest.raises(ValueError, match="--config.init_from=.*not finite: 1 tensor.*norm.bias .1 of 24 values"):
    train_toy(tmp_path / "run", f"init_from={tmp_path / 'a.safetensors'}")


def test_other_heads_are_refused_and_can_be_set(fresh, source):
  _, old = fresh
  distilled = BackboneSpec("vit_toy", (128, 64), "grid2d").attending(6, 12)
  source({"backbone": moved(old.params["backbone"], 1)}, spec=distilled)
  with pytest.raises(ValueError, match="6 attention heads, 12 in the last block.*config.model.heads=6.*last_heads=12"):
    start(fresh)
  state, _ = start(fresh, "model.heads=6", "model.last_heads=12")
  assert_same(state.params["backbone"], moved(old.params["backbone"], 1))
  method = METHODS["saip"].build(config_of("model.heads=6", "model.last_heads=12"))
  assert (method.backbone.heads, method.backbone.last_heads) == (6, 12)
  with pytest.raises(ValueError, match="config.model.last_heads is 7: expected a divisor of the width of vit_toy"):
    config_of("model.last_heads=7")
  with pytest.raises(ValueError, match="config.model.heads is 4: swin_tiny has the attention heads of its stages"):
    config_of("model.backbone=swin_tiny", "model.heads=4")


def test_another_epsilon_is_refused_and_can_be_set(fresh, source):
  _, old = fresh
  other = BackboneSpec("vit_toy", (128, 64), "grid2d").having(norm_eps=1e-12, patch_padding=2)
  source({"backbone": moved(old.params["backbone"], 1)}, spec=other)
  with pytest.raises(ValueError, match="set config.model.norm_eps=1e-12 and config.model.patch_padding=2"):
    start(fresh)
  settings = "model.norm_eps=1e-12", "model.patch_padding=2"
  state, _ = start(fresh, *settings)
  assert_same(state.params["backbone"], moved(old.params["backbone"], 1))
  backbone = METHODS["saip"].build(config_of(*settings)).backbone
  assert (backbone.norm_eps, backbone.patch_padding) == (1e-12, 2)
  with pytest.raises(ValueError, match="config.model.image_hw is .256, 128.: height and width .* multiples of 14"):
    config_of("model.backbone=dinov2_small", "model.image_hw=(256, 128)")


def test_a_run_made_before_init_from_existed_goes_on(tmp_path):
  """Its fingerprint and its config.json know nothing of it."""
  train_toy(tmp_path, "total_steps=2")
  stored = json.loads((tmp_path / "config.json").read_text())
  fingerprint = (tmp_path / "checkpoints" / "2" / "fingerprint" / "metadata").read_text()
  assert "init_" not in fingerprint and "heads" not in fingerprint
  (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in stored.items() if not k.startswith("init_")}))
  train_toy(tmp_path, "total_steps=4")
  assert json.loads((tmp_path / "config.json").read_text()) == to_dict(toy_config("total_steps=4"))
