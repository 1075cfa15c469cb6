"""Finds the positions of the values in an LMDB file by walking its pages, without the LMDB library.

The library maps the file into memory and trusts it: one missing page (a truncated copy) or overwritten page kills the
process by a signal. Training needs only the positions of the values; each is then one read of the file, from any
thread or process. The layout is that of LMDB 0.9 (data version 1) and 1.0 (3):

    page    number u64 | 1.0: transaction u64 | pad u16 | flags u16 | lower u16 | upper u16, then u16 offsets of nodes
    node    lo u16 | hi u16 | flags u16 | key size u16 | key (1.0: to an even size) | leaf: the value, or its page u64
"""

import dataclasses
import struct
from collections.abc import Iterator
from typing import BinaryIO

_MAGIC, _VERSIONS = 0xBEEFC0DE, {1: 16, 3: 24}  # data version -> size of a page's header
_BRANCH, _LEAF, _LEAF2, _OVERFLOW = 0x01, 0x02, 0x20, 0x04
_ON_PAGES, _DATABASE, _SEVERAL = 0x01, 0x02, 0x04  # flags of a node
_NO_PAGE = (1 << 64) - 1
_MAX_DEPTH = 32  # the library's limit
_NODE = struct.Struct("<4H")
_META = struct.Struct("<2I2Q")
_DATABASE_RECORD = struct.Struct("<I2H5Q")


@dataclasses.dataclass(frozen=True)
class Value:
  """A key and the position of its value.

  Attributes:
    key: the key; for a damaged page, its description.
    start: position of the value in the file, bytes.
    size: size of the value, bytes.
    beginning: the first bytes of the value.
    trouble: why the value is unreadable; "" if it is readable.
  """

  key: bytes
  start: int = 0
  size: int = 0
  beginning: bytes = b""
  trouble: str = ""


NAMED_DATABASE = "a named database"
"""The trouble of a key that names another database."""

_BEGINNING = 16


class NoLmdb(Exception):
  """The file cannot be read as LMDB; the message is a phrase that continues a sentence after the file's name."""


class LmdbFile:
  """The root database of an LMDB file; no process may write to the file meanwhile.

  Args:
    file: the data file, seekable.
    size: its size in bytes.

  Attributes:
    entries: number of entries according to the file.
    lost_pages: number of damaged pages that `values` has met so far; each holds entries or refers to further pages.

  Raises:
    NoLmdb: not an LMDB file, or its root page is missing.
  """

  def __init__(self, file: BinaryIO, size: int):
    self._file, self._size, self.lost_pages = file, size, 0
    head = self._at(0, 64)
    self._header = next(
      (at for at in _VERSIONS.values() if len(head) >= at + 8 and struct.unpack_from("<I", head, at)[0] == _MAGIC), 0
    )
    version = struct.unpack_from("<I", head, self._header + 4)[0] if self._header else 0
    if _VERSIONS.get(version) != self._header:
      raise NoLmdb("is not an LMDB file" if size else "is empty (zero bytes)")
    self._shift = self._header if version == 3 else 0
    # The first field of the free list is the page size; the newer of the two meta pages counts.
    self._page = struct.unpack_from("<I", self._at(self._header + _META.size, 4).ljust(4, b"\0"))[0]
    if self._page not in [1 << k for k in range(8, 17)]:
      raise NoLmdb(f"is not a readable LMDB file (pages of {self._page} bytes)")
    metas = [self._at(number * self._page + self._header, 136) for number in (0, 1)]
    metas = [meta for meta in metas if len(meta) == 136 and struct.unpack_from("<I", meta)[0] == _MAGIC]
    if len(metas) < 2:
      raise NoLmdb(f"is truncated: it ends after {size:,} bytes; copy it again")
    newest = max(metas, key=lambda meta: struct.unpack_from("<Q", meta, 128)[0])
    *_, self.entries, self._root = _DATABASE_RECORD.unpack_from(newest, 72)
    (last_page,) = struct.unpack_from("<Q", newest, 120)
    self._expected = (last_page + 1) * self._page
    if self._root != _NO_PAGE and (self._root + 1) * self._page > size:
      raise NoLmdb(f"is truncated: it ends after {size:,} bytes of {self._expected:,}; copy it again")

  def values(self) -> Iterator[Value]:
    """Yields all entries in the order of their keys; a damaged page gives one entry with its trouble."""
    if self._root == _NO_PAGE:
      return
    visited, pending = set(), [(self._root, 1)]
    while pending:
      number, depth = pending.pop()
      page = self._at(number * self._page, self._page)
      trouble = self._trouble(number, page, depth, visited)
      visited.add(number)
      if trouble:
        self.lost_pages += 1
        yield Value(b"page %d" % number, trouble=trouble)
        continue
      nodes = list(self._nodes(page))
      if struct.unpack_from("<H", page, self._header - 6)[0] & _BRANCH:
        children = [lo | hi << 16 | flags << 32 for _, lo, hi, flags, _ in nodes]
        pending += [(child, depth + 1) for child in reversed(children)]
      else:
        for at, lo, hi, flags, key_size in nodes:
          yield self._value(page, number * self._page, at, lo | hi << 16, flags, key_size)

  def _at(self, start: int, size: int) -> bytes:
    if not 0 <= start < self._size:
      return b""
    self._file.seek(start)
    return self._file.read(min(size, self._size - start))

  def _trouble(self, number: int, page: bytes, depth: int, visited: set[int]) -> str:
    """Returns what is wrong with a page of the tree; "" if nothing is."""
    if len(page) < self._page:
      return f"truncated: the file ends after {self._size:,} bytes of {self._expected:,}, and entries are lost"
    (own_number,) = struct.unpack_from("<Q", page)
    flags, lower, upper = struct.unpack_from("<3H", page, self._header - 6)
    kind = flags & (_BRANCH | _LEAF | _LEAF2 | _OVERFLOW)
    if (
      own_number != number
      or number in visited
      or depth > _MAX_DEPTH
      or kind not in (_BRANCH, _LEAF)
      or not self._header - self._shift <= lower <= upper <= self._page - self._shift
    ):
      return "a damaged page; its entries are lost"
    return ""

  def _nodes(self, page: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yields (offset in the page, its four header fields) of every node."""
    (lower,) = struct.unpack_from("<H", page, self._header - 4)
    count = (lower - (self._header - self._shift)) // 2
    for place in struct.unpack_from(f"<{count}H", page, self._header):
      at = place + self._shift
      if at + _NODE.size <= len(page):
        yield at, *_NODE.unpack_from(page, at)

  def _value(self, page: bytes, page_start: int, at: int, size: int, flags: int, key_size: int) -> Value:
    begin = at + _NODE.size + key_size
    key = page[at + _NODE.size : begin]
    begin += key_size % 2 if self._shift else 0
    if flags & _SEVERAL:
      return Value(key, trouble="several values under one key")
    if flags & _DATABASE:
      return Value(key, trouble=NAMED_DATABASE)
    if not flags & _ON_PAGES:
      if begin + size > len(page):
        return Value(key, trouble="damaged: it extends beyond its page")
      return Value(key, page_start + begin, size, page[begin : begin + min(size, _BEGINNING)])
    number = int.from_bytes(page[begin : begin + 8], "little")
    start = number * self._page + self._header
    if start + size > self._size:
      return Value(key, trouble="truncated: the file ends before it does")
    head = self._at(start - self._header, self._header + _BEGINNING)
    if int.from_bytes(head[:8], "little") != number:
      return Value(key, trouble="damaged: its page is overwritten")
    return Value(key, start, size, head[self._header :][:size])
