"""Ends a run that hangs: a stuck host blocks all others, and the machines are paid for.

`faulthandler.dump_traceback_later(exit=True)` does the same without a message, and ends with status 1.
"""

import faulthandler
import os
import pathlib
import sys
import threading

EXIT_STATUS = 75  # "temporary failure": to be started again


class Watchdog:
  """A thread that ends the process if a block takes too long, after writing the stacks of all threads."""

  def __init__(self, what: str, minutes: float, advice: str, path: pathlib.Path | None = None):
    """Watches from `__enter__` to `__exit__`.

    Args:
      what: the work of the block, for the message.
      minutes: limit for the block, or for one round of it; 0 disables the watchdog.
      advice: end of the message: what the user can do.
      path: file for the stacks, besides standard error.
    """
    self._what, self._seconds, self._advice, self._path = what, minutes * 60, advice, path
    self._sign_of_life, self._done = threading.Event(), False
    self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

  def __enter__(self):
    if self._seconds:
      self._thread.start()
    return self

  def restart(self) -> None:
    """Restarts the time, because the block has made progress."""
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
    where = f"; all stacks are in {self._path}" if self._path else ""
    print(
      f"saip: error: {self._what} takes more than {self._seconds / 60:g} minutes: ending the process, so that it can"
      f" be started again{where}; {self._advice}",
      file=sys.stderr,
      flush=True,
    )
    for file in (sys.stderr, *([self._path.open("w", encoding="utf-8")] if self._path else [])):
      faulthandler.dump_traceback(file, all_threads=True)
    os._exit(EXIT_STATUS)
