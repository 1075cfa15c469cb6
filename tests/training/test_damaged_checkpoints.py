"""Checkpoints that are half there: never used silently, never deleted, and named in one line."""

import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.schema import to_dict
from saip_jax.evaluation import finetune
from saip_jax.interop import weights
from saip_jax.interop.history import run_history
from saip_jax.interop.importing import import_weights
from saip_jax.interop.spec import BackboneSpec
from saip_jax.interop.weights import open_weights
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.reporting.report import write_report
from saip_jax.run_folder.folder import read_config, write_config
from saip_jax.run_folder.integrity import checkpoint_steps, damage_of, newest_whole
from saip_jax.training.checkpoint import Checkpoints
from saip_jax.training.state import TrainState
from tests.support.report_page import Page, two_cameras
from tests.support.tiny_methods import COMMON, REPO
from tests.support.toy_method import train_toy
from tests.support.toy_weights import add_toy_backbone, random_backbone


def _largest(path):
  return max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def _every_file(path, change):
  for file in [file for file in path.rglob("*") if file.is_file()]:
    change(file)


def _cut(file, size=10):
  file.write_bytes(file.read_bytes()[:size])


KINDS = {
  "an empty folder": lambda step: (shutil.rmtree(step), step.mkdir()),
  "no fingerprint": lambda step: shutil.rmtree(step / "fingerprint"),
  "an empty fingerprint": lambda step: _cut(step / "fingerprint" / "metadata", 0),
  "a fingerprint that is a list": lambda step: (step / "fingerprint" / "metadata").write_text("[1]"),
  "no model.json": lambda step: (step / "model" / "model.json").unlink(),
  "an empty model.json": lambda step: _cut(step / "model" / "model.json", 0),
  "no state": lambda step: shutil.rmtree(step / "state"),
  "no description": lambda step: (step / "state" / "_METADATA").unlink(),
  "half a description": lambda step: _cut(step / "state" / "_METADATA", 200),
  "no manifest": lambda step: (step / "state" / "manifest.ocdbt").unlink(),
  "an empty manifest": lambda step: _cut(step / "state" / "manifest.ocdbt", 0),
  "arrays cut short": lambda step: _every_file(step / "state" / "ocdbt.process_0" / "d", _cut),
  "all cut short": lambda step: _every_file(step / "state", _cut),
  "arrays cut in half": lambda step: _every_file(
    step / "state" / "ocdbt.process_0" / "d", lambda file: _cut(file, file.stat().st_size // 2)
  ),
  "zeros, as after a power cut": lambda step: _largest(step).write_bytes(bytes(_largest(step).stat().st_size)),
  "a lost file of arrays": lambda step: _largest(step / "state" / "ocdbt.process_0").unlink(),
  "never committed": lambda step: (step / "commit_success.txt").unlink(),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run of a toy backbone with checkpoints of steps 2 and 4, with the step as scale of its normalization."""
  with pytest.MonkeyPatch.context() as monkeypatch:
    add_toy_backbone(monkeypatch)
    settings = [f"--config.{s}" for s in (*COMMON, "model.backbone=vit_toy")]
    config = parse_config(apply_overrides(load_recipe(REPO / "configs" / "mae_demo.py"), settings))
    spec = BackboneSpec("vit_toy", (64, 32), "grid2d")
    params, model = {"backbone": random_backbone(spec)}, {"facts": spec.facts(), "head_counts": {}}
  workdir = tmp_path_factory.mktemp("runs") / "whole"
  workdir.mkdir()
  write_config(workdir, to_dict(config))
  checkpoints = Checkpoints(workdir, 3, None, {"data": {"source": "toy", "images": 3, "digest": "abc"}}, model)
  for step in (2, 4):
    params["backbone"]["norm"]["scale"] = np.full(24, step, np.float32)
    noise = jnp.asarray(np.random.default_rng(step).random((64, 64)), jnp.float32)
    checkpoints.save(step, TrainState(np.int32(step), params, {}, {"mu": noise}))
    checkpoints.wait()
  checkpoints.close()
  return workdir


@pytest.fixture
def run(whole, tmp_path, monkeypatch):
  """A copy of it, to be damaged."""
  add_toy_backbone(monkeypatch)
  return pathlib.Path(shutil.copytree(whole, tmp_path / "run"))


def _files(workdir):
  return {file: file.read_bytes() for file in workdir.rglob("*") if file.is_file()}


def test_a_whole_checkpoint_is_found_whole(run):
  assert checkpoint_steps(run) == [2, 4]
  assert newest_whole(run / "checkpoints") == newest_whole(run / "checkpoints", parts=None) == (4, [])
  (run / "checkpoints" / "8.orbax-checkpoint-tmp-1").mkdir()
  assert newest_whole(run / "checkpoints") == (4, [])
  assert newest_whole(run / "nothing" / "checkpoints") == (None, [])
  assert newest_whole(run / ".." / run.name / "checkpoints") == (4, [])  # TensorStore refuses such a path


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_checkpoint_is_never_read_silently(run, kind, capsys):
  newest = run / "checkpoints" / "4"
  KINDS[kind](newest)
  reason = damage_of(newest)
  assert reason and "\n" not in reason and len(reason) < 400, reason
  before = _files(run)
  found = open_weights(run)
  assert found.student["backbone"]["norm"]["scale"][0] == 2 and "step 2 of the run" in found.origin
  errors = capsys.readouterr().err
  assert errors.count("\n") == 1 and str(newest) in errors and "step 2 is read instead" in errors, errors
  assert found.notes == (errors.removeprefix("warning: ").rstrip("\n"),)  # part of the records of import and export
  with pytest.raises(ValueError, match="checkpoints/4 holds no checkpoint that is whole"):
    open_weights(newest)  # asked for by name
  assert _files(run) == before


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_a_damaged_checkpoint_is_refused_in_one_line(run, kind):
  KINDS[kind](run / "checkpoints" / "4")
  before = _files(run)
  with pytest.raises(ValueError) as caught:
    _resume(run)
  message = str(caught.value)
  assert f"{run}/checkpoints/4 " in message and "delete it, and the run goes on from step 2" in message
  assert "\n" not in message and "Traceback" not in message and len(message) < 600, message
  assert _files(run) == before
  shutil.move(run / "checkpoints" / "4", run / "checkpoints" / "4.damaged")  # done, if more carefully
  assert _resume(run) == 2 and (run / "checkpoints" / "4.damaged").exists()


def _resume(workdir):
  """Opens the checkpoints as a run does that goes on, and returns the scale that it finds."""
  checkpoints = Checkpoints(workdir, 3, None, {"data": {"source": "toy", "images": 3, "digest": "abc"}})
  try:
    backbone = random_backbone(BackboneSpec("vit_toy", (64, 32), "grid2d"))
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shape_of = lambda a: jax.ShapeDtypeStruct(a.shape, jnp.float32, sharding=one)
    state = TrainState(np.zeros(()), {"backbone": backbone}, {}, {"mu": np.zeros((64, 64))})
    return checkpoints.restore(jax.tree.map(shape_of, state)).params["backbone"]["norm"]["scale"][0]
  finally:
    checkpoints.close()


def test_readers_need_no_optimizer_and_a_run_that_goes_on_does(run):
  step = run / "checkpoints" / "4"
  for file in (step / "state").rglob("d/*"):
    content = file.read_bytes()
    file.write_bytes(b"")
    lost = re.search(r"byte range \[(\d+), (\d+)\)", damage_of(step, ["opt_state"]) or "")
    start, end = map(int, lost.groups()) if lost and "opt_state.mu/" in damage_of(step, ["opt_state"]) else (0, 0)
    file.write_bytes(content[:start] + bytes(end - start) + content[end:])
  assert newest_whole(run / "checkpoints") == (4, []) and open_weights(run).notes == ()
  step, (damage,) = newest_whole(run / "checkpoints", parts=None)
  assert step == 2 and "its opt_state.mu cannot be read" in damage


def test_without_any_whole_checkpoint_all_are_named(run):
  for step in (2, 4):
    KINDS["never committed"](run / "checkpoints" / str(step))
  with pytest.raises(ValueError, match="checkpoints/4 holds.*; .*checkpoints/2 holds"):
    open_weights(run)
  with pytest.raises(ValueError, match="checkpoints/4 .*checkpoints/2 .* the run starts anew: there is no other"):
    _resume(run)


def test_records_and_pages_name_the_step_that_was_read(run, tmp_path, monkeypatch, capsys):
  KINDS["arrays cut in half"](run / "checkpoints" / "4")
  assert run_history(run, open_weights(run).step)["history"]["step"].startswith("2 of ")
  assert finetune._start_of(str(run), 0, "student").init_from == f"{run}/checkpoints/2"
  import_weights(run, None, tmp_path / "out")
  model = json.loads((tmp_path / "out" / "model.json").read_text())
  assert "step 2 is read instead" in model["notes"][0] and "step 2 of the run" in model["origin"]
  assert capsys.readouterr().err.count("step 2 is read instead") == 3
  read = []

  def load_backbone(path):
    read.append(path)
    raise ValueError("drawing takes seconds")

  monkeypatch.setattr(weights, "load_backbone", load_backbone)
  page = Page(write_report(run, out=tmp_path / "page.html", data=two_cameras()).read_text())
  assert read == [run / "checkpoints" / "2"]
  assert "checkpoints/4 holds no checkpoint that is whole" in page.text and "newest checkpoint step 2" in page.text


def test_damaged_settings_are_named_and_mended_by_the_next_start(tmp_path, capsys):
  run = tmp_path / "run"
  train_toy(run, "total_steps=3")
  shutil.rmtree(run / "checkpoints" / "3" / "model")  # as in earlier versions
  for content in ("", '{"seed": ', "[1]"):
    (run / "config.json").write_text(content)
    with pytest.raises(ValueError, match="config.json cannot be read: .*start the run again with its recipe"):
      read_config(run)
    with pytest.raises(ValueError, match="config.json"):
      open_weights(run)
  train_toy(run, "total_steps=4")
  assert "resuming at step 3; " in (output := capsys.readouterr().out) and "config.json cannot be read" in output
  assert read_config(run)["total_steps"] == 4


def test_a_run_refuses_its_damaged_checkpoint_and_names_the_whole_one(tmp_path):
  run = tmp_path / "run"
  train_toy(run)
  (run / "goodput.json").write_text("")  # what only measures stops no run
  KINDS["all cut short"](run / "checkpoints" / "6")
  with pytest.raises(ValueError, match="checkpoints/6 holds .* goes on from step 3, which is whole"):
    train_toy(run, "total_steps=8")
  shutil.rmtree(run / "checkpoints" / "6")
  assert train_toy(run, "total_steps=8").step == 8 and checkpoint_steps(run) == [3, 6, 8]
