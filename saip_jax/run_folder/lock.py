"""One run at a time in one folder."""

import contextlib
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator

from input_pipeline.locks import lock
from input_pipeline.storage import writing
from saip_jax.training.distributed import on_first_host

LOCK = "run.lock"
_held: set[str] = set()


@contextlib.contextmanager
def holding(workdir: pathlib.Path) -> Iterator[None]:
  """Keeps other runs out of a folder while a block runs.

  The processes of one run are one holder: the first of them has the lock. So are nested blocks of one process. The
  system drops the lock of a process that ends, however it ends, so that no lock is ever stale. On a network disk it
  keeps out other hosts as far as that disk's locks do.

  Args:
    workdir: the run's folder; W/run.lock names the holder.

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


def _lock(workdir: pathlib.Path) -> int:
  """Returns the open file that has the lock."""
  with writing(workdir, "--workdir=", "choose a folder that can be written"):
    handle = os.open(workdir / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    lock(handle, str(workdir / LOCK), lambda: _refuse(workdir, handle))
  except ValueError:
    os.close(handle)
    raise
  record = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
  os.ftruncate(handle, 0)
  os.pwrite(handle, (json.dumps(record) + "\n").encode(), 0)
  return handle


def _refuse(workdir: pathlib.Path, handle: int) -> None:
  try:
    record = json.loads(os.pread(handle, 4096, 0))
    holder = f"process {record['process']} on host {record['host']} since {record['since']}"
  except (OSError, ValueError, KeyError, TypeError):  # it has not written it down yet
    holder = "another process"
  raise ValueError(
    f"--workdir={workdir} is in use by {holder}; wait until that run ends, stop it, or choose another --workdir"
  )
