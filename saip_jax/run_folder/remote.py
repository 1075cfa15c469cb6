"""Runs, checkpoints, exports and weights at URLs: everything else in the package reads and writes local paths.

What is at a URL is read from a local copy, which `local` makes and keeps up to date, and what is written for a URL is
written locally and uploaded, by `published` and `append_line`. A run that trains into a bucket is `bucket.py`.
"""

import atexit
import contextlib
import functools
import pathlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from input_pipeline import buckets, storage
from input_pipeline.names import shown_error
from input_pipeline.storage import SCHEMES, Unwritable, as_place
from saip_jax.run_folder.files import CHECKPOINTS, COMMITTED, CONFIG, EXTRA, PROFILE, TENSORBOARD
from saip_jax.run_folder.integrity import damage_of

PATIENCE_S = 30
"""Seconds after which a bucket that does not answer is given up."""
_RETRIES_S = 60
_UNREAD = (f"/{CHECKPOINTS}/", f"/{TENSORBOARD}/", f"/{PROFILE}/")  # parts of a run that no copy needs
_PERMANENT = re.compile("forbidden|denied|unauthorized|credentials|not authorized|skewed", re.IGNORECASE)
_T = TypeVar("_T")
_copied: dict[pathlib.Path, str] = {}  # local copy -> version of the file at its URL


def local(path, setting: str = "the path") -> pathlib.Path:
  """Returns a local path with the content of a path or URL.

  A copy of a run has its newest whole checkpoint, or the one that the URL names, and neither events nor profiles.
  Copies are removed when the process ends; a second call transfers only what has changed.

  Args:
    path: a local path, which is returned with `~` expanded, or a URL of a file or a folder.
    setting: the option or setting that named it, for errors.

  Raises:
    ValueError: a URL of an unknown scheme.
    OSError: a bucket that cannot be read.
  """
  place = as_place(path, setting)
  if isinstance(place, pathlib.Path):
    return place
  root, _, step = place.rpartition(f"/{CHECKPOINTS}/")
  if root and step.isdigit():
    _copy_run(root, reachable(root, lambda: buckets.versions(root)), [int(step)])
    return _copy_of(place)
  found = reachable(place, lambda: buckets.versions(place))
  if CONFIG in found and any(name.startswith(f"{CHECKPOINTS}/") for name in found):
    _copy_run(place, found, committed_steps(found))
  elif "" in found:  # a file, and those beside it that describe it
    folder, _, name = place.rpartition("/")
    beside = {n: v for n, v in reachable(folder, lambda: buckets.versions(folder)).items() if _describes(n, name)}
    _mirror(folder, beside)
  else:
    _mirror(place, found)
  return _copy_of(place)


def _describes(other: str, name: str) -> bool:
  """Whether a file is needed to read a file of weights beside it: itself, or a small one of an exported folder."""
  near = "/" not in other.removeprefix(f"{EXTRA}/")
  return other == name or near and other.endswith((".json", ".safetensors"))


def committed_steps(names) -> list[int]:
  """Returns the steps of a run whose checkpoints were committed, the newest first, from the names below its URL."""
  parts = [name.split("/") for name in names if name.startswith(f"{CHECKPOINTS}/") and name.endswith(f"/{COMMITTED}")]
  return sorted({int(part[1]) for part in parts if len(part) == 3 and part[1].isdigit()}, reverse=True)


def _copy_run(url: str, found: dict[str, str], steps: list[int]) -> None:
  """Copies a run with the first of the steps that is whole."""
  read = {name: version for name, version in found.items() if not any(part in f"/{name}" for part in _UNREAD)}
  copy_files(url, read, _copy_of(url))
  root = _copy_of(url) / CHECKPOINTS
  root.mkdir(parents=True, exist_ok=True)
  for old in root.iterdir():
    if old.name not in map(str, steps):
      shutil.rmtree(old)
  for step in steps:
    copy_checkpoint(url, found, step, _copy_of(url))
    if damage_of(root / str(step)) is None:
      return


def copy_checkpoint(url: str, found: Mapping[str, str], step: int, to: pathlib.Path) -> None:
  """Copies a checkpoint of a run to a local folder of that run."""
  prefix = f"{CHECKPOINTS}/{step}/"
  copy_files(url, {name: version for name, version in found.items() if name.startswith(prefix)}, to)


def copy_files(url: str, wanted: Mapping[str, str], to: pathlib.Path) -> None:
  """Copies files below a URL to a local folder, but for those that are there in their present version.

  Args:
    url: the folder.
    wanted: name below it -> version, of `buckets.versions`.
    to: the local folder.
  """
  for name, version in wanted.items():
    path, file = to / name, f"{url}/{name}".rstrip("/")
    if _copied.get(path) != version or not path.exists():
      retried(file, functools.partial(buckets.download, file, path))
      _copied[path] = version


def _mirror(url: str, wanted: Mapping[str, str]) -> None:
  """Makes the local copy of a folder hold the wanted files and no others."""
  copy = _copy_of(url)
  for path in _files_of(copy):
    if path.relative_to(copy).as_posix() not in wanted:
      path.unlink()
  copy_files(url, wanted, copy)


