"""Child processes that leave Ctrl-C to their parent."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
  """Processes started in this block ignore Ctrl-C; their parent ends them."""
  if threading.current_thread() is not threading.main_thread():  # which alone may set signals
    yield
    return
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before)
