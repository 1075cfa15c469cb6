"""Finds the members of a zip archive in its central directory, and reads them.

`zipfile` is not used for the directory: it rejects a directory as a whole if one entry is damaged, has a name that is
not UTF-8 or a newer version. Here the entries before the damage are read, and names are data whatever their encoding.
"""

import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from input_pipeline import storage
from input_pipeline.sources.containers.archive_members import Contents, Member

_STORED, _DEFLATED = 0, 8
_END, _END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q")
_LOCAL = struct.Struct("<4s2B4HL2L2H")
# Signature, system, flags, method, stored size, size, sizes of name, extra and comment, mode, start; rest skipped.
_ENTRY = struct.Struct("<4sxB2x2H8x2L3H4x2L")
_UNIX = 3  # the system of an entry with Unix file modes

# Local headers may have longer extra fields than the directory entries.
_SLACK = 64


class _Damaged(Exception):
  """The directory of a zip cannot be read; the message is the reason."""


def scan_zip(file: BinaryIO, size: int, name: str) -> Contents:
  """Finds the members of a zip archive in its central directory.

  Args:
    file: the archive, seekable.
    size: its size in bytes.
    name: its name in messages.

  Returns:
    Its members; `left_out` has the unusable ones, and the archive itself under `name` if a part of it is lost.

  Raises:
    OSError: the file cannot be read.
  """
  contents = Contents()
  try:
    start, directory_size, shift = _find_directory(file, size)
    file.seek(start)
    for raw_name, fields in _entries(file.read(directory_size)):
      _add(contents, raw_name, shift, start, **fields)
  except (_Damaged, struct.error) as error:
    reason = str(error) if isinstance(error, _Damaged) else "its central directory is damaged"
    contents.left_out.append((name, reason if size else "empty file"))
  return contents


def read_zip_member(path: str, member: Member) -> bytes:
  """Reads a member, never more bytes than its directory entry declares; raises OSError."""
  data = storage.read_range(path, member.start, member.span)
  signature, *_, name_size, extra_size = _LOCAL.unpack_from(data)
  if signature != b"PK\3\4":
    raise OSError("damaged zip: no member at the position in its central directory")
  begin = _LOCAL.size + name_size + extra_size
  data = (
    data[begin : begin + member.stored]
    if begin + member.stored <= len(data)
    else storage.read_range(path, member.start + begin, member.stored)
  )
  if member.method == _STORED or not member.size:
    return data[: member.size]
  try:
    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size)
  except zlib.error as error:
    raise OSError(f"damaged zip: {error}") from error
  if len(data) != member.size:
    raise OSError(f"damaged zip: the member has {len(data)} bytes of {member.size}")
  return data


def _find_directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
  """Returns position and size of the central directory, and the shift of all positions by data before the archive."""
  tail_start = max(0, size - _END.size - 0xFFFF)
  file.seek(tail_start)
  tail = file.read(size - tail_start)
  at = tail.rfind(b"PK\5\6")
  while at >= 0 and at + _END.size > len(tail):
    at = tail.rfind(b"PK\5\6", 0, at)
  if at < 0:
    raise _Damaged("not a zip archive, or truncated: the central directory at its end is missing")
  _, disk, directory_disk, _, _, directory_size, directory_start, _ = _END.unpack_from(tail, at)
  end = tail_start + at
  if end >= 20 + _END64.size:
    file.seek(end - 20 - _END64.size)
    both = file.read(_END64.size + 20)
    if both[_END64.size : _END64.size + 4] == b"PK\6\7" and both[:4] == b"PK\6\6":
      _, _, _, _, disk, directory_disk, _, _, directory_size, directory_start = _END64.unpack_from(both)
      end -= 20 + _END64.size
  if disk or directory_disk:
    raise _Damaged("one part of an archive in several parts; join them with `zip -s 0 PARTS.zip --out WHOLE.zip`")
  start = end - directory_size
  if start < directory_start:
    raise _Damaged("damaged: the central directory is not at the position that its end record gives")
  return start, directory_size, start - directory_start


def _entries(directory: bytes) -> Iterator[tuple[bytes, dict]]:
  """Yields (name, fields) of every member in the central directory."""
  at = 0
  while at < len(directory):
    signature, system, flags, method, stored, size, *sizes, mode, start = _ENTRY.unpack_from(directory, at)
    name_size, extra_size, comment_size = sizes
    if signature != b"PK\1\2":
      raise _Damaged(f"its central directory is damaged {len(directory) - at:,} bytes before its end")
    name_end = at + _ENTRY.size + name_size
    extra = directory[name_end : name_end + extra_size]
    if 0xFFFFFFFF in (stored, size, start):
      size, stored, start = _large(extra, size, stored, start)
    yield (
      directory[at + _ENTRY.size : name_end],
      dict(
        start=start,
        stored=stored,
        size=size,
        method=method,
        encrypted=bool(flags & 0x2041),
        is_link=system == _UNIX and stat.S_ISLNK(mode >> 16),
        header=_LOCAL.size + name_size + extra_size + _SLACK,
      ),
    )
    at = name_end + extra_size + comment_size


def _large(extra: bytes, *numbers: int) -> Iterator[int]:
  """Yields the numbers of an entry, those that do not fit in 32 bits from its zip64 extra field."""
  at, large = 0, b""
  while at + 4 <= len(extra):
    kind, length = struct.unpack_from("<2H", extra, at)
    if kind == 1:
      large = extra[at + 4 : at + 4 + length]
    at += 4 + length
  values = struct.iter_unpack("<Q", large[: len(large) // 8 * 8])
  for number in numbers:
    yield next(values, (number,))[0] if number == 0xFFFFFFFF else number


def _add(
  contents: Contents,
  raw_name: bytes,
  shift: int,
  directory_start: int,
  *,
  start: int,
  stored: int,
  size: int,
  method: int,
  encrypted: bool,
  is_link: bool,
  header: int,
) -> None:
  name = raw_name.decode("utf-8", "surrogateescape")
  start += shift
  if name.endswith("/"):
    contents.add_folder(name)
  elif is_link:
    contents.left_out.append((name, "a link, which is not followed"))
  elif encrypted:
    contents.left_out.append((name, "encrypted; unpack it and pack it again without a password"))
  elif method not in (_STORED, _DEFLATED):
    contents.left_out.append(
      (name, f"compressed with zip's method {method}; only stored and deflated members are read")
    )
  elif start + _LOCAL.size + stored > directory_start or (method == _STORED and stored != size):
    contents.left_out.append((name, "damaged: its declared size is impossible"))
  else:
    contents.add(name, Member(start, header + stored, stored, method, size))
