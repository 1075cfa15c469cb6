"""The loop: what a run leaves behind, and when it refuses to go on."""

import gzip
import json
import os
import subprocess

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from saip_jax.running import train_in_folder
from saip_jax.training import checkpoint
from saip_jax.training.checkpoint import CheckpointError
from saip_jax.training.metrics import MetricsWriter, read_metrics
from saip_jax.training.telemetry import NonFiniteLoss
from tests.support.processes import TOY
from tests.support.toy_method import Toy, ToyData, toy_config, train_toy


def _steps(workdir):
  return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def test_outputs(tmp_path, capsys):
  train_toy(tmp_path, "panel_every=4", "seed=3", damage=["a.jpg: truncated"])
  assert json.loads((tmp_path / "config.json").read_text())["method"]["name"] == "toy"
  assert _steps(tmp_path) == [3, 6]
  assert sorted(path.name for path in (tmp_path / "panels").iterdir()) == ["000004_views.png", "000006_views.png"]
  assert (tmp_path / "damaged_images.txt").read_text() == "a.jpg: truncated\n"

  records = read_metrics(tmp_path / "metrics.jsonl")
  assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
  assert records[-1]["epoch"] == pytest.approx(6 * 8 / 40)
  optim = {"optim/lr", "optim/grad_norm"}
  for record in records:
    assert {"loss/total", "loss/fit", "loss/size"} | optim <= set(record)
    assert record["time/images_per_s"] > 0 and 0 <= record["time/input_wait_fraction"] <= 1
    assert 0 < record["time/goodput"] <= 1
    assert record["time/images_per_s"] * record["time/step_s"] == pytest.approx(8, rel=1e-5)

  assert ["time/save_stall" in record for record in records] == [False] * 3 + [True] + [False] * 2  # save 3 of 3 and 6
  assert 0 < records[3]["time/save_stall"] < 1

  events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
  scalars = [(event.step, event.value) for event in events.Scalars("loss/total")]
  assert scalars == [(r["step"], pytest.approx(r["loss/total"])) for r in records]

  output = capsys.readouterr().out
  for words in (
    "linear/kernel",
    "total 121",
    "cpu, mesh {'data': 1}",
    "40 toy images",
    "1.2 epochs",
    "compiled the step",
    "step 3/6",
    "step 6/6",
    "checkpoints/6",
    "metrics.jsonl",
    "000006_views.png",
    "a.jpg: truncated",
  ):
    assert words in output, words


def test_a_complete_run_reports_it(tmp_path, capsys):
  state = train_toy(tmp_path)
  capsys.readouterr()
  again = train_toy(tmp_path)
  assert "already complete: step 6 of 6" in capsys.readouterr().out
  assert jax.tree.all(jax.tree.map(np.array_equal, state, again))


def test_a_longer_run_names_what_changed(tmp_path, capsys):
  train_toy(tmp_path)
  train_toy(tmp_path, "total_steps=8")
  assert "resuming at step 6 with changed settings: total_steps was 6, now 8" in capsys.readouterr().out
  starts = [json.loads(line) for line in (tmp_path / "starts.jsonl").read_text().splitlines()]
  assert [(s["step"], s["devices"], s["hosts"]) for s in starts] == [(0, "1 x cpu", 1), (6, "1 x cpu", 1)]
  assert json.loads((tmp_path / "config.json").read_text())["total_steps"] == 8


def test_only_the_steps_missing_are_read(tmp_path):
  config = toy_config("total_steps=4")
  train_in_folder(config, Toy.build(config), lambda _: ToyData(8), tmp_path, devices=jax.devices()[:1])
  config, data = toy_config("total_steps=6", "panel_every=2"), ToyData(8)
  train_in_folder(config, Toy.build(config), lambda _: data, tmp_path, devices=jax.devices()[:1])
  assert data.starts == [0, 4]  # the first batch for the pictures, then training


def test_a_run_compiles_once(tmp_path):
  """However long it is, and whatever it saves, draws and logs meanwhile."""
  traced, compiled, at_step = [], [], []

  class Counted(Toy):
    def loss(self, *args):
      traced.append(1)
      return super().loss(*args)

  class Data(ToyData):
    def batches(self, *args):
      for batch in super().batches(*args):
        at_step.append(len(compiled))
        yield batch

  listen = lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    config = toy_config("total_steps=12", "panel_every=2", "accumulate=2", "profile_steps=3:5")
    train_in_folder(config, Counted.build(config), lambda _: Data(8), tmp_path, devices=jax.devices()[:1])
  finally:
    unregister = getattr(jax.monitoring, "unregister_event_duration_listener", None)  # JAX has it from 0.8.1 on
    unregister(listen) if unregister else jax.monitoring.clear_event_listeners()
  assert len(traced) == 1 and compiled
  at_step = at_step[1:]  # the first are for the pictures
  assert len(at_step) == 12 and at_step[4] == at_step[-1] == len(compiled), at_step


def test_a_profile_shows_the_steps_and_changes_nothing(tmp_path):
  seen = train_toy(tmp_path / "seen", "profile_steps=2:4")
  (trace,) = (tmp_path / "seen" / "profile").rglob("*.trace.json.gz")
  assert list(trace.parent.glob("*.xplane.pb"))
  events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
  assert {event["args"]["step_num"] for event in events if event.get("name") == "train"} == {"3", "4"}
  unseen = train_toy(tmp_path / "unseen")
  assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), seen, unseen))
  assert not (tmp_path / "unseen" / "profile").exists()
  train_toy(tmp_path / "end", "profile_steps=5:100")  # the run is over first
  assert list((tmp_path / "end" / "profile").rglob("*.xplane.pb"))


