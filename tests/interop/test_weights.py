"""Opening weights: published files, runs, and the backbone that is loaded from them at any size."""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import saip_jax
from input_pipeline.schema import to_dict
from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.interop import saip
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.importing import import_summary, import_weights
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.weights import load_backbone, open_weights
from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.replay import replay
from saip_jax.run_folder.folder import write_config
from saip_jax.training.checkpoint import Checkpoints
from saip_jax.training.state import TrainState
from tests.support.tiny_saip import TINY
from tests.support.toy_weights import (
  FIXTURE,
  add_toy_backbone,
  assert_same,
  official_states,
  published,
  random_weights,
  save_pth,
  timm_file,
)

REPO = pathlib.Path(__file__).resolve().parents[2]
torch_only = pytest.mark.torch


@pytest.fixture(autouse=True)
def toy_backbone(monkeypatch):
  add_toy_backbone(monkeypatch)


@pytest.fixture
def torch():
  return pytest.importorskip("torch")


@pytest.mark.slow
@torch_only
def test_published_weights_give_the_published_losses(tmp_path, torch):
  """A published file imported, written again by the export's dialect and replayed: every recorded number holds."""
  student, teacher = official_states()
  source = save_pth(
    tmp_path / "published.pth",
    published(student, teacher),
    epoch=3,
    optimizer={"state": {}},
    args=argparse.Namespace(num_heads=3, decoder_num_heads=4, lr=1e-3),
    csm_loss={"center": torch.zeros(1, 256)},
  )
  weights = import_weights(source, "saip", tmp_path / "W", image_hw=(128, 64))
  assert_same(weights.student, saip.read(student))
  assert_same(weights.teacher, saip.read(teacher))
  assert weights.head_counts == {"csr_heads": 4, "css_heads": 4}
  assert "student: backbone 104, csm 7, csr 32, css 54 tensors" in "\n".join(import_summary(weights, "W"))
  assert "not used: optimizer, csm_loss, epoch" in weights.notes

  reopened = open_weights(tmp_path / "W")
  assert_same(reopened.student, weights.student)
  assert_same(reopened.teacher, weights.teacher)
  assert reopened.spec == weights.spec and reopened.head_counts == weights.head_counts

  with np.load(FIXTURE) as archive:
    arrays = dict(archive)
  content = DIALECTS["saip"].to_state(reopened)
  for who in ("student", "teacher"):
    again = {f"{who}/{name.removeprefix('module.')}": a for name, a in content[who].items()}
    assert again.keys() == {name for name in arrays if name.startswith(f"{who}/")}
    arrays |= again
  np.savez(tmp_path / "again.npz", **arrays)
  checks = replay(str(tmp_path / "again.npz")).checks
  assert [c for c in checks if c.name.startswith(("loss/", "out/")) and not c.passed] == []


@torch_only
def test_what_was_not_used_is_reported(tmp_path, torch):
  content = DIALECTS["mae"].to_state(random_weights())
  content["model"] |= {f"decoder_blocks.{i}.norm1.weight": np.zeros(3, np.float32) for i in range(9)}
  path = save_pth(tmp_path / "mae.pth", content, epoch=1)
  lines = "\n".join(import_summary(open_weights(path), "W"))
  for words in (
    "vit_toy for 128x64",
    "(mae)",
    "student: backbone 102 tensors",
    "teacher: none in the file",
    "assumed 32 positions to be for 128x64 pixels; --image-hw=HxW",
    "not used: epoch",
    "not used: 9 tensors of decoder_blocks.0.norm1, decoder_blocks.1.norm1",
    "and 3 more",
    "as in a new model: student/backbone/inter_norm/scale, student/backbone/inter_norm/bias",
  ):
    assert words in lines, lines


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
  """Two checkpoints of a small run: its folder, and the state of the newer one."""
  more = jax.jit(lambda tree, by: jax.tree.map(lambda a: a + by, tree))
  with pytest.MonkeyPatch.context() as monkeypatch:
    add_toy_backbone(monkeypatch)
    settings = [f"--config.{s}" for s in (*TINY, "model.backbone=vit_toy")]
    config = parse_config(apply_overrides(load_recipe(REPO / "configs" / "saip_demo.py"), settings))
    params, method_state = jax.jit(METHODS["saip"].build(config).init)(jax.random.key(0))
  method_state["teacher"] = more(method_state["teacher"], 1)
  workdir = tmp_path_factory.mktemp("run")
  write_config(workdir, to_dict(config))
  checkpoints = Checkpoints(workdir, 3, None, {})
  for step in (2, 10):
    state = TrainState(jnp.int32(step), more(params, step), method_state, {"mu": params})
    checkpoints.save(step, state)
  checkpoints.close()
  return workdir, jax.device_get(state)


