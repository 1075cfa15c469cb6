"""Runs in buckets over the real protocols: Google Cloud Storage, which Orbax writes itself, and S3."""

import os
import pickle
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

from tests.support.bucket_servers import (
  GCS_BUCKET,
  S3_BUCKET,
  Network,
  clean_environment,
  free_port,
  gcs_server,
  gcs_variables,
  s3_server,
  s3_variables,
)
from tests.support.kill_and_resume import final_state
from tests.support.processes import TOY, finished, started
from tests.support.toy_method import train_toy

pytest.importorskip("gcsfs")
pytest.importorskip("s3fs")
pytest.importorskip("gcp_storage_emulator")
pytest.importorskip("moto")
pytestmark = [pytest.mark.slow, pytest.mark.distributed]

KINDS = {"gs": (gcs_server, gcs_variables, GCS_BUCKET), "s3": (s3_server, s3_variables, S3_BUCKET)}


@pytest.fixture(scope="module", params=list(KINDS))
def server(request):
  """(port, variables of a port, URL of the bucket) of a running server."""
  serve, variables, bucket = KINDS[request.param]
  with serve() as port:
    yield port, variables, f"{request.param}://{bucket}"


@pytest.fixture
def gcs():
  with gcs_server() as port:
    yield port


def environment(variables, disk) -> dict[str, str]:
  """Returns the environment of a machine with a disk of its own."""
  return clean_environment() | variables | {"SAIP_CACHE": str(disk), "JAX_NUM_CPU_DEVICES": "1"}


def read(url, variables) -> tuple[list[int], list[int], dict[str, np.ndarray]]:
  """Returns (recorded steps, committed checkpoints, arrays of the newest) of a run, as another process sees it."""
  code = (
    "import json, pickle, sys; from saip_jax.run_folder import remote; from input_pipeline import buckets;"
    "from saip_jax.training.metrics import read_metrics; from tests.support.kill_and_resume import final_state;"
    "url = sys.argv[1]; copy = remote.local(url);"
    "steps = [record['step'] for record in read_metrics(copy / 'metrics.jsonl')];"
    "result = steps, remote.committed_steps(buckets.versions(url)), final_state(copy);"
    "pickle.dump(result, open(sys.argv[2], 'wb'))"
  )
  with tempfile.NamedTemporaryFile() as file:
    subprocess.run(
      [sys.executable, "-c", code, url, file.name],
      env=clean_environment() | variables | {"PYTHONPATH": os.pathsep.join(sys.path)},
      check=True,
      capture_output=True,
    )
    return pickle.load(file)


def assert_whole(url, variables, local, steps: int) -> None:
  """Every step is recorded once, and the state is that of the same run on disk, in bits."""
  recorded, committed, state = read(url, variables)
  assert recorded == list(range(1, steps + 1)) and committed[0] == steps
  train_toy(local, f"total_steps={steps}")
  expected = final_state(local)
  assert state.keys() == expected.keys()
  for name, array in expected.items():
    np.testing.assert_array_equal(array, state[name], err_msg=name)


def wait_for_checkpoint(url, variables, process, timeout_s: float = 120) -> None:
  """Returns when the bucket has a committed checkpoint, while the run goes on."""
  code = (
    "import sys, time; from saip_jax.run_folder import remote; from input_pipeline import buckets\n"
    "while not remote.committed_steps(buckets.versions(sys.argv[1])): time.sleep(0.1)"
  )
  env = clean_environment() | variables | {"PYTHONPATH": os.pathsep.join(sys.path)}
  subprocess.run([sys.executable, "-c", code, url], env=env, check=True, timeout=timeout_s)
  assert process.poll() is None, process.communicate()


def test_a_killed_run_goes_on_from_an_empty_disk(server, tmp_path):
  port, variables, bucket = server
  url = f"{bucket}/killed"
  command = [*TOY, f"--workdir={url}", "--config.total_steps=60", "--config.checkpoint_every=5", "--seconds=0.2"]
  env = environment(variables(port), tmp_path / "first")
  process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  try:
    wait_for_checkpoint(url, variables(port), process)
  finally:
    process.kill()
    process.wait()
  env = environment(variables(port), tmp_path / "second")
  done = subprocess.run([*command, "--seconds=0"], env=env, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert "resuming at step" in done.stdout and f"held {url}; if it still runs, it stops" in done.stdout
  assert_whole(url, variables(port), tmp_path / "local", 60)


def test_two_processes_share_a_run(gcs, tmp_path, monkeypatch):
  url = f"gs://{GCS_BUCKET}/shared"
  for name, value in (gcs_variables(gcs) | {"SAIP_CACHE": str(tmp_path / "disk")}).items():
    monkeypatch.setenv(name, value)
  with started([*TOY, f"--workdir={url}", "--config.panel_every=2"], 2) as processes:
    (status, output, errors), (other_status, other_output, other_errors) = finished(processes)
  assert status == 0 == other_status, f"{errors}\n{other_errors}"
  assert "2 host(s)" in output and "finished step 6" in output and "finished" not in other_output
  recorded, committed, state = read(url, gcs_variables(gcs))
  assert recorded == [1, 2, 3, 4, 5, 6] and committed == [6, 3]
  train_toy(tmp_path / "local", "panel_every=2", devices=8)
  for name, array in final_state(tmp_path / "local").items():
    np.testing.assert_allclose(array, state[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_network_that_drops_for_ten_seconds_is_survived(server, tmp_path):
  """At a save of a run that saves after every second update."""
  port, variables, bucket = server
  url, network = f"{bucket}/dropped", Network(port)
  command = [*TOY, f"--workdir={url}", "--config.total_steps=40", "--config.checkpoint_every=2", "--seconds=0.2"]
  env = environment(variables(network.port), tmp_path / "disk")
  process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  try:
    wait_for_checkpoint(url, variables(port), process)
    network.cut()
    time.sleep(10)
    network.mend()
    _, errors = process.communicate(timeout=240)
  finally:
    process.kill()
    network.close()
  assert process.returncode == 0, errors
  assert_whole(url, variables(port), tmp_path / "local", 40)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_bucket_that_cannot_be_reached_is_one_line_within_a_minute(kind, tmp_path):
  _, variables, bucket = KINDS[kind]
  url = f"{kind}://{bucket}/w"
  command = [sys.executable, "-m", "saip_jax", "pretrain", "--config=mae_demo", f"--workdir={url}"]
  env = environment(variables(free_port()), tmp_path) | {"PYTHONPATH": os.pathsep.join(sys.path)}
  before = time.monotonic()
  done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
  lines = [line for line in done.stderr.splitlines() if "error:" in line]
  assert done.returncode == 2 and len(lines) == 1, done.stderr
  assert f"--workdir={url} cannot be written" in lines[0] and "see that the bucket exists" in lines[0]
  assert time.monotonic() - before < 60 + 30  # with the start of the program


def test_a_bucket_that_does_not_exist_is_one_line(server, tmp_path):
  port, variables, bucket = server
  url = f"{bucket}-of-another/w"
  command = [*TOY, f"--workdir={url}"]
  done = subprocess.run(
    command, env=environment(variables(port), tmp_path), capture_output=True, text=True, timeout=180
  )
  assert done.returncode and f"ValueError: --workdir={url} cannot be written" in done.stderr.replace(
    "input_pipeline.storage.Unwritable", "ValueError"
  ), done.stderr
