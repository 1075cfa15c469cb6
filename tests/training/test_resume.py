"""A run that was stopped, gently or not, ends in the same bits as one that was not."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from saip_jax.training.metrics import read_metrics
from tests.support.kill_and_resume import differing, final_state, run, run_with_kills
from tests.support.toy_method import train_toy

_TOY = [sys.executable, str(pathlib.Path(__file__).resolve().parents[1] / "support" / "toy_method.py")]
_SETTINGS = ["--config.total_steps=20", "--config.checkpoint_every=5", "--config.accumulate=2"]


@pytest.mark.slow
def test_kill_9_five_times(tmp_path):
  command = _TOY + _SETTINGS
  killed_at = run_with_kills(command, tmp_path / "killed", total_steps=20, kills=5, seed=0)
  assert len(killed_at) == 5 and max(killed_at) > 0, killed_at
  run(command, tmp_path / "whole")
  names = final_state(tmp_path / "whole").keys()
  for part in ("params/", "extra/teacher/", "extra/center", "opt_state/", "step"):
    assert any(name.startswith(part) for name in names), names
  assert differing(tmp_path / "killed", tmp_path / "whole") == []

  without_times = lambda path: [
    {k: v for k, v in record.items() if not k.startswith("time/")} for record in read_metrics(path / "metrics.jsonl")
  ]
  assert without_times(tmp_path / "killed") == without_times(tmp_path / "whole")
  assert [record["step"] for record in without_times(tmp_path / "killed")] == list(range(1, 21))


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_stops_at_a_step_when_asked(tmp_path, asked):
  command = _TOY + ["--config.total_steps=200", "--config.checkpoint_every=200"]
  process = subprocess.Popen(
    [*command, f"--workdir={tmp_path / 'run'}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  metrics = tmp_path / "run" / "metrics.jsonl"
  while process.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") > 2):
    time.sleep(0.01)
  process.send_signal(asked)
  output, errors = process.communicate(timeout=60)
  assert process.returncode == 0 and "Traceback" not in errors, errors
  records = read_metrics(metrics)
  step = records[-1]["step"]
  assert 2 < step < 200
  assert f"stopped at step {step}; the same command goes on" in output and f"checkpoints/{step}" in output
  assert final_state(tmp_path / "run")["step"] == step


def test_three_and_three_steps_are_six(tmp_path):
  settings = ("accumulate=2", "optimizer.warmup_fraction=0", "optimizer.min_learning_rate=0.01")  # a constant rate
  train_toy(tmp_path / "parts", "total_steps=3", *settings)
  parts = train_toy(tmp_path / "parts", *settings)
  whole = train_toy(tmp_path / "whole", *settings)
  assert parts.step == whole.step == 6
  assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), parts, whole))


def test_a_run_continues_where_its_checkpoint_is(tmp_path):
  """Records and the torn line that a crash left after the checkpoint are written anew."""
  train_toy(tmp_path, "total_steps=3")
  metrics = tmp_path / "metrics.jsonl"
  with metrics.open("a") as file:
    file.write(json.dumps({"step": 4, "loss/total": 99.0}) + "\n" + '{"step": 5, "loss/to')
  train_toy(tmp_path)
  records = read_metrics(metrics)
  assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
  assert all(record["loss/total"] < 1 for record in records)


def test_device_counts_agree(tmp_path):
  states = {n: train_toy(tmp_path / str(n), devices=n) for n in (1, 2, 8)}
  losses = {n: [r["loss/total"] for r in read_metrics(tmp_path / str(n) / "metrics.jsonl")] for n in states}
  for n in (2, 8):
    np.testing.assert_allclose(losses[n], losses[1], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), states[n], states[1])
