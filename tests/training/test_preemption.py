"""A machine that is taken away, and a run that hangs."""

import json
import os
import signal
import subprocess
import threading
import time

import pytest

from saip_jax.training.goodput import Goodput
from saip_jax.training.metrics import read_metrics
from saip_jax.training.watchdog import EXIT_STATUS, Watchdog
from tests.support.processes import TOY, assert_same_run, finished, started
from tests.support.toy_method import train_toy

# The learning rate is constant: the steps do not depend on the length of the run.
_LONG = [
  "--config.total_steps=400",
  "--config.checkpoint_every=400",
  "--config.optimizer.warmup_fraction=0",
  "--config.optimizer.min_learning_rate=0.01",
]


def _wait_for_records(workdir, count, processes):
  path = workdir / "metrics.jsonl"
  while not (path.exists() and path.read_bytes().count(b"\n") >= count):
    assert all(process.poll() is None for process in processes), finished(processes)
    time.sleep(0.01)


@pytest.mark.distributed
@pytest.mark.parametrize("host, asked", [(1, signal.SIGTERM), pytest.param(0, signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_one_host_stops_all_at_one_step(tmp_path, host, asked):
  workdir = tmp_path / "run"
  with started([*TOY, f"--workdir={workdir}", *_LONG], 2) as processes:
    _wait_for_records(workdir, 5, processes)
    processes[host].send_signal(asked)
    results = finished(processes, timeout=60)
  assert [status for status, *_ in results] == [0, 0], results
  step = read_metrics(workdir / "metrics.jsonl")[-1]["step"]
  assert 5 <= step < 400 and f"stopped at step {step}; the same command goes on" in results[0][1]
  assert [p.name for p in (workdir / "checkpoints").iterdir()] == [str(step)]
  if host:  # continued by one process with as many devices, it equals the uninterrupted run
    more = [s.removeprefix("--config.") for s in (f"total_steps={step + 3}", *_LONG[1:])]
    for path in (workdir, tmp_path / "whole"):
      train_toy(path, *more, devices=8)
    assert_same_run(workdir, tmp_path / "whole")


def test_goodput_forgets_steps_done_again(tmp_path):
  goodput = Goodput(tmp_path, 0)
  goodput.add(2.0)
  goodput.save(3)
  goodput.add(5.0)
  began = json.loads((tmp_path / "goodput.json").read_text())["started"]
  (tmp_path / "goodput.json").write_text(json.dumps({"started": began - 100, "useful_s": {"3": 2.0, "6": 50.0}}))
  again = Goodput(tmp_path, 3)  # 6 was never whole
  assert again.share() == pytest.approx(0.02, rel=0.1)
  again.add(8.0)
  again.save(5)
  assert Goodput(tmp_path, 5).share() == pytest.approx(0.1, rel=0.1)
  assert set(json.loads((tmp_path / "goodput.json").read_text())["useful_s"]) == {"3", "5"}


def test_a_run_that_hangs_ends_with_the_stacks_of_all_threads(tmp_path):
  settings = ["--hang-step=4", "--config.watchdog_minutes=0.05"]
  done = subprocess.run([*TOY, f"--workdir={tmp_path / 'run'}", *settings], capture_output=True, text=True, timeout=120)
  assert done.returncode == EXIT_STATUS
  stacks = (tmp_path / "run" / "watchdog_0.txt").read_text()
  assert "a step takes more than 0.05 minutes" in done.stderr and "toy_method.py" in stacks and "in batches" in stacks
  assert stacks.strip() in done.stderr
  assert [r["step"] for r in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3]


def test_a_compilation_that_hangs_ends_too(tmp_path):
  settings = ["--hang-in-compilation", "--config.watchdog_startup_minutes=0.1"]
  done = subprocess.run([*TOY, f"--workdir={tmp_path / 'run'}", *settings], capture_output=True, text=True, timeout=120)
  assert done.returncode == EXIT_STATUS
  assert "compiling the step takes more than 0.1 minutes" in done.stderr and "watchdog_startup_minutes" in done.stderr
  assert "in loss" in (tmp_path / "run" / "watchdog_0.txt").read_text()


@pytest.mark.parametrize(
  "unreadable, words",
  [("fingerprint/metadata", "opening the checkpoints"), ("state/_METADATA", "restoring the state of step 6")],
)
def test_a_checkpoint_that_cannot_be_read_to_its_end_ends_too(tmp_path, unreadable, words):
  """As on a network disk whose server is gone: here a pipe without a writer."""
  train_toy(tmp_path / "run")
  path = tmp_path / "run" / "checkpoints" / "6" / unreadable
  path.unlink()
  os.mkfifo(path)
  settings = ["--config.total_steps=8", "--config.watchdog_startup_minutes=0.1"]
  done = subprocess.run([*TOY, f"--workdir={tmp_path / 'run'}", *settings], capture_output=True, text=True, timeout=120)
  assert done.returncode == EXIT_STATUS and f"{words} takes more than 0.1 minutes" in done.stderr
  assert "in open_state" in (tmp_path / "run" / "watchdog_0.txt").read_text()


def test_no_watchdog_without_minutes():
  before = threading.active_count()
  with Watchdog("a step", 0, "advice"):
    assert threading.active_count() == before
  with Watchdog("a step", 1, "advice") as watchdog:
    assert threading.active_count() == before + 1
    watchdog.restart()
  assert threading.active_count() == before
