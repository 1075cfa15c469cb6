"""Parts of a data set by identity, the same on every machine: what is held out, and shares of the rest."""

import hashlib
from collections.abc import Sequence

import numpy as np

from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import SubsetSource

_HELD_OUT = 3  # of ten identities, or of ten photos without identities


def hash_of(name: str) -> int:
  """Returns a number that depends only on a name, also one that is not UTF-8, and is the same on every machine."""
  return int(hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest(), 16)


def order_by_hash(names: Sequence[str]) -> np.ndarray:
  """Returns (n,) int64 positions of `names`, sorted by a hash of the name; equal names keep their order."""
  return np.array(sorted(range(len(names)), key=lambda k: hash_of(names[k])), np.int64)


def owner(facts: dict, name: str) -> str:
  """Returns the key of an image's group: its person, the photo it was cropped from, or the image.

  Args:
    facts: its annotations.
    name: its name.
  """
  person = next(iter(facts.get("people") or ()), {})
  return str(person.get("identity", facts.get("photo", name)))


def _owners(source: ImageSource) -> list[str]:
  """Returns the group of every image; the annotations of all of them are read."""
  return [owner(source.annotations(i)[0], source.name(i)) for i in range(len(source))]


def held_out(source: ImageSource) -> tuple[SubsetSource, SubsetSource]:
  """Divides images into a training part and a test part with disjoint identities.

  Three of ten identities, or of ten photos without identities, are the test part, by a hash of their names, so that the
  division is the same everywhere. The names of the parts record it.

  Args:
    source: the images.

  Raises:
    ValueError: a part would be empty.
  """
  keys = _owners(source)
  test = np.array([hash_of(key) % 10 < _HELD_OUT for key in keys])
  if test.all() or not test.any():
    raise ValueError(
      f"{source.identity['name']!r} cannot be divided into a training part and a test part: it "
      f"has {len(set(keys))} identities or photos; choose larger data, or splits instead of hold-out"
    )
  part = lambda rows, name: SubsetSource(source, np.flatnonzero(rows), name)
  return part(~test, "7 of 10, by hash"), part(test, "3 of 10, by hash")


def share_of(source: ImageSource, fraction: float) -> SubsetSource:
  """Returns the images of a share of the identities, or of the photos without identities.

  They are chosen by a hash of their names: the same everywhere, and a smaller share is part of every larger one.

  Args:
    source: the images.
    fraction: of the identities or photos, more than 0, at most 1; at least one of them is kept.
  """
  keys = _owners(source)
  names = sorted(set(keys))
  kept = {names[i] for i in order_by_hash(names)[: max(1, round(fraction * len(names)))]}
  return SubsetSource(source, np.flatnonzero([key in kept for key in keys]), f"{fraction:g} of its identities, by hash")
