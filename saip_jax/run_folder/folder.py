"""The folder of a run: claiming it, its config, its starts, its damaged images."""

import json
import os
import pathlib
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from input_pipeline.names import shown, shown_error
from input_pipeline.storage import as_place, utf8_path, writing
from saip_jax.run_folder.bucket import BucketFolder
from saip_jax.run_folder.files import CONFIG, DAMAGED, STARTS
from saip_jax.run_folder.integrity import read_object
from saip_jax.run_folder.older import current_names
from saip_jax.run_folder.workdir import RunFolder, refuse_other_files


def claim_workdir(workdir, config: Mapping[str, Any]) -> RunFolder:
  """Makes the folder of a run and marks it with its config.json, or checks that it is such a folder.

  With several processes the first must have done so before the others. A folder in a bucket is claimed by its `begin`.

  Args:
    workdir: a local path or a URL.
    config: the config of the run, JSON-able.

  Raises:
    ValueError: the folder holds something else, or is a file, or is not the one that the first process made, or cannot
      be written.
  """
  place = as_place(workdir, "--workdir", writable=True)
  if isinstance(place, str):
    return BucketFolder(place)
  workdir = utf8_path(place, "--workdir")
  if jax.process_index() and not (workdir / CONFIG).exists():
    raise ValueError(
      f"--workdir={workdir} is not shared: process {jax.process_index()} does not see the files that process 0"
      " wrote there; choose a folder that all hosts mount"
    )
  refuse_other_content(workdir)
  with writing(workdir, "--workdir=", "choose a folder that can be written"):
    workdir.mkdir(parents=True, exist_ok=True)
    if not (workdir / CONFIG).exists():
      write_config(workdir, config)
  return RunFolder(workdir)


def refuse_other_content(workdir: pathlib.Path) -> None:
  """Raises ValueError if a path is a file, or a folder that holds something else than a run."""
  if workdir.exists() and not workdir.is_dir():
    raise ValueError(f"--workdir={workdir} is a file: choose a folder for the run")
  with writing(workdir, "--workdir=", "choose a folder that can be written"):
    names = {path.name for path in workdir.iterdir()} if workdir.exists() else set()
  refuse_other_files(workdir, names, left={f"{CONFIG}.partial"})


def write_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Writes W/config.json, whole or not at all."""
  partial = workdir / f"{CONFIG}.partial"
  partial.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
  os.replace(partial, workdir / CONFIG)


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns the config that `write_config` wrote; raises ValueError, which names the file, if it is damaged."""
  path = pathlib.Path(workdir) / CONFIG
  try:
    return current_names(read_object(path))
  except (OSError, ValueError) as e:
    raise ValueError(
      f"{path} cannot be read: {shown_error(e)}; copy it again, or start the run again with its recipe, "
      "which writes it anew"
    ) from e


def record_start(workdir: pathlib.Path, step: int, devices: str, mesh_shape: Mapping[str, int]) -> None:
  """Adds a line to W/starts.jsonl; the speed of a run has no meaning without its devices.

  Args:
    workdir: the run's folder.
    step: updates done before this start.
    devices: their number and kind, as "8 x TPU v5 lite".
    mesh_shape: axis -> devices along it.
  """
  start = {
    "step": step,
    "time": time.time(),
    "devices": devices,
    "mesh": dict(mesh_shape),
    "hosts": jax.process_count(),
    "jax": jax.__version__,
  }
  with (workdir / STARTS).open("a", encoding="utf-8") as file:
    file.write(json.dumps(start) + "\n")


def record_damage(workdir: pathlib.Path, damaged: Iterable[str]) -> list[str]:
  """Adds the damaged images of this start to the run's list of this host, and returns the list; no file if empty."""
  host = jax.process_index()
  path = workdir / (DAMAGED.replace(".", f"_{host}.") if host else DAMAGED)
  lines = [shown(line) for line in damaged]
  try:
    known = path.read_text("utf-8", "backslashreplace").splitlines() if path.exists() else []
    lines = list(dict.fromkeys(known + lines))
    if lines:
      path.write_text("\n".join(lines) + "\n", "utf-8")
  except OSError as e:  # the summary of the run lists them too
    print(f"warning: {path} cannot be written ({e.strerror})", file=sys.stderr, flush=True)
  return lines
