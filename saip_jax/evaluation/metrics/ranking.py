"""Scores of a ranking with ties: expected values over all orders of equal similarities.

Entries are ranked by falling similarity. All orders of t entries of equal similarity, behind a others, are equally
likely. With the m matches of a query at ranks r_1 < ... < r_m, of which r are among the t and b come before them:

    AP   mean over matches of k / r_k. The expected contribution of the t entries (McSherry & Najork 2008, section 4) is
         sum over j = 1 ... t of  r/t (b + 1 + (j - 1) (r - 1) / (t - 1)) / (a + j)
    hit  within K, r_1 <= K: 1 - C(t - r, K - a) / C(t, K - a) for the t that include the first match
    INP  m / r_m: sum over p = r ... t of  C(p - 1, r - 1) / C(t, r) m / (a + p)  for the t that include the last match

Without ties, t = r = 1 and these are the usual definitions.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Ranking:
  """The ranks of the matches of one query, as n groups of equal similarity, by falling similarity.

  Attributes:
    above: (n,) int, the number of entries with a larger similarity.
    entries: (n,) int, the number of entries of the group, including matches.
    matches: (n,) int, the number of matches of the group, at least one.
  """

  above: np.ndarray
  entries: np.ndarray
  matches: np.ndarray

  @property
  def tied(self) -> bool:
    """Whether a match and another entry have equal similarities."""
    return bool((self.entries > self.matches).any())

  def average_precision(self) -> float:
    """Returns the expected mean precision at the ranks of the matches."""
    before = np.cumsum(self.matches) - self.matches
    parts = (before + 1) / (self.above + 1)
    for n in np.flatnonzero(self.entries > 1):
      t, r, j = self.entries[n], self.matches[n], np.arange(self.entries[n])
      parts[n] = r / t * np.sum((before[n] + 1 + j * (r - 1) / (t - 1)) / (self.above[n] + 1 + j))
    return float(parts.sum() / self.matches.sum())

  def inverse_negative_penalty(self) -> float:
    """Returns the expectation of the number of matches divided by the rank of the last one."""
    m, a, t, r = self.matches.sum(), self.above[-1], self.entries[-1], self.matches[-1]
    places = np.arange(t, r - 1, -1)  # places of the last match in its group
    chances = r / t * np.cumprod(np.concatenate([[1.0], (places[:-1] - r) / (places[:-1] - 1)]))
    return float(np.sum(chances * (m / (a + places))))

  def hit_within(self, k: int) -> float:
    """Returns the probability that a match is among the first k entries."""
    drawn = int(min(max(k - self.above[0], 0), self.entries[0]))
    others = self.entries[0] - self.matches[0] - np.arange(drawn)
    return float(1 - np.prod(np.maximum(others, 0) / (self.entries[0] - np.arange(drawn))))


def ranking_of(similarities: np.ndarray, matches: np.ndarray) -> Ranking | None:
  """Returns the ranks of the matches among entries sorted by falling similarity; None if there is no match.

  Args:
    similarities: (G,) float.
    matches: (G,) bool.
  """
  values, counts = np.unique(similarities[matches], return_counts=True)
  if not len(values):
    return None
  ascending = np.sort(similarities)
  above = len(ascending) - np.searchsorted(ascending, values, "right")
  entries = len(ascending) - np.searchsorted(ascending, values, "left") - above
  return Ranking(above[::-1], entries[::-1], counts[::-1])
