"""Stops a run early: on Ctrl-C, or on the SIGTERM of a machine that is about to be preempted."""

import os
import signal
import threading

import jax

from saip_jax.training.distributed import stop_agreed


class StopRequest:
  """Turns the first Ctrl-C or SIGTERM into a request to stop at the next step; a second Ctrl-C stops at once.

  With several processes a signal to one of them stops all, at a step that they agree on: JAX catches SIGTERM and
  notifies the others, and Ctrl-C is turned into a SIGTERM.
  """

  def __init__(self):
    self._requested = False
    self._previous = {}

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():  # other threads cannot catch signals
      caught = (signal.SIGINT, signal.SIGTERM) if jax.process_count() == 1 else (signal.SIGINT,)
      self._previous = {s: signal.signal(s, self._handle) for s in caught}
    return self

  def due(self, step: int) -> bool:
    """Returns whether to stop after update `step`; to be called once at every step."""
    return self._requested if jax.process_count() == 1 else stop_agreed(step)

  def _handle(self, number, _):
    if self._requested:
      raise KeyboardInterrupt
    self._requested = True
    if jax.process_count() > 1:
      os.kill(os.getpid(), signal.SIGTERM)

  def __exit__(self, *_):
    for number, handler in self._previous.items():
      signal.signal(number, handler)
