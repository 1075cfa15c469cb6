"""Several processes train as one does, and tell what is wrong when they cannot."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import threading

import jax
import pytest

from saip_jax import cli
from saip_jax.run_folder.folder import claim_workdir
from saip_jax.training import distributed
from saip_jax.training.metrics import read_metrics
from saip_jax.training.watchdog import EXIT_STATUS
from tests.support.processes import TINY_SAIP, TOY, assert_same_run, finished, run, started
from tests.support.toy_method import train_toy


@pytest.mark.distributed
def test_two_processes_save_one_resumes(tmp_path):
  together = tmp_path / "together"
  first, second = run([*TOY, f"--workdir={together}", "--config.panel_every=2"], 2)
  assert "mesh {'data': 8}, 2 host(s)" in first and "finished step 6" in first
  assert "finished" not in second and "step" not in second  # one of them talks
  train_toy(tmp_path / "alone", "panel_every=2", devices=8)
  assert_same_run(together, tmp_path / "alone")
  assert sorted(p.name for p in (together / "panels").iterdir()) == sorted(
    p.name for p in (tmp_path / "alone" / "panels").iterdir()
  )

  for path in (together, tmp_path / "alone"):  # the first save after a restore is that of step 9
    train_toy(path, "total_steps=10", devices=8)
    assert sorted(int(p.name) for p in (path / "checkpoints").iterdir()) == [6, 9, 10]
  assert_same_run(together, tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.distributed
def test_saip_in_two_processes_is_saip_in_one(tmp_path):
  """All three objectives; saved by two processes, gone on with by one, against one process of the same devices."""
  together, alone = tmp_path / "together", tmp_path / "alone"
  # AdamW makes steps of the rounding in gradients that are zero, those of keys' biases. The rate is constant.
  rule = ["--config.optimizer.name=sgd", "--config.optimizer.min_learning_rate=5e-4"]
  for path, steps, count in ((together, 3, 2), (together, 5, 1), (alone, 5, 1)):
    run([*TINY_SAIP, f"--workdir={path}", f"--config.total_steps={steps}", *rule], count, timeout=600)
  assert_same_run(together, alone, atol=2e-6)
  losses = {name for name in read_metrics(alone / "metrics.jsonl")[0] if name.startswith("loss/")}
  assert losses == {f"loss/{name}" for name in ("csm_rep", "csm_att", "csr", "css_inst", "css_roi", "total")}


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_save_four_resume_and_save_and_one_goes_on(tmp_path):
  settings = ["--config.optimizer.warmup_fraction=0", "--config.optimizer.min_learning_rate=0.01"]
  together = tmp_path / "together"
  for count, total in ((2, 4), (4, 8), (2, 10)):
    run([*TOY, f"--workdir={together}", f"--config.total_steps={total}", *settings], count)
  settings = [s.removeprefix("--config.") for s in settings]
  train_toy(together, "total_steps=12", *settings, devices=8)
  train_toy(tmp_path / "alone", "total_steps=12", *settings, devices=8)
  assert_same_run(together, tmp_path / "alone")


@pytest.mark.distributed
def test_a_non_finite_loss_stops_all_hosts_and_no_checkpoint_is_touched(tmp_path):
  with started([*TOY, f"--workdir={tmp_path / 'run'}", "--black-step=3"], 2) as processes:
    results = finished(processes)
  for host, (status, _, errors) in enumerate(results):
    assert status not in (0, None) and "non-finite loss at step 4" in errors, errors
    assert f"last good checkpoint: {tmp_path}/run/checkpoints/3" in errors
    report = json.loads((tmp_path / "run" / f"nonfinite_step_4_host_{host}.json").read_text())
    assert len(report["indices"]) == 4  # its own rows
  assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["3"]


def test_alone_nothing_is_waited_for(monkeypatch):
  """Neither on a laptop nor in a notebook or a job of one task; in a process of its own, as JAX is in use here."""
  surroundings = [
    {},
    {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
    {"TPU_PROCESS_ADDRESSES": "local"},
    {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "a", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
    {"JAX_NUM_PROCESSES": "1", "JAX_COORDINATOR_ADDRESS": "nowhere:1"},
  ]
  code = (
    "import os; from saip_jax.training.distributed import *\n"
    f"for method_state in {surroundings}:\n"
    "  os.environ |= method_state; initialize(); [os.environ.pop(name) for name in method_state]\n"
    "with first_host_first(): barrier('x')\n"
    "assert not jax.distributed.is_initialized() and not stop_agreed(1) and jax.process_count() == 1"
  )
  subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=os.environ | {"PYTHONPATH": os.getcwd()})


def test_one_of_a_kubernetes_job_never_trains_alone(monkeypatch):
  monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
  monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
  monkeypatch.setattr(jax.distributed, "initialize", _incomplete)
  with pytest.raises(ValueError, match="cannot find the others: `pip install kubernetes`"):
    distributed.initialize()


@pytest.mark.parametrize(
  "given, words",
  [
    (("here:1", None, 0), "cannot join the other processes"),
    (("here", 2, 0), "--coordinator is 'here': expected HOST:PORT"),
    (("here:80", 2, 2), "--process is 2: it must lie in 0 to 1"),
    (("127.0.0.1:1", 2, 1), "process 1 of 2 .* --coordinator=127.0.0.1:1 in 1 s"),
  ],
)
def test_wrong_addresses_are_one_line(monkeypatch, given, words):
  monkeypatch.setattr(jax.distributed, "initialize", _incomplete)
  with pytest.raises(ValueError, match=words) as caught:
    distributed.initialize(*given, timeout_s=1)
  assert "\n" not in str(caught.value)
  monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
  with pytest.raises(ValueError, match="JAX_NUM_PROCESSES is 'two'"):
    distributed.initialize()


def test_the_command_reports_it_too(tmp_path, capsys):
  recipe = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'saip_demo.py'}"
  flags = ["--coordinator=here", "--processes=2", "--process=1"]
  assert cli.main(["pretrain", recipe, f"--workdir={tmp_path / 'run'}", *flags]) == 2
  error = capsys.readouterr().err
  assert error.startswith("saip pretrain: error: --coordinator is 'here': expected HOST:PORT, as in 10.0.0.1:8476")
  assert error.count("\n") == 1
  assert not (tmp_path / "run").exists()


def test_a_workdir_must_be_shared(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  with pytest.raises(ValueError, match="--workdir=.*run is not shared: process 1"):
    claim_workdir(tmp_path / "run", {})


def _incomplete(*_, **__):
  raise ValueError("Number of processes must be defined.")


@pytest.mark.distributed
def test_who_stays_away_is_waited_for_only_so_long():
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
  code = f"from saip_jax.training.distributed import *; initialize('127.0.0.1:{port}', 2, 0, timeout_s=2)"
  done = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    timeout=60,
    env=os.environ | {"PYTHONPATH": os.getcwd()},
  )
  assert done.returncode == EXIT_STATUS
  assert "meeting all of 2 processes takes more than 0.0333333 minutes" in done.stderr
  assert "its own --process" in done.stderr and "in initialize" in done.stderr  # advice, and where it stood


def test_a_coordinator_that_comes_late_is_found():
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    threading.Timer(0.7, s.listen).start()
    distributed._find_coordinator(f"127.0.0.1:{s.getsockname()[1]}", 2, 1, timeout_s=20)
