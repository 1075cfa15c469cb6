"""A folder of image files as an ImageSource, with an index that is remembered beside the run."""

import collections
import hashlib
import json
import os
import pathlib
import time

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})

_INDEX_VERSION = 1
# A folder changed this shortly before its scan could change again within the same time stamp (FAT counts in 2 s).
_TIMESTAMP_STEP_S = 2.0


class FolderSource:
  """Every image file below a folder, in an order that depends on the names alone.

  Files are taken by extension (jpg jpeg png webp bmp, any case), recursively, sorted by the bytes of their path below
  the folder with `/` between its parts, so that every machine and file system gives the same order. Hidden files and
  folders (`.name`) are left out; links to files count, links to folders are not followed.

  Walking a million files is slow on network disks, so the index is kept as one file in `cache_dir`, never in the
  data. It is used again while the set of folders and the modification time of each is unchanged: adding, removing or
  renaming a file changes its folder's time. Rewriting a file in place changes neither the order nor the index. A
  folder that was modified within two seconds of the scan is scanned again, as its time stamp may hide a later change.

  Args:
    root: the folder.
    cache_dir: where the index is kept; made if missing.
    setting: the name of the setting that gave `root`, for messages.

  Raises:
    ValueError: no such folder, not a folder, not readable, or no image in it.
  """

  def __init__(self, root: str | os.PathLike, cache_dir: str | os.PathLike, setting: str = "data.path"):
    self._setting = setting
    self._root = _checked_root(root, setting)
    key = hashlib.sha256(os.fsencode(self._root)).hexdigest()[:16]
    self._index_path = os.path.join(os.path.abspath(cache_dir), f"folder_index_{key}")
    index = _load_index(self._index_path)
    if index is None or not _is_current(self._root, index[0]):
      index = _scan(self._root, setting)
      _save_index(self._index_path, *index)
    header, self._names = index
    self._digest = header["digest"]

  @property
  def identity(self) -> dict:
    """{source, name, length, digest}: the digest covers the relative names and sizes of all files."""
    return {"source": "folder", "name": os.path.basename(self._root), "length": len(self), "digest": self._digest}

  def __len__(self) -> int:
    return len(self._names)

  def read(self, i: int) -> bytes:
    with open(os.path.join(os.fsencode(self._root), self._names[i]), "rb") as file:
      return file.read()

  def name(self, i: int) -> str:
    return os.fsdecode(self._names[i])

  def __getstate__(self) -> dict:
    return {key: value for key, value in self.__dict__.items() if key != "_names"}

  def __setstate__(self, state: dict) -> None:
    self.__dict__.update(state)
    index = _load_index(self._index_path)
    if index is None or index[0]["digest"] != self._digest:
      raise ValueError(f"the index {self._index_path} of {self._setting}={self._root} changed during the run; "
                       "start the run again, it resumes from its last checkpoint")
    self._names = index[1]


def _checked_root(root: str | os.PathLike, setting: str) -> str:
  path = pathlib.Path(root).expanduser()
  if not path.exists():
    raise ValueError(f"{setting}={root} does not exist; expected a folder of images")
  if not path.is_dir():
    raise ValueError(f"{setting}={root} is a file; expected a folder of images, e.g. {path.parent}")
  if not os.access(path, os.R_OK | os.X_OK):
    raise ValueError(f"{setting}={root} may not be read by this user; check its permissions")
  return str(path.resolve())


def _visible(name: str) -> bool:
  return not name.startswith(".")


def _scan(root: str, setting: str) -> tuple[dict, list[bytes]]:
  """Walks the folder: the index header and the sorted relative names."""
  scanned_at = time.time()
  folders, sizes, others = {}, {}, collections.Counter()
  pending = [""]
  while pending:
    below = pending.pop()
    try:
      folders[below] = os.stat(os.path.join(root, below)).st_mtime_ns
      with os.scandir(os.path.join(root, below)) as entries:
        for entry in entries:
          relative = f"{below}/{entry.name}" if below else entry.name
          extension = os.path.splitext(entry.name)[1].lower()
          if not _visible(entry.name):
            continue
          if entry.is_dir(follow_symlinks=False):
            pending.append(relative)
          elif extension in EXTENSIONS and entry.is_file():
            sizes[os.fsencode(relative)] = entry.stat().st_size
          else:
            others[extension or "(no extension)"] += 1
    except OSError as error:
      raise ValueError(f"{setting}={root} cannot be listed at {below or '.'!r}: {error.strerror}") from error
  if not sizes:
    found = ", ".join(f"{count} {extension}" for extension, count in others.most_common(5)) or "nothing"
    raise ValueError(f"{setting}={root} holds no images: found {found}; "
                     f"expected {' '.join(sorted(e[1:] for e in EXTENSIONS))} files in it or below it")
  names = sorted(sizes)
  digest = hashlib.sha256()
  for name in names:
    digest.update(b"%s\0%d\0" % (name, sizes[name]))
  header = {"version": _INDEX_VERSION, "root": root, "scanned_at": scanned_at, "folders": folders,
            "digest": digest.hexdigest()[:16]}
  return header, names


def _is_current(root: str, header: dict) -> bool:
  if header["root"] != root:
    return False
  newest_trusted_ns = (header["scanned_at"] - _TIMESTAMP_STEP_S) * 1e9
  try:
    return all(os.stat(os.path.join(root, below)).st_mtime_ns == mtime_ns <= newest_trusted_ns
               for below, mtime_ns in header["folders"].items())
  except OSError:
    return False


def _load_index(path: str) -> tuple[dict, list[bytes]] | None:
  """Reads an index file (a JSON header line, then the names, each ended by a zero byte); None if there is none."""
  try:
    with open(path, "rb") as file:
      header = json.loads(file.readline())
      names = file.read().split(b"\0")[:-1]
  except (OSError, ValueError):
    return None
  complete = header.get("version") == _INDEX_VERSION and header.get("length") == len(names)
  return (header, names) if complete else None


def _save_index(path: str, header: dict, names: list[bytes]) -> None:
  content = json.dumps(header | {"length": len(names)}).encode() + b"\n" + b"".join(name + b"\0" for name in names)
  temporary = f"{path}.{os.getpid()}.unfinished"  # several hosts may share the folder
  try:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
      pathlib.Path(temporary).write_bytes(content)
      os.replace(temporary, path)
    finally:
      pathlib.Path(temporary).unlink(missing_ok=True)
  except OSError as error:
    raise ValueError(f"the image index cannot be written to {path} ({error.strerror}); choose a --workdir that can be "
                     "written and has room") from error
