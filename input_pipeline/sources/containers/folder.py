"""A folder of image files as an ImageSource."""

import collections
import os
import time

import numpy as np

from input_pipeline import storage
from input_pipeline.source import ImageSource, bounded
from input_pipeline.sources.index import cached_index, folders_unchanged

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm"})


class FolderSource(ImageSource):
  """Every image file below a folder, in an order that depends only on the names.

  Files are selected by extension (jpg jpeg png webp bmp ppm, any case), recursively, and sorted by the bytes of their
  path below the folder, with `/` as separator, so that every machine and file system gives the same order. Hidden
  files and folders (`.name`) are left out; links to files count, links to folders are not followed.

  Walking a million files is slow on network disks, so the list is stored in an index in `cache_dir`, never in the
  data. The index is reused while the folders and their modification times are unchanged: adding, removing or renaming
  a file changes its folder's time. Rewriting a file in place changes neither the order nor the index. A folder that
  was modified within two seconds of the scan is scanned again, as its time stamp may hide a later change. A bucket is
  listed at every start, as its folders have no times.

  Args:
    root: the folder, or its URL (gs://, s3://).
    cache_dir: folder of the remembered index; made if missing.
    setting: the option or setting that gave `root`, named in messages.

  Raises:
    ValueError: no such folder, not a folder, not readable, or no image in it.
  """

  def __init__(self, root: str | os.PathLike, cache_dir: str | os.PathLike, setting: str = "data.path"):
    self._root = _checked_root(root, setting)
    remote = storage.is_remote(self._root)
    self._index = cached_index(
      cache_dir,
      "folder",
      self._root,
      lambda header: not remote and folders_unchanged(self._root, header["folders"], header["scanned_at"]),
      lambda: (_list_bucket if remote else _scan)(self._root, setting),
    )
    self.left_out = [tuple(item) for item in self._index.header["left_out"]]

  @property
  def identity(self) -> dict:
    """{source, name, length, digest}: the digest covers the relative names and sizes of all files."""
    return {
      "source": "folder",
      "name": os.path.basename(self._root),
      "length": len(self),
      "digest": self._index.header["digest"],
    }

  def __len__(self) -> int:
    return len(self._index)

  def read(self, i: int) -> bytes:
    return storage.read_file(self.path(i))

  def name(self, i: int) -> str:
    return os.fsdecode(self._index.text("name", i))

  def path(self, i: int) -> str:
    """Path or URL of image `i`."""
    return f"{self._root}/{self.name(i)}"


def _checked_root(root: str | os.PathLike, setting: str) -> str:
  path = storage.normalized(root)
  try:
    if not storage.exists(path):
      raise ValueError(f"{setting}={root} does not exist; expected a folder of images")
    if not storage.is_folder(path):
      raise ValueError(f"{setting}={root} is a file; expected a folder of images, e.g. {os.path.dirname(path)}")
  except OSError as error:
    raise ValueError(f"{setting}={root}: {error}") from error
  if not storage.is_remote(path) and not os.access(path, os.R_OK | os.X_OK):
    raise ValueError(f"{setting}={root} is not readable by this user; check its permissions")
  return path


def _list_bucket(root: str, setting: str) -> tuple[dict, dict, dict]:
  """Lists a bucket; returns header, texts and columns of its index."""
  try:
    files = storage.list_files(root)
  except OSError as error:
    raise ValueError(f"{setting}={root} cannot be listed: {error}") from error
  hidden = lambda name: any(part.startswith(".") for part in name.split("/"))
  extension = lambda name: os.path.splitext(name)[1].lower()
  sizes = {os.fsencode(name): size for name, size in files if extension(name) in EXTENSIONS and not hidden(name)}
  others = collections.Counter(extension(name) for name, _ in files if extension(name) not in EXTENSIONS)
  return _index_of(root, setting, sizes, others, {"left_out": []})


def _scan(root: str, setting: str) -> tuple[dict, dict, dict]:
  """Walks the folder; returns header, texts and columns of its index."""
  scanned_at = time.time()
  folders, sizes, others, left_out = {}, {}, collections.Counter(), []
  pending = [""]
  while pending:
    below = pending.pop()
    try:
      folders[below] = os.stat(os.path.join(root, below)).st_mtime_ns
      with os.scandir(os.path.join(root, below)) as entries:
        for entry in entries:
          relative = f"{below}/{entry.name}" if below else entry.name
          extension = os.path.splitext(entry.name)[1].lower()
          if entry.name.startswith("."):
            continue
          if entry.is_dir(follow_symlinks=False):
            pending.append(relative)
            if extension in EXTENSIONS:
              left_out.append((relative, "a folder that is named like an image"))
          elif extension not in EXTENSIONS:
            others[extension or "(no extension)"] += 1
          elif entry.is_file():
            sizes[os.fsencode(relative)] = entry.stat().st_size
          else:
            left_out.append((relative, "a link to no file" if entry.is_symlink() else "not a regular file"))
    except OSError as error:
      raise ValueError(f"{setting}={root} cannot be listed at {below or '.'!r}: {error.strerror}") from error
  return _index_of(
    root, setting, sizes, others, {"scanned_at": scanned_at, "folders": folders, "left_out": sorted(left_out)}
  )


def _index_of(
  root: str, setting: str, sizes: dict[bytes, int], others: collections.Counter, header: dict
) -> tuple[dict, dict, dict]:
  if not sizes:
    found = ", ".join(f"{count} {extension}" for extension, count in others.most_common(5)) or "nothing"
    raise ValueError(
      f"{setting}={root} holds no images: found {found}; "
      f"expected {' '.join(sorted(e[1:] for e in EXTENSIONS))} files in it or below it"
    )
  names = sorted(sizes)
  header = header | {"left_out": bounded(header["left_out"])}
  return header, {"name": names}, {"size": np.array([sizes[name] for name in names], np.int64)}
