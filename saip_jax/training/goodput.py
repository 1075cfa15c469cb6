"""Goodput: the share of a run's time that was useful."""

import json
import os
import pathlib
import sys
import time

from input_pipeline.names import shown_error
from saip_jax.run_folder.files import GOODPUT
from saip_jax.run_folder.integrity import read_object


class Goodput:
  """The share of the time since the first start of a run in which devices worked on steps that count.

  Not useful are: starting and compiling, waiting for data, saving, drawing, the time between a stop and the next start,
  and steps that are done again because they came after the checkpoint that the run resumed from. Stored in
  W/goodput.json, for all starts of the run.
  """

  def __init__(self, workdir: pathlib.Path, start_step: int):
    """Continues after update `start_step` (0: a new run)."""
    self._path = workdir / GOODPUT
    self._started, self._at_save = self._stored(start_step) if self._path.exists() and start_step else (time.time(), {})
    self._useful_s = self._at_save.get(start_step, 0.0)
    if not start_step:
      self._write()

  def _stored(self, start_step: int) -> tuple[float, dict[int, float]]:
    """Returns the time of the first start, and the useful seconds up to each checkpoint."""
    try:
      stored = read_object(self._path)
      useful = {int(step): float(s) for step, s in stored["useful_s"].items() if int(step) <= start_step}
      return min(float(stored["started"]), time.time()), useful  # the clock of another host may be ahead
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
      print(f"warning: {self._path} cannot be read ({shown_error(e)}): goodput counts from now on", file=sys.stderr)
      return time.time(), {}

  def add(self, seconds: float) -> None:
    """Counts the time of a step, in seconds."""
    self._useful_s += seconds

  def save(self, step: int) -> None:
    """Makes the time up to `step` final; to be called with its checkpoint."""
    self._at_save[step] = self._useful_s
    self._write()

  def share(self) -> float:
    """Returns the share, 0 to 1."""
    return min(1.0, self._useful_s / max(time.time() - self._started, 1e-9))

  def _write(self) -> None:
    partial = self._path.with_suffix(".json.partial")
    partial.write_text(json.dumps({"started": self._started, "useful_s": self._at_save}) + "\n", "utf-8")
    os.replace(partial, self._path)
