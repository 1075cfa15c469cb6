"""Ends a run: closes everything that it opened and raises the first error."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from input_pipeline.names import shown_error


class Ending:
  """Closes what a block opened, the newest first; a failure does not keep the rest from being closed.

  The error that ended the block is raised; later failures are lines on standard error. Without such an error the first
  failure is raised.
  """

  def __init__(self):
    self._closings: list[tuple[str, Callable[[], Any]]] = []

  def then(self, what: str, close: Callable[[], Any]) -> None:
    """Calls `close` at the end; `what` names it in messages, as in "closing the records"."""
    self._closings.append((what, close))

  def enter(self, what: str, context: contextlib.AbstractContextManager):
    """Enters a context, which is left at the end, and returns its value."""
    entered = context.__enter__()
    self.then(what, lambda: context.__exit__(None, None, None))
    return entered

  def close(self) -> None:
    """Closes everything now; raises the first failure."""
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
      except BaseException as failure:  # Ctrl-C too: the rest must be closed
        if first is None:
          first = failure
        else:
          print(f"warning: as the run ended, {what} failed: {shown_error(failure)}", file=sys.stderr, flush=True)
    if first is not error:
      raise first
