"""Indexes: long lists of images, each a file in the run's folder that every process maps into memory."""

import contextlib
import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from input_pipeline import storage

_VERSION = 3  # incremented with every change of the rules by which lists are made
_ALIGNMENT = 64
_TIMESTAMP_STEP_S = 2.0


class Index:
  """A table with a row per image: columns of texts of any length, and of numbers.

  Ten million names take pages of the file cache, not ten million objects. Pickled, an index is its path.

  Attributes:
    header: JSON-able facts about all rows; `digest` covers names and the column `size` if there is one.
    columns: name -> numbers, (rows, ...) each.
  """

  def __init__(self, path: str):
    """Maps an index file; raises ValueError if it is not whole, OSError if it cannot be read."""
    self._path = path
    with open(path, "rb") as file:
      self.header = json.loads(file.readline())
      start = -(-file.tell() // _ALIGNMENT) * _ALIGNMENT
    if self.header.get("version") != _VERSION or os.path.getsize(path) != start + self.header["bytes"]:
      raise ValueError(f"{path} is no whole index")
    content = np.memmap(path, np.uint8, "r", start, self.header["bytes"]) if self.header["bytes"] else b""
    arrays = {
      name: np.ndarray(shape, dtype, content, offset) for name, (dtype, shape, offset) in self.header["arrays"].items()
    }
    self._texts = {
      name.removesuffix("/ends"): (arrays[name], arrays[name.removesuffix("/ends") + "/bytes"])
      for name in arrays
      if name.endswith("/ends")
    }
    self.columns = {name: array for name, array in arrays.items() if "/" not in name}

  def __len__(self) -> int:
    return self.header["length"]

  def text(self, column: str, i: int) -> bytes:
    """Returns the text of row `i` in a column of texts, such as "name"; raises IndexError past the end."""
    if not 0 <= i < len(self):
      raise IndexError(f"row {i} of an index of {len(self)}")
    ends, content = self._texts[column]
    return content[ends[i - 1] if i else 0 : ends[i]].tobytes()

  def __reduce__(self):
    return _reopened, (self._path, self.header["digest"])


def _reopened(path: str, digest: str) -> Index:
  try:
    index = Index(path)
  except (OSError, ValueError, KeyError):
    index = None
  if index is None or index.header["digest"] != digest:
    raise ValueError(
      f"the index {path} changed during the run; start the run again, it resumes from its last checkpoint"
    )
  return index


def cached_index(
  cache_dir: str | os.PathLike,
  kind: str,
  root: str,
  is_current: Callable[[dict], bool],
  build: Callable[[], tuple[dict, Mapping[str, Sequence[bytes]], Mapping[str, np.ndarray]]],
) -> Index:
  """Returns the index of `root`: that of an earlier run if it is current, else a new one.

  Args:
    cache_dir: the folder of indexes; made if missing.
    kind: of the data, a word in the file's name.
    root: path or URL of the data; every root has its own index.
    is_current: whether the data is unchanged, from the header of the old index.
    build: makes a new one: header, texts (with "name"; lists of bytes, one for each row), columns of numbers.

  Returns:
    The index, mapped into memory.

  Raises:
    ValueError: it cannot be written.
  """
  key = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
  path = os.path.join(os.path.abspath(cache_dir), f"{kind}_index_{key}")
  try:
    index = Index(path)
    if index.header["root"] == root and is_current(index.header):
      return index
  except (OSError, ValueError, KeyError, TypeError):
    pass
  with _without_collector():
    header, texts, columns = build()
  of_run = os.path.exists(os.path.join(os.path.dirname(path), "run.lock"))
  with storage.writing(
    path,
    "the image index ",
    "choose a --workdir that can be written and has room"
    if of_run
    else "make room there, or set TMPDIR to a folder on another disk",
  ):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    _write(path, header | {"root": root}, texts, columns)
  return Index(path)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
  """Disables garbage collection: with millions of live objects, its searches for cycles double the time."""
  was_on = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    if was_on:
      gc.enable()


def newest_trusted_ns(scanned_at: float) -> float:
  """Returns the newest modification time, nanoseconds, that a scan at this time, seconds, has surely seen.

  A file that changed shortly before the scan could change again with the same time stamp (two seconds on FAT).
  """
  return (scanned_at - _TIMESTAMP_STEP_S) * 1e9


def folders_unchanged(root: str, folders: Mapping[str, int], scanned_at: float) -> bool:
  """Whether no file was added, removed or renamed since a scan, by the times of the folders.

  Args:
    root: the folder.
    folders: path below it -> its modification time at the scan, nanoseconds.
    scanned_at: the time of the scan, seconds.
  """
  newest_ns = newest_trusted_ns(scanned_at)
  try:
    return all(
      os.stat(os.path.join(root, below)).st_mtime_ns == mtime_ns <= newest_ns for below, mtime_ns in folders.items()
    )
  except OSError:
    return False


def names_digest(names: Sequence[bytes], sizes: Sequence[int] | None) -> str:
  """Returns the digest of the names and sizes of all images."""
  digest = hashlib.sha256()
  for name, size in zip(names, sizes if sizes is not None else [0] * len(names)):
    digest.update(b"%s\0%d\0" % (name, size))
  return digest.hexdigest()[:16]


def _write(path: str, header: dict, texts: Mapping[str, Sequence[bytes]], columns: Mapping[str, np.ndarray]) -> None:
  arrays = {name: np.ascontiguousarray(column) for name, column in columns.items()}
  for name, rows in texts.items():
    arrays[f"{name}/ends"] = np.cumsum([len(row) for row in rows], dtype=np.uint64)
    arrays[f"{name}/bytes"] = np.frombuffer(b"".join(rows), np.uint8)
  places, end = {}, 0
  for name, array in arrays.items():
    places[name] = [array.dtype.str, list(array.shape), end]
    end = -(-(end + array.nbytes) // _ALIGNMENT) * _ALIGNMENT
  sizes = columns.get("size")
  if "digest" not in header:
    header = header | {"digest": names_digest(texts["name"], None if sizes is None else sizes.tolist())}
  header = header | {"version": _VERSION, "length": len(texts["name"]), "arrays": places, "bytes": end}
  with storage.written_whole(path, by_several=True) as temporary:
    with open(temporary, "wb") as file:
      line = json.dumps(header).encode() + b"\n"
      file.write(line + bytes(-len(line) % _ALIGNMENT))
      for array in arrays.values():
        file.write(array.tobytes() + bytes(-array.nbytes % _ALIGNMENT))
