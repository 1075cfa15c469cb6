"""The bootstrap: how a score varies if other persons, or other photos, had been in the test set.

Groups of images, such as those of one person, are drawn with replacement, as many as there are. The score is computed
with each image counted as often as its group is drawn. Nothing is fitted again. The draws depend only on the number of
groups, so that two encoders on one test set see the same ones and their scores can be subtracted draw by draw
(Efron and Tibshirani 1993, chapters 6 and 16).
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Resampling:
  """How the main score of a task depends on the number of times that each image counts.

  Attributes:
    score: name of the score.
    groups: (n,) int, the group of each image; images of a group are drawn together.
    of: (n,) float64 counts of the images -> the score; with all counts 1 that of the task.
  """

  score: str
  groups: np.ndarray
  of: Callable[[np.ndarray], float]


def bootstrap(resampling: Resampling, draws: int) -> np.ndarray:
  """Returns (draws,) float64 scores of resampled test sets.

    >>> values = np.array([0.0, 0.0, 1.0, 1.0])
    >>> resampling = Resampling("hits", np.arange(4), mean_of(values, np.ones(4)))
    >>> bool(abs(bootstrap(resampling, 2000).std() - 0.25) < 0.01)  # sqrt(0.5 * 0.5 / 4)
    True

  Args:
    resampling: the score and its groups.
    draws: number of test sets.
  """
  _, group = np.unique(resampling.groups, return_inverse=True)
  group = group.reshape(-1)
  return np.array([resampling.of(counts[group]) for counts in _counts(group.max() + 1, draws)])


def mean_of(sums: np.ndarray, counts: np.ndarray) -> Callable[[np.ndarray], float]:
  """Returns `Resampling.of` of a mean over all values; `sums` and `counts` (n,) are those of each image."""
  return lambda weights: float(weights @ sums / (weights @ counts))


def interval(draws: np.ndarray, share: float = 0.95) -> tuple[float, float]:
  """Returns the limits that hold the middle `share` of the draws."""
  low, high = np.quantile(draws, [(1 - share) / 2, (1 + share) / 2])
  return float(low), float(high)


def _counts(groups: int, draws: int) -> Iterator[np.ndarray]:
  """Yields (groups,) float64, how often each group is drawn."""
  random = np.random.default_rng(0)
  for _ in range(draws):
    yield np.bincount(random.integers(groups, size=groups), minlength=groups).astype(np.float64)
