"""Starting processes that leave Ctrl-C to the one that started them."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
  """Processes started in here ignore Ctrl-C: it is for this one, which ends them."""
  if threading.current_thread() is not threading.main_thread():  # which alone may say so
    yield
    return
  heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, heard)
