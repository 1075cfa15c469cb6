"""The photos of an annotated data set: where they lie, and how large they are."""

import collections
import concurrent.futures
import hashlib
import os
import time
from collections.abc import Iterable

from PIL import Image
from tqdm import tqdm

from input_pipeline import storage
from input_pipeline.decode import photo_header
from input_pipeline.sources.folder import EXTENSIONS
from input_pipeline.sources.index import folders_unchanged

NO_PHOTO = "no such photo"
"""Why an annotation of a photo that is not there is left out."""

_THREADS = 16


class Photos:
  """All image files below a folder, listed once.

  Attributes:
    root: the folder or its URL.
    folders: folder below the root -> its modification time; empty for a bucket.
    listed_at: when the listing began, seconds since 1970.
  """

  def __init__(self, root: str, most: int | None = None):
    """Lists the folder; raises OSError, also where `most` is given and there are more files than that."""
    self.root, self.folders, self.listed_at, self._most = root, {}, time.time(), most
    self._sizes: dict[str, tuple[int, int, int] | str] = {}
    names = self._listed_bucket() if storage.is_remote(root) else self._walked()
    self._names = frozenset(name for name in names if os.path.splitext(name)[1].lower() in EXTENSIONS)
    self._by_base = collections.defaultdict(list)
    for name in sorted(self._names):
      self._by_base[name.rpartition("/")[2]].append(name)

  def __len__(self) -> int:
    return len(self._names)

  def __contains__(self, name: str) -> bool:
    return name in self._names

  def _listed_bucket(self) -> list[str]:
    return [name for name, _ in storage.list_files(self.root) if not any(p.startswith(".") for p in name.split("/"))]

  def _walked(self) -> list[str]:
    """Follows links to folders, which data sets are often put together from, but enters no folder twice."""
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
    """The photos in a folder below the root ("": all) and deeper, sorted."""
    return sorted(name for name in self._names if not folder or name.startswith(f"{folder}/"))

  def find(self, name: str, hint: str = "", base_is_enough: bool = True) -> tuple[str | None, str]:
    """The photo that an annotation names.

    Args:
      name: as the annotation gives it: a path below some folder of the data set, or a bare file name.
      hint: name of the annotation file; among several photos the one in a folder that this names is meant, as
        train2017 is by instances_train2017.
      base_is_enough: a photo whose own name alone is right is the one.

    Returns:
      (path below the root, ""), or (None, reason).
    """
    name = name.replace("\\", "/").strip("/").removeprefix("./")
    if name in self._names:
      return name, ""
    base = name.rpartition("/")[2]
    same_base = self._by_base.get(base, [])
    found = [path for path in same_base if path.endswith(f"/{name}")]
    if not found and base_is_enough:
      found = same_base
    for meant in (lambda folder: folder == hint, lambda folder: folder in hint):
      if len(found) > 1:
        found = [path for path in found if any(map(meant, path.split("/")[:-1]))] or found
    if len(found) > 1:
      return None, f"{len(found)} photos could be meant: {found[0]}, {found[1]}, ..."
    return (found[0], "") if found else (None, NO_PHOTO)

  def measure(self, names: Iterable[str]) -> None:
    """Reads the headers of these photos, many at once; `stored_size` and `orientation` then cost nothing."""
    unknown = sorted(set(names) - self._sizes.keys())
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
      measured = pool.map(lambda name: _header(f"{self.root}/{name}"), unknown, chunksize=16)
      self._sizes.update(zip(unknown, tqdm(measured, "photos", len(unknown), disable=None, leave=False)))

  def header(self, name: str) -> tuple[int, int, int] | str:
    """(width, height, orientation) of the stored photo, or why it cannot be read; `measure` comes first."""
    return self._sizes[name]


def frame_of(header: tuple[int, int, int] | str, size: tuple[int, int] | None, upright: bool = False) -> tuple:
  """In which pixels of a photo its annotation counts: the stored ones, or those of the upright photo.

  Args:
    header: as `Photos.header` gives it.
    size: (width, height) that the annotation states; None: none.
    upright: the annotation says that it counts in the upright photo.

  Returns:
    ((width, height) in that frame, whether it is the upright one, ""), or (None, False, why there is none).
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
  """What changes when a file does, or a file in a folder of them; raises OSError."""
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
  """What `still_holds` looks at: the photos as they were listed, and the stamps of the annotation files."""
  return {"files": files, "photo_root": photos.root, "folders": photos.folders, "listed_at": photos.listed_at}


def still_holds(header: dict, files: Iterable[str], root: str) -> bool:
  """Whether a remembered list is what it would be if it were made anew.

  Args:
    header: of its index, with the members of `list_header`.
    files: the annotation files that it has to be of; it may be of more.
    root: folder or URL of the photos; buckets have no times, so their annotation files alone are looked at.
  """
  return header["files"].keys() >= set(files) and header["files"] == stamps(header["files"]) and (
      storage.is_remote(root) or folders_unchanged(header["photo_root"], header["folders"], header["listed_at"]))


def existing(path: str, setting: str, expected: str) -> str:
  """The normalized path of what a person named.

  Args:
    path: as it was given.
    setting: the option that gave it.
    expected: what should be there, in words.

  Raises:
    ValueError: nothing is there, or it cannot be looked at.
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
    with storage.open_file(path) as file:
      (height, width), orientation = photo_header(file)
    return width, height, orientation
  except Image.UnidentifiedImageError:
    return "the photo is empty or no image that can be read (JPEG, PNG, WebP or BMP)"
  except Exception as error:  # Pillow raises nearly every type on bad bytes
    return f"the photo cannot be read: {error}"
