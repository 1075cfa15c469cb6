"""An LMDB file of encoded images as an ImageSource."""

import array
import os
import time

import numpy as np
import tqdm

from input_pipeline import storage
from input_pipeline.source import ImageSource, bounded
from input_pipeline.sources.containers.archive_members import MAX_IMAGE, too_large
from input_pipeline.sources.containers.lmdb_file import NAMED_DATABASE, LmdbFile, NoLmdb, Value
from input_pipeline.sources.index import cached_index, newest_trusted_ns

_DATA = "data.mdb"

_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in (2, 3, 4, 5))


def open_lmdb(path: str, split: str | None, cache_dir: str, setting: str) -> ImageSource:
  """Opens an LMDB file; see `LmdbSource`. It has no splits."""
  del split
  return LmdbSource(path, cache_dir, setting)


class LmdbSource(ImageSource):
  """Every value of an LMDB file that is an encoded image, in the order of the keys; a key is the image's name.

  The file is scanned once; the positions of the images are stored in an index in `cache_dir`, which is reused while
  size and time of the file are unchanged. Nothing is locked, written beside the file or unpickled. No process may
  write to the file while it is in use.

  Args:
    path: the folder with `data.mdb`, the file itself, or a folder with `lmdb/data.mdb`, as LUPerson has it.
    cache_dir: folder of the remembered index; made if missing.
    setting: the option or setting that gave `path`, named in messages.

  Raises:
    ValueError: no LMDB file, a truncated one, or no image in it.
  """

  def __init__(self, path: str | os.PathLike, cache_dir: str, setting: str = "data.path"):
    if storage.is_remote(path):
      raise ValueError(f"{setting}={path}: an LMDB file must be local; copy it, or run `saip prepare` on its machine")
    given = os.path.abspath(os.path.expanduser(path))
    self._path = os.path.join(given, _DATA) if os.path.isdir(given) else given
    below = os.path.join(given, "lmdb", _DATA)
    if os.path.isfile(below) and not os.path.isfile(self._path):
      self._path = below
    self._name = os.path.basename(os.path.dirname(given) if os.path.basename(given) == _DATA else given)
    if not os.path.isfile(self._path):
      raise ValueError(f"{setting}={path} does not exist or has no {_DATA}; expected a folder with one, or the file")
    self._index = cached_index(
      cache_dir,
      "lmdb",
      self._path,
      lambda header: _is_current(self._path, header),
      lambda: _scan(self._path, f"{setting}={path}"),
    )

  @property
  def identity(self) -> dict:
    """{source, name, length, digest}: the digest covers the keys and sizes of all images."""
    return {"source": "lmdb", "name": self._name, "length": len(self), "digest": self._index.header["digest"]}

  @property
  def left_out(self) -> list[tuple[str, str]]:
    """(key, reason) of values that are not images or are unreadable."""
    return [tuple(item) for item in self._index.header["left_out"]]

  def __len__(self) -> int:
    return len(self._index)

  def read(self, i: int) -> bytes:
    columns = self._index.columns
    return storage.read_range(self._path, columns["start"][i].item(), columns["size"][i].item())

  def name(self, i: int) -> str:
    return _text(self._index.text("name", i))


def _is_current(path: str, header: dict) -> bool:
  stamp = storage.stamp(path)
  return stamp == header["stamp"] and stamp[1] <= newest_trusted_ns(header["scanned_at"])


def _scan(path: str, setting_and_path: str) -> tuple[dict, dict, dict]:
  """Walks the file; returns header, texts and columns of its index."""
  scanned_at = time.time()
  names, starts, sizes, left_out, databases = [], array.array("q"), array.array("q"), [], []
  try:
    stamp = storage.stamp(path)
    with storage.open_binary(path) as file:
      content = LmdbFile(file, stamp[0])
      for value in tqdm.tqdm(content.values(), total=content.entries, unit=" keys", disable=None, desc="listing LMDB"):
        reason = _reason_against(value)
        if not reason:
          names.append(value.key)
          starts.append(value.start)
          sizes.append(value.size)
          continue
        left_out.append((_text(value.key), reason))
        if value.trouble == NAMED_DATABASE:
          databases.append(_text(value.key).rstrip("\0"))
      known = len(names) + len(left_out) - content.lost_pages
      if content.lost_pages:
        left_out.insert(
          0,
          (
            os.path.basename(path),
            f"damaged: {content.entries - known:,} of its {content.entries:,} entries are lost with their keys",
          ),
        )
  except NoLmdb as error:
    raise ValueError(f"{setting_and_path} {error}") from error
  except OSError as error:
    raise ValueError(f"{setting_and_path} cannot be read: {error.strerror or error}") from error
  if not names:
    inside = (
      f"it has named databases ({', '.join(databases[:5])}), but only the root database is read"
      if databases
      else "; ".join(f"{name}: {reason}" for name, reason in left_out[:3]) or "it is empty"
    )
    inside = inside.replace("\n", " ")  # keys may contain anything
    raise ValueError(
      f"{setting_and_path} holds no images: {inside}; expected encoded images (JPEG, PNG, WebP, BMP) as "
      "the values of its root database"
    )
  header = {"scanned_at": scanned_at, "stamp": stamp, "left_out": bounded(left_out)}
  return header, {"name": names}, {"start": np.array(starts, np.int64), "size": np.array(sizes, np.int64)}


def _reason_against(value: Value) -> str:
  """Returns why a value is not an image; "" if it is one, perhaps damaged."""
  data = value.beginning
  if value.trouble:
    return value.trouble
  if value.size > MAX_IMAGE:
    return too_large(MAX_IMAGE)
  if (
    data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))
    or data[:4] == b"RIFF"
    and data[8:12] == b"WEBP"
    or data[:2] == b"BM"
    and data[6:10] == bytes(4)
  ):
    return ""
  if not value.size:
    return "empty value (zero bytes)"
  if data.startswith(_PICKLES):
    return "a pickle, which is never loaded; store the encoded image bytes alone"
  if value.key.startswith(b"__") or data.isascii():
    return "a text or a number, not an image (JPEG, PNG, WebP, BMP)"
  return "not an image (JPEG, PNG, WebP, BMP)"


def _text(key: bytes) -> str:
  return key.decode("utf-8", "surrogateescape")