def test_a_run_is_read_without_its_optimizer(run_folder):
  workdir, state = run_folder
  weights = open_weights(workdir)
  assert_same(weights.student, state.params)
  assert_same(weights.teacher, state.method_state["teacher"])
  assert all(type(a) is np.ndarray for a in jax.tree.leaves((weights.student, weights.teacher)))
  assert (weights.spec.name, weights.spec.image_hw, weights.spec.pos_interpolation) == ("vit_toy", (128, 64), "flat1d")
  assert weights.head_counts == {"csr_heads": 2, "css_heads": 2} and "step 10 of the run" in weights.origin
  earlier = open_weights(workdir / "checkpoints" / "2").student
  assert (earlier["backbone"]["norm"]["scale"] == 1 + 2).all()


def test_a_run_comes_back_from_an_import_and_from_a_published_file(run_folder, tmp_path):
  workdir, state = run_folder
  assert_same(import_weights(workdir, None, tmp_path / "W").teacher, state.method_state["teacher"])
  assert_same(open_weights(tmp_path / "W").student, state.params)
  pytest.importorskip("torch")
  weights = open_weights(save_pth(tmp_path / "a.pth", DIALECTS["saip"].to_state(open_weights(workdir))))
  assert_same(weights.student, state.params)
  assert_same(weights.teacher, state.method_state["teacher"])
  assert weights.spec == open_weights(workdir).spec and weights.head_counts == open_weights(workdir).head_counts
  assert not any("assumed" in note for note in weights.notes)  # the file specifies the size


@pytest.mark.parametrize(
  "name, words",
  [
    (".", "no checkpoint yet"),
    ("checkpoints/4", "holds no checkpoint"),
    ("missing", "no such file, folder or model of this package"),
    ("empty", "exactly one file of weights"),
  ],
)
def test_a_run_that_cannot_be_read(run_folder, tmp_path, name, words):
  write_config(tmp_path, json.loads((run_folder[0] / "config.json").read_text()))
  (tmp_path / "checkpoints" / "4").mkdir(parents=True)
  (tmp_path / "empty").mkdir()
  if name == ".":
    (tmp_path / "checkpoints" / "4").rmdir()
  with pytest.raises(ValueError, match=words):
    open_weights(tmp_path / name)


def test_positions_are_resized_in_two_dimensions(run_folder):
  weights = open_weights(run_folder[0])
  wide = weights.resized((128, 96))
  assert wide.spec.image_hw == (128, 96) and wide.spec.build().stored_grid == (8, 6)
  for tree, resized in (
    (weights.student["backbone"], wide.student["backbone"]),
    (weights.teacher["csr"], wide.teacher["csr"]),
  ):
    expected = interpolate_positions(tree["pos_embed"][0, 1:], (8, 4), (8, 6), "grid2d")
    np.testing.assert_array_equal(resized["pos_embed"][0, 1:], expected)
    np.testing.assert_array_equal(resized["pos_embed"][0, 0], tree["pos_embed"][0, 0])
  assert wide.student["css"] is not weights.student["css"]
  assert_same(
    {k: v for k, v in wide.student["backbone"].items() if k != "pos_embed"},
    {k: v for k, v in weights.student["backbone"].items() if k != "pos_embed"},
  )
  line = weights.resized((128, 96), "flat1d").backbone()["pos_embed"]
  assert np.abs(line - wide.backbone()["pos_embed"]).max() > 0.1
  assert weights.resized((128, 64)) is weights
  assert parameter_shapes(wide.spec.build())["pos_embed"] == wide.backbone()["pos_embed"].shape
  with pytest.raises(ValueError, match="--image-hw=120x64.*patch, 16"):
    weights.resized((120, 64))


def test_load_backbone(tmp_path):
  weights = random_weights()
  path = timm_file(tmp_path / "a.safetensors", weights)
  loaded = saip_jax.load_backbone(path)
  images = np.random.default_rng(0).integers(0, 256, (2, 128, 64, 3), np.uint8)
  mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
  normalized = loaded.preprocessing(images)
  np.testing.assert_allclose(normalized, (images / np.float32(255) - mean) / std, rtol=1e-5, atol=1e-6)
  assert normalized.dtype == np.float32 and loaded.preprocessing.image_hw == (128, 64)
  features = loaded.module.apply(loaded.variables, normalized)
  expected = weights.spec.build().apply({"params": weights.backbone()}, normalized)
  np.testing.assert_array_equal(features.cls, expected.cls)

  other = load_backbone(path, image_hw=(96, 96))
  assert other.module.stored_grid == (6, 6) and other.preprocessing.image_hw == (96, 96)
  with pytest.raises(ValueError, match="has no teacher"):
    load_backbone(path, which="teacher")


def test_the_package_stays_light():
  code = "import sys, saip_jax; print('jax' in sys.modules, hasattr(saip_jax, 'no_such_name'))"
  run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
  assert run.stdout.split() == ["False", "False"], run.stderr


def test_reading_needs_no_pytorch(tmp_path):
  path = timm_file(tmp_path / "a.safetensors", dataclasses.replace(random_weights("vit_tiny"), origin="x"))
  code = (
    "import sys; sys.modules['torch'] = None; import saip_jax; "
    f"print(saip_jax.load_backbone({str(path)!r}).module.width)"
  )
  run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
  assert run.stdout.strip() == "192", run.stderr
