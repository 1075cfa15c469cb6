"""One run at a time in one folder."""

import contextlib
import json
import os
import pathlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from input_pipeline.locks import lock
from input_pipeline.storage import writing
from saip_jax.run_folder.files import LOCK

_held: set[str] = set()


@contextlib.contextmanager
def holding(
  workdir: pathlib.Path, on_first_host: Callable[[Callable[[], Any]], Any] = lambda function: function()
) -> Iterator[None]:
  """Keeps other runs out of a folder while a block runs.

  The processes of one run are one holder: the first of them has the lock. Nested blocks of one process are one holder
  too. The system drops the lock of a process that ends, however it ends, so no lock is ever stale. On a network disk it
  excludes other hosts as far as the locks of that disk do.

  Args:
    workdir: the run's folder; W/run.lock names the holder.
    on_first_host: calls a function on the first process of the run, see `training.distributed.on_first_host`; the
      default is for a process alone.

  Raises:
    ValueError: another run holds the folder, on every process of this one; or it cannot be written.
  """
  key = os.path.realpath(workdir)
  if key in _held:
    yield
    return
  handle = on_first_host(lambda: _lock(workdir))
  _held.add(key)
  try:
    yield
  finally:
    _held.remove(key)
    if handle is not None:
      os.close(handle)


def refuse_held(workdir: pathlib.Path) -> None:
  """Raises ValueError if another run holds a folder; writes nothing there."""
  if (workdir / LOCK).exists():
    handle = os.open(workdir / LOCK, os.O_RDONLY)
    try:
      lock(handle, str(workdir / LOCK), lambda: _refuse(workdir, handle))
    finally:
      os.close(handle)


def _lock(workdir: pathlib.Path) -> int:
  """Returns the open file that has the lock."""
  with writing(workdir, "--workdir=", "choose a folder that can be written"):
    handle = os.open(workdir / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    lock(handle, str(workdir / LOCK), lambda: _refuse(workdir, handle))
  except ValueError:
    os.close(handle)
    raise
  os.ftruncate(handle, 0)
  os.pwrite(handle, holder_record(), 0)
  return handle


def holder_record(**more: str) -> bytes:
  """Returns the content of a run.lock that this process holds: its host, number and the time, and `more`."""
  record = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
  return (json.dumps(record | more) + "\n").encode()


def holder_of(content: bytes) -> str:
  """Returns who wrote a run.lock, in words; raises ValueError, KeyError or TypeError for other content."""
  record = json.loads(content)
  return f"process {record['process']} on host {record['host']} since {record['since']}"


def _refuse(workdir: pathlib.Path, handle: int) -> None:
  try:
    holder = holder_of(os.pread(handle, 4096, 0))
  except (OSError, ValueError, KeyError, TypeError):  # it has not written it down yet
    holder = "another process"
  raise ValueError(
    f"--workdir={workdir} is in use by {holder}; wait until that run ends, stop it, or choose another --workdir"
  )
