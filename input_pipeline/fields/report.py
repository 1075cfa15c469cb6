"""Annotations that batches could not use: how many, and why."""

import collections

import numpy as np

from input_pipeline.source import ImageSource


class FieldReport:
  """Counts the images with unusable annotations, each image once for each reason.

  Args:
    source: the images.
  """

  def __init__(self, source: ImageSource):
    self._source = source
    self._seen = {}  # reason -> (length,) bool; an array, as a reason may hold for every image
    self._first = {}

  def record(self, index: int, reason: str) -> None:
    """Notes an unusable annotation of image `index`; noting it again changes nothing."""
    self._first.setdefault(reason, index)
    self._seen.setdefault(reason, np.zeros(len(self._source), bool))[index] = True

  @property
  def counts(self) -> collections.Counter:
    """Reason -> number of images."""
    return collections.Counter({reason: int(seen.sum()) for reason, seen in self._seen.items()})

  def lines(self) -> list[str]:
    """Returns a line for people per reason."""
    return [
      f"unknown  {reason}: {count:,} images, the first: {self._source.name(self._first[reason])}"
      for reason, count in sorted(self.counts.items())
    ]
