"""Files of this machine by path, and files in buckets by URL, gs:// and s3://, through fsspec."""

import codecs
import contextlib
import hashlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from input_pipeline.buckets import download, file_system, listing, upload
from input_pipeline.names import shown

CACHE_ADVICE = "set SAIP_CACHE to a folder that can be written and has room"
NO_URL = "a URL: expected a path on this machine"

SCHEMES = ("gs", "s3", "hf", "memory")
"""Schemes of URLs of runs, weights and outputs; hf:// is for reading, memory:// lasts as long as the process."""


class Unwritable(OSError, ValueError):
  """A place cannot be written; a user error: another place can be chosen."""


def is_remote(path: str | os.PathLike) -> bool:
  """Whether a path is a URL, e.g. gs://bucket/folder."""
  return "://" in os.fspath(path)


def normalized(path: str | os.PathLike) -> str:
  """Returns an absolute path without links and `~`, or a URL without a slash at its end."""
  return os.fspath(path).rstrip("/") if is_remote(path) else str(pathlib.Path(path).expanduser().resolve())


def is_url(path: str | os.PathLike) -> bool:
  """Whether a path is a URL, or one that pathlib has changed to gs:/bucket/folder."""
  return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", os.fspath(path)))


def as_place(path, setting: str, writable: bool = False) -> str | pathlib.Path:
  """Returns a URL as text, without a slash at its end, or a local path with `~` expanded.

  >>> as_place("gs://bucket/runs/demo/", "--workdir")
  'gs://bucket/runs/demo'

  Args:
    path: what the user gave.
    setting: the option or setting that named it, for errors.
    writable: it will be written.

  Raises:
    ValueError: a URL of another scheme, without a bucket, or that cannot be written.
  """
  if not is_url(path):
    return pathlib.Path(path).expanduser()
  scheme, _, rest = str(path).partition(":")
  rest = rest.strip("/")
  url = f"{scheme}://{rest}"
  if scheme not in SCHEMES:
    listed = ", ".join(f"{known}://" for known in SCHEMES)
    raise ValueError(f"{setting}={path}: expected a local path or a URL of {listed}, not {scheme}://")
  if not rest:
    raise ValueError(f"{setting}={path} names no bucket: expected {scheme}://BUCKET/FOLDER")
  if writable and scheme == "hf":
    raise ValueError(f"{setting}={path}: hf:// can only be read; choose a local path, gs:// or s3://")
  return url


def local_path(path: str | os.PathLike, setting: str) -> pathlib.Path:
  """Returns a path on this machine with `~` expanded; raises ValueError, which names `setting`, for a URL."""
  if is_url(path):
    raise ValueError(f"{setting}={path} is {NO_URL}")
  return pathlib.Path(path).expanduser()


def plain_absolute(path: pathlib.Path) -> pathlib.Path:
  """Returns an absolute path without `..`, which TensorStore does not accept; other links stay."""
  return path.resolve() if ".." in path.parts else path.absolute()


def utf8_path(path: str | os.PathLike, setting: str) -> pathlib.Path:
  """Returns an absolute local path, for libraries that need UTF-8 (Orbax, safetensors); raises ValueError otherwise."""
  absolute = plain_absolute(local_path(path, setting))
  try:
    str(absolute).encode()
  except UnicodeEncodeError:
    text = os.fsencode(absolute).decode("utf-8", "replace")
    why = (
      "its name or that of a folder above it is no UTF-8, which the library that reads and writes it needs; rename"
      " it, or give a symbolic link to it"
      if "\ufffd" in text
      else "the locale of this process knows no UTF-8; set LC_ALL=C.UTF-8"
    )
    raise ValueError(f"{setting}={shown(os.fspath(path))}: {why}") from None
  return absolute


@contextlib.contextmanager
def writing(path: str | os.PathLike, label: str, advice: str) -> Iterator[None]:
  """Turns an OSError of a block that writes to a place into an `Unwritable` of one line.

  Args:
    path: the place.
    label: the text before it in the message: "--out=" if an option gave it, or words and a blank.
    advice: the change to make. In the user's cache, which no option sets, it is replaced by `CACHE_ADVICE`.
  """
  try:
    yield
  except Unwritable:
    raise
  except OSError as error:
    if f"{path}/".startswith(f"{cache_folder()}/"):
      label, advice = label if label.endswith(" ") else "", CACHE_ADVICE
    raise Unwritable(f"{label}{path} cannot be written ({error.strerror or error}); {advice}") from error


def exists(path: str) -> bool:
  """Whether there is a file or a folder."""
  if not is_remote(path):
    return os.path.exists(path)
  with file_system(path) as (files, key):
    return files.exists(key)


