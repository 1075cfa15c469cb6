"""The photos of an annotated data set: where they are, and their sizes."""

import collections
import concurrent.futures
import hashlib
import os
import posixpath
import re
import time
from collections.abc import Iterable, Iterator, Sequence

from PIL import Image
from tqdm import tqdm

from input_pipeline import storage
from input_pipeline.decode import photo_header
from input_pipeline.sources.containers.folder import EXTENSIONS
from input_pipeline.sources.index import folders_unchanged
from input_pipeline.sources.spelling import ONLY_SPELLING, grouped, spelling

NO_PHOTO = "no such photo"
"""Why an annotation of a missing photo is left out."""

_THREADS = 16
_DRIVE = re.compile(r"^[A-Za-z]:(?=/)")


class Photos:
  """All image files below a folder, listed once.

  Attributes:
    root: the folder or its URL.
    folders: folder below the root -> its modification time; empty for a bucket.
    listed_at: when the listing began, seconds since 1970.
  """

  def __init__(self, root: str, most: int | None = None):
    """Lists the folder; raises OSError if it cannot be listed or holds more than `most` files."""
    self.root, self.folders, self.listed_at, self._most = root, {}, time.time(), most
    self._sizes: dict[str, tuple[int, int, int] | str] = {}
    names = self._listed_bucket() if storage.is_remote(root) else self._walked()
    self._names = frozenset(name for name in names if os.path.splitext(name)[1].lower() in EXTENSIONS)
    self._by_base = grouped(sorted(self._names), os.path.basename)
    self._by_spelling: dict[str, list[str]] | None = None

  def __len__(self) -> int:
    return len(self._names)

  def __contains__(self, name: str) -> bool:
    return name in self._names

  def _listed_bucket(self) -> list[str]:
    return [name for name, _ in storage.list_files(self.root) if not any(p.startswith(".") for p in name.split("/"))]

  def _walked(self) -> list[str]:
    """Follows links to folders, as data sets are often assembled from links, but enters no folder twice."""
    names, pending, links, entered = [], [""], [], set()
    while pending or links:
      below = pending.pop() if pending else links.pop(links.index(min(links)))
      status = os.stat(os.path.join(self.root, below))
      if (status.st_dev, status.st_ino) in entered:
        continue
      entered.add((status.st_dev, status.st_ino))
      self.folders[below] = status.st_mtime_ns
      with os.scandir(os.path.join(self.root, below)) as entries:
        for entry in entries:
          relative = f"{below}/{entry.name}" if below else entry.name
          if entry.name.startswith("."):
            continue
          if entry.is_dir():
            (links if entry.is_symlink() else pending).append(relative)
          elif entry.is_file():
            names.append(relative)
      if self._most is not None and len(names) > self._most:
        raise OSError(f"{self.root} holds more than {self._most:,} files")
    return names

  def below(self, folder: str) -> list[str]:
    """Returns the photos in a folder below the root ("": all), recursively, sorted."""
    return sorted(name for name in self._names if not folder or name.startswith(f"{folder}/"))

  def find(self, name: str, hint: str = "", base_is_enough: bool = True) -> tuple[str | None, str]:
    """Finds the photo that an annotation names.

    The candidates, in this order: the given path, from the annotation file or from the root; photos with a path that
    ends in it, or with a whole path that it ends in; photos with a path that ends in it except for the spelling (see
    spelling.py); photos with the same base name. Among several candidates, those nearest to the annotation file are
    preferred, then those in a folder that the file's name contains, as instances_train2017 contains train2017.

    Args:
      name: as the annotation gives it: a path below some folder of the data set, perhaps of another machine, or a
        file name.
      hint: path of the annotation file below the root, without its extension.
      base_is_enough: accept a photo with the same base name.

    Returns:
      (path below the root, ""), or (None, reason).
    """
    beside, stem = os.path.split(hint)
    if f"{beside}/{name}" in self._names:
      return f"{beside}/{name}", ""
    if name in self._names:
      return name, ""
    written = [path for path in self._by_base.get(name.rpartition("/")[2], ()) if _ends_in(path, name)]
    if len(written) == 1:
      return written[0], ""
    plain = _plain(name)
    for path in (posixpath.normpath(posixpath.join(beside, name.replace("\\", "/"))), plain):
      if path in self._names:
        return path, ""
    found = next(filter(None, self._candidates(plain, base_is_enough)), [])
    while beside and len(found) > 1:
      found = [path for path in found if path.startswith(f"{beside}/")] or found
      beside = os.path.dirname(beside)
    for meant in (lambda folder: folder == stem, lambda folder: folder in stem):
      if len(found) > 1:
        found = [path for path in found if any(map(meant, path.split("/")[:-1]))] or found
    if len(found) > 1:
      only = "" if os.path.basename(plain) in self._by_base else f" (they differ from it only in {ONLY_SPELLING})"
      return None, f"{len(found)} photos could be meant: {found[0]}, {found[1]}{', ...' * (len(found) > 2)}{only}"
    return (found[0], "") if found else (None, NO_PHOTO)

  def find_all(self, names: Sequence[str], hint: str = "") -> list[tuple[str | None, str]]:
    """Finds the photos that one list names, each as `find` does.

    A base name is enough if no other name of the list has it. A photo is found for two names only if its path ends in
    both.
    """
    base_of = {name: name.replace("\\", "/").rpartition("/")[2] for name in names}
    bases = collections.Counter(base_of.values())
    found, names_of = {}, collections.defaultdict(set)
    for name, base in base_of.items():
      found[name] = self.find(name, hint, bases[base] == 1)
      names_of[found[name][0]].add(name)
    for photo, several in names_of.items():
      if photo is None or len(several) == 1:
        continue
      for name in several:
        if not _ends_in(photo, _plain(name)):
          other = min(several - {name})
          found[name] = None, f"{NO_PHOTO}, unless {photo} is meant, which the list also names {other}"
    return [found[name] for name in names]

  def _candidates(self, name: str, base_is_enough: bool) -> Iterator[list[str]]:
    """Yields lists of photos that a path may mean, the best first."""
    written = self._by_base.get(os.path.basename(name), [])
    yield [path for path in written if _ends_in(path, name)]
    yield [path for path in written if "/" in path and _ends_in(name, path)]
    if self._by_spelling is None:  # made only if a list differs from the disk
      self._by_spelling = grouped(sorted(self._names), lambda path: spelling(os.path.basename(path)))
    wanted = spelling(name)
    alike = self._by_spelling.get(os.path.basename(wanted), [])
    yield [path for path in alike if _ends_in(spelling(path), wanted)]
    yield written if base_is_enough else []
    yield alike if base_is_enough else []

  def measure(self, names: Iterable[str]) -> None:
    """Reads the headers of these photos, many at once, for `header`."""
    unknown = sorted(set(names) - self._sizes.keys())
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
      measured = pool.map(lambda name: _header(f"{self.root}/{name}"), unknown, chunksize=16)
      self._sizes.update(zip(unknown, tqdm(measured, "photos", len(unknown), disable=None, leave=False)))

  def header(self, name: str) -> tuple[int, int, int] | str:
    """Returns (width, height, orientation) of the stored photo, or why it cannot be read; call `measure` first."""
    return self._sizes[name]


