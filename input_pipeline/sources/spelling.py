"""Spelling of file names: the same file, written differently by a list and a disk."""

import collections
import re
import unicodedata
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

ONLY_SPELLING = "case, Unicode form, percent-escapes, blanks or the ending (.jpg, .jpeg)"
"""What names with the same `spelling` may differ in, for messages."""

_Item = TypeVar("_Item")
_JPEG, _BLANKS = re.compile(r"\.(jpe?g|jfif)$"), re.compile(r"\s*/\s*")


def spelling(name: str) -> str:
  """Returns a path without the differences that file systems, browsers and archives make.

  Windows and macOS ignore case, macOS decomposes letters (NFD), browsers escape blanks (%20), and .JPG, .jpg and .jpeg
  are the same. Two names with the same spelling mean the same file, unless both exist.
  """
  name = name.replace("\\", "/")
  if "%" in name:
    name = urllib.parse.unquote(name, errors="surrogateescape")
  if not name.isascii():
    name = unicodedata.normalize("NFC", name)
  return _JPEG.sub(".jpg", _BLANKS.sub("/", name.strip()).casefold())


def grouped(items: Iterable[_Item], key: Callable[[_Item], str]) -> dict[str, list[_Item]]:
  """Returns key -> the items with this key, in their order."""
  groups = collections.defaultdict(list)
  for item in items:
    groups[key(item)].append(item)
  return groups


def positions_of(names: Sequence[str], wanted: Collection[str]) -> dict[str, list[int]]:
  """Returns wanted name -> its position in a list, or the positions of all names with its spelling."""
  written = {name: i for i, name in enumerate(names)}
  found = {name: [written[name]] for name in wanted if name in written}
  lost = [name for name in wanted if name not in written]
  alike = grouped(range(len(names)), lambda i: spelling(names[i])) if lost else {}
  return found | {name: alike.get(spelling(name), []) for name in lost}
