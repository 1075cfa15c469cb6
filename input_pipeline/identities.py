"""The identities of the persons in a data set."""

import numpy as np

from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import parts_of


def number_identities(source: ImageSource) -> tuple[np.ndarray, tuple[str, ...]]:
  """Numbers the identities of a data set; the annotations of all images are read.

  Args:
    source: the images. Parts of a mixture share no identity.

  Returns:
    (n,) int32, the identity of the first person of each image, from 1; 0 where it is unknown, or a distractor of the
    data set; and the sorted names of the identities 1, 2, ...

  Raises:
    ValueError: no identity is known.
  """
  known = {}  # index -> (part, identity)
  parts, start = parts_of(source), 0
  for name, part in parts.items():
    distractor = part.legend.get("distractor")
    for i in range(len(part)):
      identity = _identity(part, i)
      if identity is not None and identity != distractor:
        known[start + i] = (name, identity)
    start += len(part)
  if not known:
    raise ValueError(
      f"data.source={source.identity['source']} ({source.identity['name']!r}) has no identities, which "
      "re-identification learns from: choose data with identities, such as people or market1501"
    )
  persons = sorted(set(known.values()), key=lambda person: (person[0], isinstance(person[1], str), person[1]))
  number_of = {person: number for number, person in enumerate(persons, 1)}
  numbers = np.zeros(len(source), np.int32)
  numbers[list(known)] = [number_of[person] for person in known.values()]
  return numbers, tuple(str(identity) if len(parts) == 1 else f"{name}/{identity}" for name, identity in persons)


def _identity(source: ImageSource, i: int) -> int | str | None:
  try:
    facts, _ = source.annotations(i)
  except OSError:  # counted as damage when a batch reads it
    return None
  return next(iter(facts.get("people") or ()), {}).get("identity")
