"""The starts of a run: on what it ran, which its speed means nothing without."""

import json
import pathlib
import time

import jax

from saip_jax.training.mesh import device_kinds

STARTS = "starts.jsonl"


def record_start(workdir: pathlib.Path, step: int, mesh: jax.sharding.Mesh) -> None:
  """Adds a line to W/starts.jsonl.

  Args:
    workdir: the run's folder.
    step: updates done before this start.
    mesh: the devices.
  """
  start = {
    "step": step,
    "time": time.time(),
    "devices": device_kinds(mesh),
    "mesh": dict(mesh.shape),
    "hosts": jax.process_count(),
    "jax": jax.__version__,
  }
  with (workdir / STARTS).open("a", encoding="utf-8") as file:
    file.write(json.dumps(start) + "\n")
