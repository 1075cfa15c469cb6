"""The metrics of a run: one JSON object per line, TensorBoard events, and the loggers of the config."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saip_jax.run_folder.files import METRICS, TENSORBOARD
from saip_jax.training.loggers import Logger


def read_metrics(path) -> list[dict[str, Any]]:
  """Returns the records of a metrics.jsonl; lines that are no records, as one cut by a crash, are left out."""
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

  A run that resumes at step k writes the records after k again, so those that a crash left are deleted first; a new
  run may write records of step 0.

  Attributes:
    summary: lines on the loggers.
  """

  def __init__(self, workdir, start_step: int, loggers: Sequence[Logger] = ()):
    """Opens the files of a run that continues after update `start_step` (0: a new run), and starts the loggers."""
    from tensorboardX import SummaryWriter  # slow to import, and only one host of many writes

    workdir = pathlib.Path(workdir)
    path = workdir / METRICS
    first_step = start_step + 1 if start_step else 0
    earlier = []
    if path.exists():
      earlier = [record for record in read_metrics(path) if record["step"] < first_step]
      partial = path.with_name(f"{METRICS}.partial")
      partial.write_text("".join(json.dumps(record) + "\n" for record in earlier), "utf-8")
      os.replace(partial, path)
    self._file = path.open("a", encoding="utf-8")
    # named by the step too: two files that start in the same second would have one name
    self._events = SummaryWriter(
      str(workdir / TENSORBOARD), purge_step=first_step, filename_suffix=f".from{start_step}"
    )
    self._loggers = loggers
    self.summary = [line for line in [logger.start(earlier, start_step) for logger in loggers] if line]

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Records scalars after update `step`; the line is flushed when this returns."""
    # str() of a float32 is the shortest text that reads back as the same value
    values = {name: float(str(np.float32(value))) for name, value in metrics.items()}
    self._file.write(json.dumps({"step": step} | values) + "\n")
    self._file.flush()
    for name, value in values.items():
      self._events.add_scalar(name, value, step)
    for logger in self._loggers:
      logger.write(step, values)

  def write_panel(self, step: int, name: str, path: pathlib.Path) -> None:
    """Passes a panel, the path of a PNG, on to the loggers."""
    for logger in self._loggers:
      logger.write_panel(step, name, path)

  def flush(self) -> None:
    """Writes the events to disk too; to be called before a checkpoint makes their steps final."""
    self._events.flush()
    for logger in self._loggers:
      logger.flush()

  def finish(self, summary: Mapping[str, Any]) -> None:
    """Passes the summary of a run that ends without an error on to the loggers."""
    for logger in self._loggers:
      logger.finish(summary)

  def close(self) -> None:
    try:
      self._file.close()
      self._events.close()
    finally:
      for logger in self._loggers:
        logger.close()
