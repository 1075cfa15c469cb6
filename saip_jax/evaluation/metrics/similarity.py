"""Cosine similarities between features, and features that are equal.

Which of two equal features comes first would be decided by the order of files, so equal ones must be known to be equal:
their similarities to anything are the same to the last bit, which a product of matrices alone does not promise.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

_BLOCK_BYTES = 64 * 2**20  # similarities held at once
NOISE = 1e-5
"""Differences up to this share of the largest feature are rounding: what float32 makes of equal images in a network."""

_AT_ONCE = 256  # features that are compared, of which the first few tell most encoders from constant ones


@dataclasses.dataclass
class Variation:
  """Whether features differ by more than rounding; they may be added in parts, those of one shape are compared.

  Attributes:
    count: how many features were added.
    equal: all of them are equal up to rounding, `NOISE` of the first one's largest value.
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
  """Returns features (n, D) as they are, or all as the first one where they differ by rounding alone."""
  variation = Variation()
  variation.add(features)
  return np.broadcast_to(features[:1], features.shape).copy() if variation.equal else features


def on_distinct_rows(compute: Callable[[np.ndarray], np.ndarray], features: np.ndarray) -> np.ndarray:
  """Returns `compute(features)`, (n, D) -> (n, ...) row by row, with equal results for equal rows."""
  rows, place = _distinct(features)
  return compute(features) if len(rows) == len(features) else compute(features[rows])[place]


def similarities(asked: np.ndarray, shown: np.ndarray) -> Iterator[tuple[range, np.ndarray]]:
  """Yields, block by block of the rows that ask, which these are and their similarities to all that is shown.

  Args:
    asked: (Q, D) float32 of length 1, see `unit_features`.
    shown: (G, D) likewise.

  Yields:
    Rows of `asked`, and (rows, G) float32; equal rows of `shown` have equal ones.
  """
  rows, place = _distinct(shown)
  all_differ = len(rows) == len(shown)
  columns = shown.T if all_differ else shown[rows].T
  size = max(1, _BLOCK_BYTES // (4 * max(1, len(shown))))
  for start in range(0, len(asked), size):
    block = range(start, min(start + size, len(asked)))
    found = asked[block.start : block.stop] @ columns
    yield block, found if all_differ else found[:, place]


def unit_features(name: str, features: np.ndarray) -> np.ndarray:
  """Returns features as float32 of length 1; zeros stay zeros, and what differs by rounding alone becomes equal.

  Raises:
    ValueError: no (n, D) array with at least one number, or one that is not finite; `name` is what it is called.
  """
  features = np.asarray(features)
  if features.ndim != 2 or not features.size:
    raise ValueError(f"{name} have the shape {features.shape}: expected (images, width), at least one each")
  features = features.astype(np.float32)
  broken = np.flatnonzero(~np.isfinite(features).all(1))
  if len(broken):
    raise ValueError(f"{name}[{broken[0]}] is not finite: expected numbers; look at that image or at the weights")
  features = without_noise(features)
  lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
  return (features / np.maximum(lengths, 1e-12)[:, None]).astype(np.float32)


def _distinct(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns (m,) the first of each kind of equal rows of features (n, D), and (n,) which kind each row is of."""
  first: dict[bytes, int] = {}
  features = features + 0.0  # -0 is 0
  place = np.array([first.setdefault(row.tobytes(), len(first)) for row in features], np.int64)
  return np.unique(place, return_index=True)[1], place