def test_compiled_programs_are_kept(tmp_path):
  """In a process of its own: JAX settles on one place for good."""
  env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
  env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  command = [*TOY, f"--workdir={tmp_path / 'run'}", f"--config.compile_cache={tmp_path / 'compiled'}"]
  subprocess.run([*command, "--config.total_steps=1"], check=True, env=env, stdout=subprocess.DEVNULL)
  assert any(path.name.startswith("jit_train_step") for path in (tmp_path / "compiled").iterdir())


def test_log_every(tmp_path):
  train_toy(tmp_path, "log_every=4")
  assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [4, 6]


@pytest.mark.parametrize(
  "setting, words",
  [
    ("seed=1", "config.seed was 0, now 1"),
    ("batch_size=16", "config.batch_size was 8, now 16"),
    ("method.noise=0.2", "config.method.noise was 0.1, now 0.2"),
    ("data.canvas_hw=(64, 64)", "config.data.canvas_hw was [320, 160], now [64, 64]"),
  ],
)
def test_another_run_does_not_touch_this_workdir(tmp_path, setting, words):
  train_toy(tmp_path, "total_steps=3")
  before = (tmp_path / "config.json").read_text(), (tmp_path / "metrics.jsonl").read_text()
  with pytest.raises(ValueError) as caught:
    train_toy(tmp_path, "total_steps=6", setting)
  assert words in str(caught.value) and "another --workdir" in str(caught.value)
  assert ((tmp_path / "config.json").read_text(), (tmp_path / "metrics.jsonl").read_text()) == before
  assert _steps(tmp_path) == [3]


def test_other_data_are_another_run(tmp_path):
  train_toy(tmp_path, "total_steps=3")
  with pytest.raises(ValueError, match="data.images was 40, now 41"):
    train_toy(tmp_path, length=41)


def test_batch_must_fit_the_devices(tmp_path):
  with pytest.raises(ValueError, match=r"config.batch_size is 12: .* multiple of 8 devices"):
    train_toy(tmp_path, "batch_size=12", devices=8)
  with pytest.raises(ValueError, match=r"config.accumulate 2 = 16"):
    train_toy(tmp_path, "accumulate=2", devices=8)


@pytest.mark.parametrize("black_step, saved", [(1, None), (3, 3), (4, 3), (5, 3)])
def test_a_non_finite_loss_stops_the_run(tmp_path, black_step, saved):
  """Whichever step it is: also the one right after a save, and the one right before the next."""
  with pytest.raises(NonFiniteLoss) as caught:
    train_toy(tmp_path, "panel_every=1", black_step=black_step)
  message = str(caught.value)
  batches = ToyData(8).batches(black_step)
  indices = next(batches)["index"].tolist()
  for words in (
    f"step {black_step + 1}:",
    "loss/total nan",
    "loss/fit nan",
    "loss/size",
    str(indices),
    f"last good checkpoint: {tmp_path}/checkpoints/{saved}" if saved else "last good checkpoint: none",
  ):
    assert words in message, message
  assert "\n" not in message
  report = json.loads((tmp_path / f"nonfinite_step_{black_step + 1}_host_0.json").read_text())
  assert report["indices"] == indices and report["metrics"]["loss/total"] == "nan"
  assert _steps(tmp_path) == ([saved] if saved else [])
  assert [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, black_step + 1))
  state = train_toy(tmp_path)  # with the image mended the run goes on from there
  assert state.step == 6 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_a_full_disk_stops_the_run_and_keeps_what_is_there(tmp_path, monkeypatch):
  train_toy(tmp_path, "total_steps=3")
  usage = checkpoint.shutil.disk_usage(tmp_path)
  monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage._replace(free=100))
  with pytest.raises(CheckpointError, match="cannot save step 6: it needs .* choose a --workdir on another disk"):
    train_toy(tmp_path)
  monkeypatch.undo()
  assert _steps(tmp_path) == [3]
  assert train_toy(tmp_path).step == 6


def test_a_failing_pipeline_ends_the_run_with_its_own_words(tmp_path):
  class Data(ToyData):
    def batches(self, *args):
      for step, batch in enumerate(super().batches(*args)):
        if step == 4:
          raise ValueError("too many damaged images")
        yield batch

  config = toy_config()
  with pytest.raises(ValueError, match="too many damaged images"):
    train_in_folder(config, Toy.build(config), lambda _: Data(8), tmp_path, devices=jax.devices()[:1])
  assert _steps(tmp_path) == [3]
  assert [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_metrics_are_read_as_if_the_run_had_never_stopped(tmp_path):
  writer = MetricsWriter(tmp_path, 0)
  for step in range(1, 6):
    writer.write(step, {"a": np.float32(0.1), "b": step})
  writer.close()
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 6, "a"')
  writer = MetricsWriter(tmp_path, 3)
  writer.write(4, {"a": 7.0, "b": 8})
  writer.close()
  records = read_metrics(tmp_path / "metrics.jsonl")
  assert [(r["step"], r["a"]) for r in records] == [(1, 0.1), (2, 0.1), (3, 0.1), (4, 7)]
  events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
  assert [(e.step, e.value) for e in events.Scalars("b")] == [(1, 1), (2, 2), (3, 3), (4, 8)]
