"""The interface of a data set: encoded images by position, and the annotations of each."""

import abc
import itertools
from collections.abc import Iterable, Sequence

_NOT_LISTED = "left out as well, not listed one by one"


class ImageSource(abc.ABC):
  """Encoded images by position.

  This is the only interface between a data set and the pipeline: a new kind of data set needs no other members. A
  source is pickled into every decoding process, so its state must be small (paths, not names or bytes). Its methods are
  called by several threads at once.
  """

  identity: dict
  """JSON-able {source, name, length, digest}, the same wherever the data lies; part of a run's fingerprint. Sets for
  evaluation add `protocol`, the facts that belong to a score: {"split", "version", "attributes", ...}."""

  left_out: Sequence[tuple[str, str]] = ()
  """(name, reason) of all that looked like an image or a person while opening and is none of this source's images."""

  legend: dict = {}
  """JSON-able: the meaning of the numbers in `annotations`, e.g. {"joints": names}, {"attributes": names} or
  {"parts": names}."""

  read_from: Sequence[str] = ()
  """Paths of the annotation files that were read, if any."""

  categories: dict = {}
  """JSON-able {"persons": {name: count}, "others": {name: count}}: annotations by category, of persons and others; {}
  for a data set without categories."""

  @abc.abstractmethod
  def __len__(self) -> int:
    """The number of images; at least one."""

  @abc.abstractmethod
  def read(self, i: int) -> bytes:
    """Returns the encoded bytes of image `i`; raises OSError if they cannot be read."""

  @abc.abstractmethod
  def name(self, i: int) -> str:
    """Returns the name of image `i`, for messages and lists."""

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    """Returns the annotations of image `i`: facts (JSON-able) and files (name -> bytes), see records.py; raises OSError
    if they cannot be read."""
    del i
    return {}, {}


def bounded(left_out: Iterable[tuple[str, str]], limit: int = 1000) -> list[tuple[str, str]]:
  """Returns the first `limit` entries of a list of left-out items, and a last one that counts the rest.

  So the list stays short where a whole data set is unusable.
  """
  rest = iter(left_out)
  first = list(itertools.islice(rest, limit))
  more = sum(1 for _ in rest)
  return first + [(f"and {more:,} more", _NOT_LISTED)] * bool(more)


def count_left_out(left_out: Sequence[tuple[str, str]]) -> int:
  """Returns the number of left-out items, of a list that `bounded` may have shortened."""
  listed = [name for name, reason in left_out if reason != _NOT_LISTED]
  return len(listed) + sum(int(name.split()[1].replace(",", "")) for name, reason in left_out if reason == _NOT_LISTED)
