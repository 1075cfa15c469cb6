"""Finds the positions of the members of a tar archive by reading its headers, not its contents."""

import tarfile
from collections.abc import Callable
from typing import BinaryIO

from input_pipeline.sources.containers.archive_members import TAR, Contents, Member

# Bytes; valid headers are smaller, and a damaged one may ask for the whole archive.
_MAX_HEADER = 1 << 20

_COMPRESSED = {
  b"\x1f\x8b": ("gzip", "gzip -dc"),
  b"BZh": ("bzip2", "bzip2 -dc"),
  b"\xfd7zXZ": ("xz", "xz -dc"),
  b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
  b"\x04\x22\x4d\x18": ("lz4", "lz4 -dc"),
}


class CompressedTar(OSError):
  """The tar is compressed as a whole, which rules out random access.

  Attributes:
    method: the compression, e.g. "gzip".
    command: the command that decompresses it to standard output.
  """

  def __init__(self, method: str, command: str):
    super().__init__(method)
    self.method, self.command = method, command


def scan_tar(file: BinaryIO, size: int, name: str, advance: Callable[[int], None]) -> Contents:
  """Finds the members of a tar archive; in a damaged one, those before the damage.

  Args:
    file: the archive, seekable.
    size: its size in bytes.
    name: its name in messages.
    advance: called repeatedly with the number of bytes done.

  Returns:
    Its members; `left_out` has the unusable ones, and the archive itself under `name` if a part of it is lost.

  Raises:
    CompressedTar: the archive is compressed as a whole.
    OSError: the file cannot be read.
  """
  beginning = file.read(8)
  file.seek(0)
  for magic, (method, command) in _COMPRESSED.items():
    if beginning.startswith(magic):
      raise CompressedTar(method, command)
  contents, end = Contents(), 0
  try:
    archive = tarfile.TarFile(fileobj=_Headers(file), encoding="utf-8", errors="surrogateescape")
    while (entry := archive.next()) is not None:
      archive.members.clear()  # tarfile keeps all of them in memory
      if archive.offset <= end:
        raise tarfile.ReadError("a header of negative size")
      end = archive.offset
      advance(min(end, size))
      _add(contents, entry, size)
      if end > size:
        break
  except OSError:
    raise
  except Exception as error:  # tarfile raises nearly every type on bad headers, RecursionError among them
    reason = (
      f"damaged from byte {end:,} on: {error}" if end else f"not a tar archive: {error}" if size else "empty file"
    )
    contents.left_out.append((name, reason))
    return contents
  _check_end(file, archive.offset, name, contents)
  return contents


def _add(contents: Contents, entry: tarfile.TarInfo, size: int) -> None:
  if entry.isdir():
    contents.add_folder(entry.name)
  elif entry.issym() or entry.islnk():
    contents.left_out.append((entry.name, "a link, which is not followed"))
  elif not entry.isreg() or entry.issparse():
    contents.left_out.append((entry.name, "not a regular file (a device, a pipe or a file with holes)"))
  elif entry.size < 0 or entry.offset_data + entry.size > size:
    contents.left_out.append((entry.name, "truncated: the archive ends before it does"))
  else:
    contents.add(entry.name, Member(entry.offset_data, entry.size, entry.size, TAR, entry.size))


def _check_end(file: BinaryIO, end: int, name: str, contents: Contents) -> None:
  """Adds the archive to left_out if it does not end properly; tarfile stops silently at an invalid header."""
  file.seek(end)
  block = file.read(tarfile.BLOCKSIZE)
  if len(block) < tarfile.BLOCKSIZE:
    contents.left_out.append((name, "has no mark at its end: it may be truncated, and members lost"))
  elif any(block):
    contents.left_out.append((name, f"damaged from byte {end:,} on: not the header of a member"))
  elif any(file.read(_MAX_HEADER)):
    contents.left_out.append((name, "data after its end mark is not read (archives joined by cat?)"))


class _Headers:
  """A file from which only headers are read; a failed read is an OSError, not damage of the archive."""

  def __init__(self, file: BinaryIO):
    self._file, self.tell, self.seek = file, file.tell, file.seek

  def read(self, size: int) -> bytes:
    if not 0 <= size <= _MAX_HEADER:
      raise tarfile.ReadError(f"a header of {size:,} bytes")
    try:
      return self._file.read(size)
    except OSError:
      raise
    except Exception as error:  # each kind of bucket has its own errors
      raise OSError(f"{type(error).__name__}: {error}") from error
