"""What images hold and batches leave out as unknown: how often, and why."""

import collections

import numpy as np

from input_pipeline.source import ImageSource


class FieldReport:
  """Counts each image once for each reason.

  Args:
    source: the images.
  """

  def __init__(self, source: ImageSource):
    self._source = source
    self._seen = {}  # reason -> (length,) bool; an array, as a reason may hold for every image
    self._first = {}

  def record(self, index: int, reason: str) -> None:
    """Notes that something of image `index` is left out; noting it again changes nothing."""
    self._first.setdefault(reason, index)
    self._seen.setdefault(reason, np.zeros(len(self._source), bool))[index] = True

  @property
  def counts(self) -> collections.Counter:
    """Reason -> number of images met."""
    return collections.Counter({reason: int(seen.sum()) for reason, seen in self._seen.items()})

  def lines(self) -> list[str]:
    """One line for a person per reason."""
    return [
      f"unknown  {reason}: {count:,} images, the first: {self._source.name(self._first[reason])}"
      for reason, count in sorted(self.counts.items())
    ]