def is_folder(path: str) -> bool:
  """Whether there is a folder; in a bucket, any file below this prefix."""
  if not is_remote(path):
    return os.path.isdir(path)
  with file_system(path) as (files, key):
    return files.isdir(key)


def stamp(path: str) -> list:
  """Returns a JSON-able value that changes with a file: its size and time; in a bucket, its size and version."""
  if not is_remote(path):
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
  with file_system(path) as (files, key):
    return [files.size(key), files.ukey(key)]


def read_file(path: str) -> bytes:
  """Returns all bytes of a file; raises OSError."""
  if not is_remote(path):
    with open(path, "rb") as file:
      return file.read()
  with file_system(path) as (files, key):
    return files.cat_file(key)


def read_range(path: str | bytes, start: int, size: int) -> bytes:
  """Returns bytes [start, start + size) of a file; raises OSError, also if the file is shorter."""
  if isinstance(path, bytes) or not is_remote(path):
    handle = os.open(path, os.O_RDONLY)
    try:
      data = os.pread(handle, size, start)
    finally:
      os.close(handle)
  else:
    with file_system(path) as (files, key):
      data = files.cat_file(key, start, start + size)
  if len(data) != size:
    raise OSError(f"the file ends after {start + len(data)} bytes; {start + size} were expected")
  return data


def text_of(data: bytes, errors: str = "surrogateescape") -> str:
  """Returns the text of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

  Args:
    data: the bytes of the file.
    errors: as in `bytes.decode`; by default, bytes that are no UTF-8 are kept as `os.fsdecode` keeps those of names.
  """
  if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    return data.decode("utf-16", "replace")
  return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors)


def lines_of(data: bytes) -> list[str]:
  """Returns the lines of a text file, e.g. a list of names, without their ends (LF or CRLF); see `text_of`."""
  return [line.removesuffix("\r") for line in text_of(data).split("\n")]


def cache_folder() -> str:
  """Returns the folder of this user's caches: `$SAIP_CACHE`, or `~/.cache/saip_jax`."""
  return os.path.abspath(local_path(os.environ.get("SAIP_CACHE") or "~/.cache/saip_jax", "SAIP_CACHE"))


def local_copy(url: str) -> str:
  """Copies the file of a URL to the cache, for libraries that need a local file; returns its path.

  A copy of the present version is used again.
  """
  folder = os.path.join(cache_folder(), "copies")
  key = hashlib.sha256(json.dumps([url, stamp(url)]).encode()).hexdigest()[:32]
  path = os.path.join(folder, key)
  if not os.path.exists(path):
    with writing(folder, "the copy of a file in ", CACHE_ADVICE):
      os.makedirs(folder, exist_ok=True)
    with written_whole(path, by_several=True) as temporary:
      download(url, pathlib.Path(temporary))
  return path


@contextlib.contextmanager
def open_binary(path: str) -> Iterator[BinaryIO]:
  """Opens a file for reading bytes, with seek; raises OSError."""
  if not is_remote(path):
    with open(path, "rb") as file:
      yield file
    return
  with file_system(path) as (files, key):
    file = files.open(key, "rb")
  with file:
    yield file


def list_files(url: str) -> list[tuple[str, int]]:
  """Returns (name below the URL, size) of every file below a URL, sorted."""
  return [(name, info["size"]) for name, info in listing(url).items()]


def write_file(path: str, data: bytes) -> None:
  """Writes a file, whole or not at all; its folder must exist. Raises OSError."""
  with written_whole(path) as temporary, open(temporary, "wb") as file:
    file.write(data)


def remove(path: str) -> None:
  """Removes a file if it exists."""
  if not is_remote(path):
    pathlib.Path(path).unlink(missing_ok=True)
    return
  with file_system(path) as (files, key):
    if files.exists(key):
      files.rm_file(key)


@contextlib.contextmanager
def written_whole(path: str, by_several: bool = False) -> Iterator[str]:
  """Yields a temporary local path; if the block ends without an error, the file written there is moved to `path`.

  The temporary name ends in `.unfinished`. The next process overwrites what a killed one left there. If several
  processes may write at once, `by_several` gives each its own temporary name.
  """
  if not is_remote(path):
    own = f".{os.uname().nodename}.{os.getpid()}" if by_several else ""
    temporary = f"{os.path.splitext(path)[0]}{own}.unfinished"
    try:
      yield temporary
      os.replace(temporary, path)
    finally:
      with contextlib.suppress(OSError):  # on a read-only disk it fails too, and must not hide the first error
        pathlib.Path(temporary).unlink(missing_ok=True)
    return
  with tempfile.TemporaryDirectory() as folder:
    temporary = os.path.join(folder, "file")
    yield temporary
    upload(pathlib.Path(temporary), path)
