"""Some good pictures among two hundred damaged files of ten kinds, the same every time, in every form they can have.

Kinds: a JPEG cut off, a PNG that declares billions of pixels, no bytes at all, a text called .jpg, a folder called
.jpg, a link to nowhere, a name that is no UTF-8, a name that comes twice (archives only), an archive cut in the middle
(tar only), a database without its lock file (LMDB only).
"""

import dataclasses
import io
import os
import pathlib
import struct
import tarfile
import warnings
import zipfile
import zlib

import cv2
import numpy as np

GOOD, OF_EACH_KIND = 40, 25

_NO_UTF8 = "NO-UTF8"  # as long as its stand-in in the bytes of an archive
_NO_UTF8_BYTES = b"\xff\xfe\xfd\xfc\xe9\xe8\xe7"


@dataclasses.dataclass(frozen=True)
class Files:
  """Names below the root, as Python has them (`os.fsdecode`), and contents.

  Attributes:
    good: pictures, one with a name that is no UTF-8.
    damaged: regular files that cannot be decoded.
    folders: folders that are named like images.
    links: links to nowhere that are named like images.
    twice: good names that come in archives a first time with contents that cannot be decoded.
  """

  good: dict[str, bytes]
  damaged: dict[str, bytes]
  folders: tuple[str, ...]
  links: tuple[str, ...]
  twice: tuple[str, ...]


def make_files() -> Files:
  """All files, in memory."""
  good = {f"good/{i:03d}.jpg": _jpeg(i) for i in range(GOOD - 1)}
  good[_odd("good/{}.jpg")] = _jpeg(GOOD)
  damaged = {}
  for i in range(OF_EACH_KIND):
    whole = _jpeg(1000 + i)
    damaged[f"cut/{i:03d}.jpg"] = whole[: len(whole) * (i + 5) // (OF_EACH_KIND + 10)]
    damaged[f"bomb/{i:03d}.png"] = _png_bomb(30_000 + 1000 * i)
    damaged[f"empty/{i:03d}.webp"] = b""
    damaged[f"text/{i:03d}.jpg"] = b"<html>404 not found: picture %d</html>" % i
    damaged[_odd(f"odd/{{}}{i:03d}.jpg")] = whole[:200]
  return Files(
    good,
    damaged,
    tuple(f"folder/{i:03d}.jpg" for i in range(OF_EACH_KIND)),
    tuple(f"link/{i:03d}.png" for i in range(OF_EACH_KIND)),
    tuple(sorted(good)[:OF_EACH_KIND]),
  )


def write_folder(root: pathlib.Path, files: Files) -> pathlib.Path:
  """The files as a folder."""
  for name in files.folders:
    (root / name).mkdir(parents=True)
  for name in files.links:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to("nowhere.png")
  for name, data in (files.good | files.damaged).items():
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
      file.write(data)
  return root


def write_tars(root: pathlib.Path, files: Files) -> pathlib.Path:
  """The files as two shards, of which the second is cut in the middle: its third member is lost."""
  root.mkdir()
  with tarfile.open(
    root / "shard-000.tar", "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
  ) as tar:
    for name in files.twice:
      _add(tar, name, b"an older version")
    for name in files.folders:
      _add(tar, name, kind=tarfile.DIRTYPE)
    for name in files.links:
      _add(tar, name, kind=tarfile.SYMTYPE)
    for name, data in (files.good | files.damaged).items():
      _add(tar, name, data)
  whole = io.BytesIO()
  with tarfile.open(fileobj=whole, mode="w") as tar:
    for i in range(6):
      _add(tar, f"late/{i}.jpg", _jpeg(2000 + i))
  third = tarfile.open(fileobj=io.BytesIO(whole.getvalue())).getmembers()[2]
  (root / "shard-001.tar").write_bytes(whole.getvalue()[: third.offset_data + third.size // 2])
  return root


def write_zip(path: pathlib.Path, files: Files) -> pathlib.Path:
  """The files as one zip, half of them deflated."""
  with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
    warnings.simplefilter("ignore")  # zipfile: Duplicate name
    for name in files.twice:
      archive.writestr(_stand_in(name), b"an older version")
    for name in files.folders:
      archive.writestr(zipfile.ZipInfo(name + "/"), b"")
    for name in files.links:
      link = zipfile.ZipInfo(name)
      link.create_system, link.external_attr = 3, 0o120777 << 16
      archive.writestr(link, b"nowhere.png")
    for number, (name, data) in enumerate((files.good | files.damaged).items()):
      archive.writestr(_stand_in(name), data, zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED)
  path.write_bytes(path.read_bytes().replace(_NO_UTF8.encode(), _NO_UTF8_BYTES))
  return path


def write_lmdb(root: pathlib.Path, files: Files) -> pathlib.Path:
  """The regular files as a database without its lock file, with what else such databases hold."""
  import lmdb

  with lmdb.open(str(root), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
    for name, data in (files.good | files.damaged).items():
      transaction.put(os.fsencode(name), data)
    transaction.put(b"__len__", b"\x80\x04K\x05.")
  (root / "lock.mdb").unlink()
  return root


def _add(tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE) -> None:
  member = tarfile.TarInfo(name)
  member.size, member.type, member.linkname = len(data), kind, "nowhere.png" * (kind == tarfile.SYMTYPE)
  tar.addfile(member, io.BytesIO(data))


def _odd(pattern: str) -> str:
  return pattern.format(os.fsdecode(_NO_UTF8_BYTES))


def _stand_in(name: str) -> str:
  return name.replace(os.fsdecode(_NO_UTF8_BYTES), _NO_UTF8)


def _jpeg(seed: int) -> bytes:
  image = np.random.default_rng(seed).integers(0, 255, (24, 12, 3), np.uint8)
  return cv2.imencode(".jpg", cv2.resize(image, (48, 96)))[1].tobytes()


def _png_bomb(side: int) -> bytes:
  chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(bytes(1 << 20), 9))
    + chunk(b"IEND", b"")
  )
