"""The loggers of a run: what they get, that a resume continues there, and that they never end a run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from saip_jax.run_folder.folder import read_config
from saip_jax.run_folder.workdir import RunFolder
from saip_jax.training.checkpoint import CheckpointError, Checkpoints
from saip_jax.training.loggers import check_loggers, make_loggers
from saip_jax.training.metrics import MetricsWriter, read_metrics
from saip_jax.training.telemetry import NonFiniteLoss
from tests.support.processes import TOY, run
from tests.support.toy_method import toy_config, train_toy
from tests.support.toy_wandb import Server
from tests.support.wandb_files import read_offline_runs

WANDB = "loggers=wandb"


@pytest.fixture
def server(monkeypatch):
  """A W&B server, and no other W&B."""
  for name in [name for name in os.environ if name.startswith("WANDB_")]:
    monkeypatch.delenv(name)
  server = Server()
  monkeypatch.setitem(sys.modules, "wandb", server.package())
  return server


@pytest.fixture
def offline(monkeypatch):
  """The package itself, without a network."""
  pytest.importorskip("wandb", reason='needs pip install "saip-jax[wandb]"')
  for name in [name for name in os.environ if name.startswith("WANDB_")]:  # WANDB_SERVICE: that of this process
    monkeypatch.delenv(name)
  monkeypatch.setenv("WANDB_MODE", "offline")


def assert_history_is_that_of_the_run(rows: dict[int, dict], workdir):
  """Each record of metrics.jsonl is a row, to the bit, and there are no others."""
  records = read_metrics(workdir / "metrics.jsonl")
  assert sorted(rows) == sorted({record["step"] for record in records})
  for record in records:
    assert record.items() <= (rows[record["step"]] | {"step": record["step"]}).items(), record["step"]


def offline_rows(workdir) -> dict[int, dict]:
  """Returns the rows of all starts; none may come twice."""
  rows = [row for start in read_offline_runs(workdir) for row in start["history"]]
  steps = [row["_step"] for row in rows]
  assert len(set(steps)) == len(steps), steps
  return {row["_step"]: row for row in rows}


def test_offline_files_hold_the_run(offline, tmp_path, capsys):
  train_toy(tmp_path, WANDB, "panel_every=3", "monitor_every=0")
  (stored,) = read_offline_runs(tmp_path)
  assert stored["id"] == json.loads((tmp_path / "wandb.json").read_text())["id"]
  assert stored["project"] == "saip_jax" and stored["exit_status"] == 0
  config = {name: value for name, value in stored["config"].items() if name != "_wandb"}
  assert config == read_config(tmp_path)
  assert_history_is_that_of_the_run({row["_step"]: row for row in stored["history"]}, tmp_path)
  panels = {row["_step"]: row["panels/views/path"] for row in stored["history"] if "panels/views/path" in row}
  assert sorted(panels) == [3, 6]
  (folder,) = tmp_path.glob("wandb/offline-run-*")
  for step, path in panels.items():
    assert (folder / "files" / path).read_bytes() == (tmp_path / "panels" / f"{step:06d}_views.png").read_bytes()
  last = read_metrics(tmp_path / "metrics.jsonl")[-1]
  assert stored["summary"]["loss/total"] == last["loss/total"]
  summary = {"step": 6, "finished": True, "checkpoint": f"{tmp_path}/checkpoints/6", "damaged_images": 0}
  assert summary.items() <= stored["summary"].items()
  assert f"wandb    offline in {tmp_path}/wandb, `wandb sync`" in capsys.readouterr().out


def test_a_resume_continues_the_offline_run(offline, tmp_path):
  """From an earlier step, on another machine, and after a failure: one id, each update once."""
  with pytest.raises(NonFiniteLoss):
    train_toy(tmp_path / "a", WANDB, "total_steps=8", black_step=4)  # updates 1 to 4 are recorded, that of 3 is saved
  shutil.move(tmp_path / "a", tmp_path / "b")
  train_toy(tmp_path / "b", WANDB, "total_steps=8")
  first, second = read_offline_runs(tmp_path / "b")
  assert first["id"] == second["id"] and (first["exit_status"], second["exit_status"]) == (1, 0)
  assert [row["_step"] for row in first["history"]] == [1, 2, 3, 4]
  rows, records = offline_rows(tmp_path / "b"), read_metrics(tmp_path / "b" / "metrics.jsonl")
  assert sorted(rows) == [record["step"] for record in records] == list(range(1, 9))
  for record in records:  # update 4 was done twice, with the same bits; only its times differ
    same = [name for name in record if name.startswith(("loss/", "optim/", "monitor/"))]
    assert same and all(rows[record["step"]][name] == record[name] for name in same)


@pytest.mark.slow
def test_kill_leaves_no_gap_and_nothing_twice(offline, tmp_path):
  command = [
    *TOY,
    f"--workdir={tmp_path}",
    "--config.loggers=wandb",
    "--config.total_steps=40",
    "--config.panel_every=5",
  ]
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  deadline = time.time() + 100
  while process.poll() is None and time.time() < deadline:
    if (tmp_path / "metrics.jsonl").exists() and len(read_metrics(tmp_path / "metrics.jsonl")) >= 20:
      break
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL
  subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
  (left,) = read_offline_runs(tmp_path)
  assert_history_is_that_of_the_run(offline_rows(tmp_path), tmp_path)
  assert sorted(offline_rows(tmp_path)) == list(range(1, 41)) and left["exit_status"] == 0
  panels = [row["_step"] for row in left["history"] if "panels/views/path" in row]
  assert panels == [5, 10, 15, 20, 25, 30, 35, 40]
  assert len(list(tmp_path.glob("wandb/killed-offline-run-*"))) == 1


@pytest.mark.distributed
@pytest.mark.slow
def test_only_the_first_host_logs(offline, tmp_path):
  run([*TOY, f"--workdir={tmp_path}", "--config.loggers=wandb"], 2)
  assert len(read_offline_runs(tmp_path)) == 1
  assert sorted(offline_rows(tmp_path)) == list(range(1, 7))


def test_the_training_is_the_same_without(offline, tmp_path):
  states = [train_toy(tmp_path / name, *settings) for name, settings in (("with", [WANDB]), ("without", []))]
  assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), *states))


def test_the_server_gets_each_update_once(server, tmp_path, capsys):
  with pytest.raises(NonFiniteLoss):
    train_toy(tmp_path, WANDB, black_step=5)
  (id,) = server.runs
  assert f"wandb    https://wandb/saip_jax/{id}\n" in capsys.readouterr().out
  stored = server.runs[id]
  assert sorted(stored["history"]) == [1, 2, 3, 4, 5] and stored["exit_code"] == 1
  train_toy(tmp_path, WANDB, "total_steps=8", "panel_every=4")
  assert list(server.runs) == [id] and not server.ignored
  assert sorted(stored["history"]) == list(range(1, 9)) and stored["exit_code"] == 0
  assert stored["config"]["total_steps"] == 8 and stored["summary"]["finished"]
  assert stored["history"][8]["panels/views"] == f"image {tmp_path}/panels/000008_views.png"
  assert stored["options"]["resume"] == "allow" and stored["options"]["name"] == tmp_path.name


def test_the_server_gets_what_it_missed(server, tmp_path, capsys):
  """A logger chosen late, and one that failed: its history is filled up when the run is started again."""
  train_toy(tmp_path, "total_steps=3")
  train_toy(tmp_path, WANDB, "total_steps=6")
  (stored,) = server.runs.values()
  assert_history_is_that_of_the_run(stored["history"], tmp_path)
  server.fails = "log"
  train_toy(tmp_path, WANDB, "total_steps=9")
  assert sorted(stored["history"]) == list(range(1, 7))
  server.fails = None
  train_toy(tmp_path, WANDB, "total_steps=12")
  assert_history_is_that_of_the_run(stored["history"], tmp_path)
  assert sorted(stored["history"]) == list(range(1, 13)) and len(server.runs) == 1


def test_a_run_stays_in_its_project(server, tmp_path, monkeypatch):
  monkeypatch.setenv("WANDB_PROJECT", "mine")
  train_toy(tmp_path, WANDB, "total_steps=3")
  monkeypatch.setenv("WANDB_PROJECT", "another")
  train_toy(tmp_path, WANDB, "total_steps=6")
  (id,) = server.runs
  assert json.loads((tmp_path / "wandb.json").read_text()) == {
    "id": id,
    "project": "mine",
    "entity": "me",
    "next_step": 7,
  }


def test_records_of_one_update_are_one_row(server, tmp_path):
  writer = MetricsWriter(tmp_path, 0, [_logger(tmp_path)])
  writer.write(0, {"monitor/reid": 0.25})
  writer.write(1, {"loss/total": 2.0})
  (stored,) = server.runs.values()
  assert sorted(stored["history"]) == [0]  # more of update 1 may come
  writer.write(1, {"monitor/reid": 0.5})
  writer.flush()
  assert {name: stored["history"][1][name] for name in ("loss/total", "monitor/reid")} == {
    "loss/total": 2.0,
    "monitor/reid": 0.5,
  }
  writer.close()


def _logger(workdir):
  (logger,) = make_loggers(toy_config(WANDB), RunFolder(workdir))
  return logger


@pytest.mark.parametrize("call", ["init", "log", "summary", "finish"])
def test_a_failure_ends_no_run(server, tmp_path, capsys, call):
  server.fails = call
  assert train_toy(tmp_path, WANDB, "panel_every=2").step == 6
  assert len(read_metrics(tmp_path / "metrics.jsonl")) == 6
  error = capsys.readouterr().err
  assert error.startswith("warning: Weights & Biases failed, ") and error.count("\n") == 1, error
  assert f"no connection for {call}" in error


def test_a_failure_replaces_no_error(server, tmp_path, monkeypatch, capsys):
  server.fails = "finish"
  with pytest.raises(NonFiniteLoss):
    train_toy(tmp_path / "black", WANDB, black_step=4)
  assert "Weights & Biases failed, closing" in capsys.readouterr().err

  def fail(*_, **__):
    raise CheckpointError("no space")

  monkeypatch.setattr(Checkpoints, "save", fail)
  with pytest.raises(CheckpointError, match="no space"):
    train_toy(tmp_path / "full", WANDB)


def test_a_damaged_id_starts_no_other_run(server, tmp_path, capsys):
  train_toy(tmp_path, WANDB, "total_steps=3")
  (tmp_path / "wandb.json").write_text("{")
  assert train_toy(tmp_path, WANDB).step == 6
  assert len(server.runs) == 1 and "Weights & Biases failed, starting: " in capsys.readouterr().err


def test_the_loggers_are_no_part_of_the_fingerprint(server, tmp_path):
  train_toy(tmp_path, "total_steps=3")
  fingerprint = json.loads((tmp_path / "checkpoints" / "3" / "fingerprint" / "metadata").read_text())
  assert not any("loggers" in name for name in fingerprint)
  assert train_toy(tmp_path, WANDB).step == 6


def test_a_missing_package_is_one_line_before_anything_is_made(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  monkeypatch.chdir(tmp_path)
  for look in (lambda: train_toy(tmp_path / "run", WANDB), lambda: check_loggers(("wandb",))):
    with pytest.raises(ValueError, match=r'config.loggers names .wandb., .* pip install "saip-jax\[wandb\]"'):
      look()
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  "value, words",
  [
    ("wandbb", r"config.loggers\[0\] is 'wandbb', did you mean 'wandb'\?"),
    ("('wandb', 'wandb')", "config.loggers is .* each logger once"),
    ("3", "config.loggers is 3, a int"),
  ],
)
def test_wrong_names_are_one_line(value, words):
  with pytest.raises(ValueError, match=words):
    toy_config(f"loggers={value}")


def test_values_are_those_of_the_record(server, tmp_path):
  writer = MetricsWriter(tmp_path, 0, [_logger(tmp_path)])
  writer.write(1, {"loss/total": np.float32(0.1)})
  writer.close()
  (stored,) = server.runs.values()
  assert stored["history"][1]["loss/total"] == read_metrics(tmp_path / "metrics.jsonl")[0]["loss/total"] == 0.1
