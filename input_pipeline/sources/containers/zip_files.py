"""Where the members of a zip archive lie, and their contents."""

import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from input_pipeline import storage
from input_pipeline.sources.containers.archive_members import Contents, Member

_STORED, _DEFLATED = 0, 8
_END, _END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q")
_ENTRY, _LOCAL = struct.Struct("<4s4B4HL2L5H2L"), struct.Struct("<4s2B4HL2L2H")
_UNIX = 3  # the system whose file modes an entry carries

# Local headers may have longer extra fields than the list says; what is after a member is at least as long.
_SLACK = 64


class _Damaged(Exception):
  """This zip cannot be read; the message says why."""


def scan_zip(file: BinaryIO, size: int, name: str) -> Contents:
  """Finds the members of a zip archive from the list at its end.

  Args:
    file: the archive, seekable.
    size: its size in bytes.
    name: what messages call it.

  Returns:
    Its members and what cannot be used of it, the archive itself under `name` where a part of it is lost.

  Raises:
    OSError: the file cannot be read.
  """
  contents = Contents()
  try:
    start, list_size, shift = _place_of_list(file, size)
    file.seek(start)
    for raw_name, fields in _entries(file.read(list_size)):
      _add(contents, raw_name, shift, start, **fields)
  except (_Damaged, struct.error) as error:
    reason = str(error) if isinstance(error, _Damaged) else "the list of its members is damaged"
    contents.left_out.append((name, reason if size else "empty file"))
  return contents


def read_zip_member(path: str, member: Member) -> bytes:
  """The contents of a member, never more bytes than its list promises; raises OSError."""
  data = storage.read_range(path, member.start, member.span)
  signature, *_, name_size, extra_size = _LOCAL.unpack_from(data)
  if signature != b"PK\3\4":
    raise OSError("damaged zip: no member begins where its list says")
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


def _place_of_list(file: BinaryIO, size: int) -> tuple[int, int, int]:
  """Where the list of members begins, its size, and how far all places are shifted by what precedes the archive."""
  tail_start = max(0, size - _END.size - 0xFFFF)
  file.seek(tail_start)
  tail = file.read(size - tail_start)
  at = tail.rfind(b"PK\5\6")
  while at >= 0 and at + _END.size > len(tail):
    at = tail.rfind(b"PK\5\6", 0, at)
  if at < 0:
    raise _Damaged("no zip archive, or cut off: the list of its members, which is at the end, is missing")
  _, disk, list_disk, _, _, list_size, list_start, _ = _END.unpack_from(tail, at)
  end = tail_start + at
  if end >= 20 + _END64.size:
    file.seek(end - 20 - _END64.size)
    both = file.read(_END64.size + 20)
    if both[_END64.size : _END64.size + 4] == b"PK\6\7" and both[:4] == b"PK\6\6":
      _, _, _, _, disk, list_disk, _, _, list_size, list_start = _END64.unpack_from(both)
      end -= 20 + _END64.size
  if disk or list_disk:
    raise _Damaged("one part of an archive in several parts; join them with `zip -s 0 PARTS.zip --out WHOLE.zip`")
  start = end - list_size
  if start < list_start:
    raise _Damaged("damaged: the list of its members is not where its end says")
  return start, list_size, start - list_start


def _entries(listed: bytes) -> Iterator[tuple[bytes, dict]]:
  """(name, facts) of every member in the list."""
  at = 0
  while at < len(listed):
    (
      signature,
      _,
      system,
      _,
      _,
      flags,
      method,
      _,
      _,
      _,
      stored,
      size,
      name_size,
      extra_size,
      comment_size,
      _,
      _,
      mode,
      start,
    ) = _ENTRY.unpack_from(listed, at)
    if signature != b"PK\1\2":
      raise _Damaged(f"the list of its members is damaged {len(listed) - at:,} bytes before its end")
    name_end = at + _ENTRY.size + name_size
    extra = listed[name_end : name_end + extra_size]
    if 0xFFFFFFFF in (stored, size, start):
      size, stored, start = _large(extra, size, stored, start)
    yield (
      listed[at + _ENTRY.size : name_end],
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
  """The numbers of an entry with those that did not fit in 32 bits taken from its extra fields."""
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
  list_start: int,
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
    contents.left_out.append((name, f"compressed by zip's method {method}; only stored and deflated members are read"))
  elif start + _LOCAL.size + stored > list_start or (method == _STORED and stored != size):
    contents.left_out.append((name, "damaged: its size cannot be as declared"))
  else:
    contents.add(name, Member(start, header + stored, stored, method, size))
