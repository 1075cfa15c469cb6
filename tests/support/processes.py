"""Several processes on this machine, each with its share of eight virtual devices."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np

from saip_jax.training.metrics import read_metrics
from tests.support.kill_and_resume import final_state

TOY, TINY_SAIP = (
  [sys.executable, str(pathlib.Path(__file__).parent / f"{name}.py")] for name in ("toy_method", "tiny_saip")
)
DEVICES = 8


@contextlib.contextmanager
def started(command, count: int):
  """Starts a command in `count` processes that know of each other, and kills what is left of them in the end."""
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
  together = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)} if count > 1 else {}
  together |= {"JAX_NUM_CPU_DEVICES": str(DEVICES // count)}
  processes = [
    subprocess.Popen(
      command,
      env=os.environ | together | ({"JAX_PROCESS_ID": str(i)} if count > 1 else {}),
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
    )
    for i in range(count)
  ]
  try:
    yield processes
  finally:
    for process in processes:  # SIGTERM would only ask them to stop at a step
      process.kill()
      process.wait()


def finished(processes, timeout=120) -> list[tuple[int, str, str]]:
  """Waits for all; returns their exit statuses, outputs and errors."""
  results = []
  for process in processes:
    output, errors = process.communicate(timeout=timeout)
    results.append((process.returncode, output, errors))
  return results


def run(command, count: int, timeout=120) -> list[str]:
  """Runs a command in `count` processes to its end; returns their outputs, raises if one failed."""
  with started(command, count) as processes:
    results = finished(processes, timeout)
  for status, output, errors in results:
    assert status == 0, f"{output}\n{errors}"
  return [output for _, output, _ in results]


def assert_same_run(a, b, atol=1e-6):
  """The same images in every step, and the same losses and weights up to the order of sums."""
  records = [read_metrics(path / "metrics.jsonl") for path in (a, b)]
  for name in [name for name in records[0][0] if name.startswith(("loss/", "optim/", "monitor/"))]:
    np.testing.assert_allclose(*([r[name] for r in rows] for rows in records), rtol=1e-5, atol=atol, err_msg=name)
  states = final_state(a), final_state(b)
  assert states[0].keys() == states[1].keys()
  for name, array in states[0].items():
    np.testing.assert_allclose(array, states[1][name], rtol=1e-4, atol=atol, err_msg=name)