def _plain(name: str) -> str:
  """Returns a path without backslashes, drive, `.` and `..`."""
  path = posixpath.normpath(_DRIVE.sub("", name.replace("\\", "/"))).lstrip("/")
  while path.startswith("../"):
    path = path[3:]
  return path


def _ends_in(path: str, name: str) -> bool:
  return f"/{path}".endswith(f"/{name}")


def frame_of(header: tuple[int, int, int] | str, size: tuple[int, int] | None, upright: bool = False) -> tuple:
  """Returns the pixel frame of an annotation: the stored pixels of its photo, or those of the upright photo.

  Args:
    header: from `Photos.header`.
    size: (width, height) that the annotation gives; None if unspecified.
    upright: the annotation is known to be in the upright photo.

  Returns:
    ((width, height) in that frame, whether it is upright, ""), or (None, False, reason) if there is none.
  """
  if isinstance(header, str):
    return None, False, header
  stored, turned = header[:2], header[2] >= 5
  as_shown = stored[::-1] if turned else stored
  if upright:
    return as_shown, True, ""
  if size is None or size == stored:
    return stored, False, ""
  if size == as_shown:
    return as_shown, True, ""
  if size == stored[::-1]:  # width and height were mixed up
    return stored, False, ""
  return None, False, f"its photo has {stored[0]} x {stored[1]} pixels, the annotation is for {size[0]} x {size[1]}"


def stamps(paths: Iterable[str]) -> dict[str, list]:
  """Returns a stamp for each file, or folder of files, that changes whenever the files do; raises OSError."""
  found = {}
  for path in paths:
    if storage.is_remote(path) or not os.path.isdir(path):
      found[path] = storage.stamp(path)
    else:
      with os.scandir(path) as entries:
        files = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries)
      found[path] = [hashlib.sha256(repr(files).encode("utf-8", "surrogateescape")).hexdigest()[:16]]
  return found


def list_header(photos: Photos, files: dict[str, list]) -> dict:
  """Returns the header entries that `still_holds` checks: the listed photos and the stamps of the annotation files."""
  return {"files": files, "photo_root": photos.root, "folders": photos.folders, "listed_at": photos.listed_at}


def still_holds(header: dict, files: Iterable[str], root: str) -> bool:
  """Returns whether a remembered index is up to date.

  Args:
    header: header of the index, with the entries of `list_header`.
    files: annotation files that the index must cover; it may cover more.
    root: folder or URL of the photos; for a bucket, which has no times, only the annotation files are checked.
  """
  return (
    header["files"].keys() >= set(files)
    and header["files"] == stamps(header["files"])
    and (storage.is_remote(root) or folders_unchanged(header["photo_root"], header["folders"], header["listed_at"]))
  )


def existing(path: str, setting: str, expected: str) -> str:
  """Returns the normalized path of a file or folder that the user gave.

  Args:
    path: as given.
    setting: the option that gave it.
    expected: description of what the path should be.

  Raises:
    ValueError: the path does not exist or is inaccessible.
  """
  root = storage.normalized(path)
  try:
    if storage.exists(root):
      return root
  except OSError as error:
    raise ValueError(f"{setting}={path}: {error}") from error
  raise ValueError(f"{setting}={path} does not exist; expected {expected}")


def _header(path: str) -> tuple[int, int, int] | str:
  try:
    with storage.open_binary(path) as file:
      (height, width), orientation = photo_header(file)
    return width, height, orientation
  except Image.UnidentifiedImageError:
    return "the photo is empty or not a readable image (JPEG, PNG, WebP or BMP)"
  except Exception as error:  # Pillow raises nearly every type on bad bytes
    return f"the photo cannot be read: {error}"
