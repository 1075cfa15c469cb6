"""How a run ends: all that it opened is closed, and the first error is the one that is raised."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from input_pipeline.names import shown_error


class Ending:
  """Closes what a block opened, the newest first; no failure keeps the rest from being closed.

  The error that ended the block stays the one that is raised: failures after it are lines on standard error. Without
  one the first failure is raised.
  """

  def __init__(self):
    self._closings: list[tuple[str, Callable[[], Any]]] = []

  def then(self, what: str, close: Callable[[], Any]) -> None:
    """Calls `close` in the end; `what` it does stands in messages, as in "closing the records"."""
    self._closings.append((what, close))

  def enter(self, what: str, context: contextlib.AbstractContextManager):
    """Enters a context, which is left in the end, and returns what it gives."""
    entered = context.__enter__()
    self.then(what, lambda: context.__exit__(None, None, None))
    return entered

  def close(self) -> None:
    """Closes all now; raises the first failure."""
    self._close(None)

  def __enter__(self):
    return self

  def __exit__(self, kind, error, traceback):
    self._close(error)

  def _close(self, error: BaseException | None) -> None:
    first = error
    while self._closings:
      what, close = self._closings.pop()
      try:
        close()
      except BaseException as failure:  # Ctrl-C too: what is left must be closed
        if first is None:
          first = failure
        else:
          print(f"warning: as the run ended, {what} failed: {shown_error(failure)}", file=sys.stderr, flush=True)
    if first is not error:
      raise first
