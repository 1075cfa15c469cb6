"""How many images of a data set hold the annotations that a field reads, from a few images of it."""

from collections.abc import Callable, Collection

import numpy as np

from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import parts_of

_TRIED = 64  # images of each part of a mixture


def file_coverage(source: ImageSource, names: Collection[str], field: str, hint: str) -> list[str]:
  """Counts the images, of some tried, that have one of these files.

  Args:
    source: the images.
    names: of the files, see records.py.
    field: what is read from them, for messages.
    hint: what to change if there are none, for the error.

  Returns:
    A line for people for each part of a mixture.

  Raises:
    ValueError: none of the images tried has one.
  """
  has_one = lambda facts, files: not files.keys().isdisjoint(names)
  return coverage(source, has_one, field, f"comes with {' or '.join(names)}; {hint}")


def coverage(source: ImageSource, has: Callable[[dict, dict], bool], field: str, lack: str) -> list[str]:
  """As `file_coverage`.

  Args:
    source: the images.
    has: whether facts and files of an image, see records.py, hold what the field reads.
    field: what is read from them, for messages.
    lack: ends the error "none of the images tried ...".
  """
  lines, total = [], 0
  for name, part in parts_of(source).items():
    tried = np.unique(np.linspace(0, len(part) - 1, min(_TRIED, len(part))).astype(int)).tolist()
    count = sum(_has(part, i, has) for i in tried)
    lines.append(f"{field} in {count} of {len(tried)} images tried of {name!r}")
    total += count
  if not total:
    raise ValueError(
      f"data.source={source.identity['source']} ({source.identity['name']!r}) holds no {field}, which "
      f"this method reads: none of the images tried {lack}"
    )
  return lines


def _has(source: ImageSource, i: int, has: Callable[[dict, dict], bool]) -> bool:
  try:
    return has(*source.annotations(i))
  except OSError:  # counted as damage when a batch reads it
    return False
