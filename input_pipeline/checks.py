"""Checks of settings and annotations, and the texts of their errors."""

import difflib
from collections.abc import Iterable, Sequence

LARGEST_NUMBER = 1e15
"""Of a number in an annotation; larger ones are errors."""

_MOST_LISTED = 6


def choices_hint(name, choices: Sequence[str]) -> str:
  """Returns the end of an error about a name that is none of the choices: the closest choice, and all of them.

  >>> choices_hint("folders", ["zip", "folder"])
  ", did you mean 'folder'? choices: folder, zip"
  """
  close = difflib.get_close_matches(str(name), list(choices), n=1)
  return (f", did you mean {close[0]!r}?" if close else ";") + f" choices: {', '.join(sorted(choices))}"


def shortlist(texts: Iterable[str]) -> str:
  """Returns texts separated by commas; of many, the first few and the number of the others."""
  texts = list(texts)
  more = f" and {len(texts) - _MOST_LISTED:,} more" if len(texts) > _MOST_LISTED else ""
  return ", ".join(texts[:_MOST_LISTED]) + more


def is_number(value) -> bool:
  """Whether a value is a finite number, no bool, that a float holds to a pixel."""
  return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


def require(condition: bool, message: str) -> None:
  """Raises ValueError(message) unless the condition holds."""
  if not condition:
    raise ValueError(message)


def require_sizes(path: str, sizes_hw: tuple[int, int], multiple: int = 1) -> None:
  """Raises ValueError unless height and width are positive multiples; `path` is the setting's name in the error."""
  require(
    len(sizes_hw) == 2 and all(size > 0 and size % multiple == 0 for size in sizes_hw),
    f"{path} is {sizes_hw}: height and width must be positive" + (f" multiples of {multiple}" if multiple > 1 else ""),
  )
