"""Locks that the system releases when their holder ends, however it ends."""

import fcntl
import sys
from collections.abc import Callable


def lock(handle: int, place: str, held: Callable[[], None]) -> None:
  """Takes the lock of an open file or folder; closing it releases the lock.

  On a disk without locks nothing is locked, and a warning is printed to standard error.

  Args:
    handle: of the file or folder.
    place: its name, for the warning.
    held: called if another process has the lock; raises an error, or returns to wait for it.
  """
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      held()
      fcntl.flock(handle, fcntl.LOCK_EX)
  except OSError as error:
    print(
      f"warning: {place} cannot be locked ({error.strerror}): nothing keeps a second process from writing there",
      file=sys.stderr,
      flush=True,
    )
