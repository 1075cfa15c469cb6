"""Whether a data set holds what a field is read from."""

from collections.abc import Callable, Collection

import numpy as np

from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import parts_of

_TRIED = 64  # of each part of a mixture


def held_in(source: ImageSource, files: Collection[str], field: str, hint: str) -> list[str]:
  """In how many images, of some tried, one of these files is.

  Args:
    source: the images.
    files: names as in records.py.
    field: what is read from them, for messages.
    hint: what to do where there are none.

  Returns:
    A line for a person for each part of a mixture.

  Raises:
    ValueError: none of all images tried holds one.
  """
  return found_in(
    source, lambda facts, held: not held.keys().isdisjoint(files), field, f"comes with {' or '.join(files)}; {hint}"
  )


def found_in(source: ImageSource, holds: Callable[[dict, dict], bool], field: str, lack: str) -> list[str]:
  """As `held_in`. Args: holds: of facts and files, see records.py; lack: what none does where there are none."""
  lines, found = [], 0
  for name, part in parts_of(source).items():
    tried = np.unique(np.linspace(0, len(part) - 1, min(_TRIED, len(part))).astype(int)).tolist()
    held = sum(_holds(part, i, holds) for i in tried)
    lines.append(f"{field} in {held} of {len(tried)} images tried of {name!r}")
    found += held
  if not found:
    raise ValueError(
      f"data.source={source.identity['source']} ({source.identity['name']!r}) holds no {field}, which "
      f"this method reads: none of the images tried {lack}"
    )
  return lines


def _holds(source: ImageSource, i: int, holds: Callable[[dict, dict], bool]) -> bool:
  try:
    return holds(*source.annotations(i))
  except OSError:  # counted as damage when it is met
    return False
