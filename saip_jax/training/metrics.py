"""What a run measured: one JSON object per line for programs, TensorBoard events for people."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def read_metrics(path) -> list[dict[str, Any]]:
  """Returns the records of a metrics.jsonl; lines that are none, as one torn by a crash, are left out."""
  records = []
  for line in pathlib.Path(path).read_text("utf-8", "replace").splitlines():
    try:
      record = json.loads(line)
    except json.JSONDecodeError:
      continue
    if isinstance(record, dict) and isinstance(record.get("step"), int):
      records.append(record)
  return records


class MetricsWriter:
  """Appends records to W/metrics.jsonl and W/tensorboard; the files read as if the run had never stopped.

  A run that resumes at step k writes the records after k again, so those that a crash left there go first; one that
  starts anew may write some of step 0.
  """

  def __init__(self, workdir, start_step: int):
    """Opens the files of a run that continues after update `start_step` (0: a new run)."""
    from tensorboardX import SummaryWriter  # slow to import, and only one host of many writes

    workdir = pathlib.Path(workdir)
    path = workdir / "metrics.jsonl"
    first_step = start_step + 1 if start_step else 0
    if path.exists():
      kept = [record for record in read_metrics(path) if record["step"] < first_step]
      partial = path.with_name("metrics.jsonl.partial")
      partial.write_text("".join(json.dumps(record) + "\n" for record in kept), "utf-8")
      os.replace(partial, path)
    self._file = path.open("a", encoding="utf-8")
    # named by the step too: two files that start in the same second would be one
    self._events = SummaryWriter(
      str(workdir / "tensorboard"), purge_step=first_step, filename_suffix=f".from{start_step}"
    )

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Records scalars after update `step`; the line is on its way to the disk when this returns."""
    # str() of a float32 is the shortest text that gives it back, and pretends to no more digits
    values = {name: float(str(np.float32(value))) for name, value in metrics.items()}
    self._file.write(json.dumps({"step": step} | values) + "\n")
    self._file.flush()
    for name, value in values.items():
      self._events.add_scalar(name, value, step)

  def flush(self) -> None:
    """Returns once the events are on disk too; to be called before a checkpoint makes their steps final."""
    self._events.flush()

  def close(self) -> None:
    self._file.close()
    self._events.close()
