"""Cosine similarities of features, with bitwise equal results for equal features.

A matrix product alone may round equal rows differently, and then the order of files would decide which comes first.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

_BLOCK_BYTES = 64 * 2**20  # similarities in memory at once
NOISE = 1e-5
"""Differences up to this fraction of the largest feature are float32 rounding of equal images in a network."""

_AT_ONCE = 256  # features compared at once; the first few distinguish most encoders from constant ones


@dataclasses.dataclass
class Variation:
  """Whether features differ by more than rounding; features of one shape are compared, and may be added in parts.

  Attributes:
    count: number of added features.
    equal: whether all are equal up to rounding, `NOISE` times the largest value of the first one.
  """

  count: int = 0
  equal: bool = True
  _first: dict[tuple[int, ...], np.ndarray] = dataclasses.field(default_factory=dict)

  def add(self, features: np.ndarray) -> None:
    """Adds features (n, ...)."""
    self.count += len(features)
    for start in range(0, len(features), _AT_ONCE):
      if not self.equal:
        return
      some = features[start : start + _AT_ONCE]
      first = self._first.setdefault(some.shape[1:], some[0].copy())
      self.equal = bool((np.abs(some - first) <= NOISE * np.abs(first).max()).all())


def without_noise(features: np.ndarray) -> np.ndarray:
  """Returns features (n, D), all replaced by the first one if they differ only by rounding."""
  variation = Variation()
  variation.add(features)
  return np.broadcast_to(features[:1], features.shape).copy() if variation.equal else features


def on_distinct_rows(compute: Callable[[np.ndarray], np.ndarray], features: np.ndarray) -> np.ndarray:
  """Returns `compute(features)`, (n, D) -> (n, ...) row by row, with equal results for equal rows."""
  rows, place = _distinct(features)
  return compute(features) if len(rows) == len(features) else compute(features[rows])[place]


def similarities(queries: np.ndarray, gallery: np.ndarray) -> Iterator[tuple[range, np.ndarray]]:
  """Yields the similarities of blocks of queries to the whole gallery.

  Args:
    queries: (Q, D) float32 of length 1, see `unit_features`.
    gallery: (G, D) float32 of length 1.

  Yields:
    The rows of `queries`, and (rows, G) float32; equal rows of `gallery` have equal similarities.
  """
  rows, place = _distinct(gallery)
  all_differ = len(rows) == len(gallery)
  columns = gallery.T if all_differ else gallery[rows].T
  size = max(1, _BLOCK_BYTES // (4 * max(1, len(gallery))))
  for start in range(0, len(queries), size):
    block = range(start, min(start + size, len(queries)))
    found = queries[block.start : block.stop] @ columns
    yield block, found if all_differ else found[:, place]


def unit_features(name: str, features: np.ndarray) -> np.ndarray:
  """Returns features as float32 of length 1; zeros stay zeros, and features that differ only by rounding become equal.

  Args:
    name: name of the features in error messages.
    features: (n, D) float.

  Raises:
    ValueError: not an (n, D) array with at least one number, or a number that is not finite.
  """
  features = np.asarray(features)
  if features.ndim != 2 or not features.size:
    raise ValueError(f"{name} have the shape {features.shape}: expected (images, width), at least one each")
  features = features.astype(np.float32)
  broken = np.flatnonzero(~np.isfinite(features).all(1))
  if len(broken):
    raise ValueError(f"{name}[{broken[0]}] is not finite: expected numbers; check that image and the weights")
  features = without_noise(features)
  lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
  return (features / np.maximum(lengths, 1e-12)[:, None]).astype(np.float32)


def _distinct(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns (m,) the first of each group of equal rows of features (n, D), and (n,) the group of each row."""
  first: dict[bytes, int] = {}
  features = features + 0.0  # -0 is 0
  place = np.array([first.setdefault(row.tobytes(), len(first)) for row in features], np.int64)
  return np.unique(place, return_index=True)[1], place
