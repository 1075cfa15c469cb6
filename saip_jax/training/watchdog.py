"""Ends a run that hangs: a stuck host otherwise holds all the others, and the machines are paid for."""

import faulthandler
import os
import pathlib
import sys
import threading

EXIT_STATUS = 75  # "temporary failure": to be started again


class Watchdog:
  """A thread that ends the process if no step finishes for too long, after writing down where every thread stands."""

  def __init__(self, path: pathlib.Path, minutes: float):
    """Watches from `__enter__` on.

    Args:
      path: where the stacks go, besides standard error.
      minutes: how long a step may take; 0 watches nothing.
    """
    self._path, self._seconds = path, minutes * 60
    self._sign_of_life, self._done = threading.Event(), False
    self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

  def __enter__(self):
    if self._seconds:
      self._thread.start()
    return self

  def step_finished(self) -> None:
    """The run is alive."""
    self._sign_of_life.set()

  def __exit__(self, *_):
    self._done = True
    self._sign_of_life.set()
    if self._seconds:
      self._thread.join()

  def _watch(self) -> None:
    while self._sign_of_life.wait(self._seconds):
      if self._done:
        return
      self._sign_of_life.clear()
    print(
        f"no step finished for {self._seconds / 60:g} minutes: ending the process, so that it can be started again;"
        f" all stacks are in {self._path} (config.watchdog_minutes sets the time)", file=sys.stderr, flush=True,
    )
    for file in (sys.stderr, self._path.open("w")):
      faulthandler.dump_traceback(file, all_threads=True)
    os._exit(EXIT_STATUS)
