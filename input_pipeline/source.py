"""What a data set is to the pipeline: encoded images by position, and what else is known of each."""

import abc
import itertools
from collections.abc import Iterable, Sequence

_NOT_LISTED = "left out as well, not listed one by one"


class ImageSource(abc.ABC):
  """Encoded images by position.

  The one interface between a data set and the pipeline: a new kind of data needs these members and nothing else. A
  source is pickled into every decoding process, so its state must be small (paths, not names or bytes), and its
  methods are called by several threads at once.
  """

  identity: dict
  """JSON-able {source, name, length, digest}, the same wherever the data lies; part of a run's fingerprint. Sets that
  are evaluated on add `protocol`, what has to be told with a score: {"split", "version", "attributes", ...}."""

  left_out: Sequence[tuple[str, str]] = ()
  """(name, reason in plain words) of whatever looked like an image and is none of this source, found while opening."""

  legend: dict = {}
  """JSON-able: what the numbers of `annotations` mean where they do not say so themselves, e.g. {"joints": names},
  {"attributes": names} or {"parts": names}."""

  read_from: Sequence[str] = ()
  """Paths of the annotation files that were read, where there are some."""

  categories: dict = {}
  """JSON-able {"persons": {name: count}, "others": {name: count}} of annotations by their category: those that were
  taken for persons and those that were not; {} where a data set names none."""

  @abc.abstractmethod
  def __len__(self) -> int:
    """The number of images; at least one."""

  @abc.abstractmethod
  def read(self, i: int) -> bytes:
    """The encoded bytes of image `i`; raises OSError where they cannot be read."""

  @abc.abstractmethod
  def name(self, i: int) -> str:
    """What a person would call image `i`, for messages."""

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    """What is known of image `i`: facts (JSON-able) and files (name -> bytes), named as records.py says; raises
    OSError where they cannot be read."""
    del i
    return {}, {}


def bounded(left_out: Iterable[tuple[str, str]], limit: int = 1000) -> list[tuple[str, str]]:
  """The first `limit` of a list of what was left out, and one last entry that counts the rest: a data set that is
  wrong throughout must not make a list as long as itself."""
  rest = iter(left_out)
  first = list(itertools.islice(rest, limit))
  more = sum(1 for _ in rest)
  return first + [(f"and {more:,} more", _NOT_LISTED)] * bool(more)


def count_left_out(left_out: Sequence[tuple[str, str]]) -> int:
  """How many were left out, where `bounded` may have counted some in one entry."""
  listed = [name for name, reason in left_out if reason != _NOT_LISTED]
  return len(listed) + sum(int(name.split()[1].replace(",", "")) for name, reason in left_out if reason == _NOT_LISTED)
