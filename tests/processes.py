"""Several processes on this machine, each with its share of eight virtual devices."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys

TOY = [sys.executable, str(pathlib.Path(__file__).parent / "toy_method.py")]
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
      subprocess.Popen(command, env=os.environ | together | {"JAX_PROCESS_ID": str(i)}, text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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


def run(command, count: int) -> list[str]:
  """Runs a command in `count` processes to its end; returns their outputs, raises if one failed."""
  with started(command, count) as processes:
    results = finished(processes)
  for status, output, errors in results:
    assert status == 0, f"{output}\n{errors}"
  return [output for _, output, _ in results]