@contextlib.contextmanager
def published(path, setting: str) -> Iterator[pathlib.Path]:
  """Yields a local path to write a file or folder to; for a URL, it is uploaded if the block ends without an error.

  What is at the URL already appears there as empty files of the same names, so that checks for existing outputs see
  them; files that the block removes are removed. The largest file is uploaded last: without the weights, no reader
  takes a folder for whole.

  Args:
    path: a local path or a URL.
    setting: the option that named it, for errors.

  Raises:
    ValueError: a URL of an unknown scheme, or that cannot be written.
  """
  place = as_place(path, setting, writable=True)
  if isinstance(place, pathlib.Path):
    yield place
    return
  before = reachable(place, lambda: buckets.versions(place))
  with tempfile.TemporaryDirectory(dir=_root()) as folder:
    target = _below(pathlib.Path(folder), place)
    target.parent.mkdir(parents=True)
    for name in before:
      (target / name).parent.mkdir(parents=True, exist_ok=True)
      (target / name).touch()
    placeholders = {path: path.stat().st_ino for path in _files_of(target)}
    yield target
    files = _files_of(target.parent)  # a file may have others beside it
    written = [path for path in files if path.stat().st_size or placeholders.get(path) != path.stat().st_ino]
    parent = place.rpartition("/")[0]
    url_of = lambda path: f"{parent}/{path.relative_to(target.parent).as_posix()}"
    with storage.writing(place, f"{setting}=", "choose a place that can be written"):
      for file in sorted(written, key=lambda path: path.stat().st_size):
        retried(place, functools.partial(buckets.upload, file, url_of(file)))
      for removed in placeholders.keys() - set(files):
        retried(place, functools.partial(storage.remove, url_of(removed)))


def _files_of(path: pathlib.Path) -> list[pathlib.Path]:
  return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def append_line(folder, name: str, line: str) -> None:
  """Appends a line to a file of a run's folder, a path or a URL; a bucket gets the whole file anew.

  Raises:
    OSError: it cannot be written.
  """
  if not storage.is_remote(folder):
    with open(pathlib.Path(folder) / name, "a", encoding="utf-8") as file:
      file.write(line + "\n")
    return
  url = f"{folder}/{name}"
  for _ in range(5):  # another process may write it between reading and writing
    earlier = storage.read_file(url) if reachable(url, lambda: storage.exists(url)) else b""
    if line.encode() in earlier.splitlines():
      return
    retried(url, lambda: storage.write_file(url, earlier + line.encode() + b"\n"))
  raise OSError(f"{url} is written by other processes at the same time")


def joined(place, *names: str):
  """Returns a path or URL below another."""
  return "/".join((place, *names)) if isinstance(place, str) else place.joinpath(*names)


def with_urls(text: str) -> str:
  """Returns a text with the paths of local copies replaced by their URLs."""
  if not _root.cache_info().currsize:
    return text
  return re.sub(rf"{re.escape(str(_root()))}/[^/\s]+/({'|'.join(SCHEMES)})/", r"\1://", text)


def reachable(place: str, operation: Callable[[], _T]) -> _T:
  """Returns the result of an operation on a bucket; raises OSError if it fails or takes longer than `PATIENCE_S`."""
  result: list = []

  def run():
    try:
      result.append((operation(), None))
    except BaseException as error:
      result.append((None, error))

  thread = threading.Thread(target=run, daemon=True)  # the libraries may go on trying for minutes
  thread.start()
  thread.join(PATIENCE_S)
  if not result:
    raise OSError(f"{place} did not answer within {PATIENCE_S} s")
  value, error = result[0]
  if isinstance(error, OSError) and place not in str(error):
    kind = next((kind for kind in (FileNotFoundError, PermissionError) if isinstance(error, kind)), OSError)
    raise kind(f"{place}: {shown_error(error)}") from error
  if error is not None:
    raise error
  return value


def retried(place: str, operation: Callable[[], _T]) -> _T:
  """Returns the result of an operation on a bucket, tried again while the network fails, for a minute.

  Raises:
    OSError: the last failure; or at once, what trying again does not mend.
  """
  deadline, pause = time.monotonic() + _RETRIES_S, 0.5
  while True:
    try:
      return reachable(place, operation)
    except (FileNotFoundError, PermissionError, Unwritable):
      raise
    except OSError as error:
      if time.monotonic() + pause > deadline or _PERMANENT.search(str(error)):
        raise
      time.sleep(pause)
      pause = min(2 * pause, 8)


@functools.cache
def _root() -> pathlib.Path:
  """Returns the folder of this process's local copies, removed when it ends."""
  folder = tempfile.mkdtemp(prefix="saip_copies_")
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  return pathlib.Path(folder).resolve()


def _copy_of(url: str) -> pathlib.Path:
  return _below(_root() / "read", url)


def _below(folder: pathlib.Path, url: str) -> pathlib.Path:
  scheme, _, rest = url.partition("://")
  return folder / scheme / rest
