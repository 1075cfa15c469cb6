"""Images that are in a data set more than once: as the same bytes, or nearly the same picture."""

import itertools

import numpy as np

NEAR_BITS = 4
"""Outlines of near copies differ in at most so many of 64 bits: 98 % of pictures saved again or shrunk by a third."""

NEAR_LEVELS = 4.0
"""Thumbnails of near copies differ by at most so many levels of 255 on average; outlines alone may agree by chance."""

# Any NEAR_BITS differing bits leave _BLOCKS - NEAR_BITS of the blocks untouched, whichever they are; so near copies
# agree in one of the C(7, 3) = 35 choices of three blocks, about 27 bits, and few others do: linear, not quadratic.
_BLOCKS = 7
_BLOCK_ENDS = [round(64 * k / _BLOCKS) for k in range(_BLOCKS + 1)]
# Outlines with the same key that are compared with each other, so that a million empty walls end in time.
_MOST_NEIGHBOURS = 64


def exact_groups(digests: np.ndarray) -> list[np.ndarray]:
  """Groups of rows with equal digests.

  Args:
    digests: (n, 2) uint64.

  Returns:
    Ascending positions of each group of two or more, the biggest group first.
  """
  order = np.lexsort((digests[:, 1], digests[:, 0]))
  ordered = digests[order]
  starts = np.flatnonzero(np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(1)])) if len(order) else []
  return _biggest_first([np.sort(group) for group in np.split(order, starts[1:]) if len(group) > 1])


def near_groups(outlines: np.ndarray, thumbnails: np.ndarray) -> list[np.ndarray]:
  """Groups of pictures that are nearly the same, chained: each is near to another of its group, not to all.

  Args:
    outlines: (n,) uint64, the dHash of each picture.
    thumbnails: (n, cells) uint8, grey levels.

  Returns:
    Ascending positions of each group of two or more, the biggest group first.
  """
  leader = np.arange(len(outlines))
  for pairs in near_pairs(outlines):
    levels = np.abs(thumbnails[pairs[0]].astype(np.int16) - thumbnails[pairs[1]]).mean(1)
    _join(leader, pairs[:, levels <= NEAR_LEVELS])
  leader = _leaders(leader)
  order = np.argsort(leader, kind="stable")
  starts = np.flatnonzero(np.diff(leader[order])) + 1
  return _biggest_first([group for group in np.split(order, starts) if len(group) > 1])


def near_pairs(outlines: np.ndarray):
  """Yields (2, k) arrays of positions whose outlines differ in at most `NEAR_BITS` bits; a pair may come often."""
  blocks = [np.uint64(((1 << end) - 1) ^ ((1 << start) - 1)) for start, end in itertools.pairwise(_BLOCK_ENDS)]
  for kept in itertools.combinations(blocks, _BLOCKS - NEAR_BITS):
    key = outlines & np.bitwise_or.reduce(kept)
    order = np.argsort(key, kind="stable")
    key = key[order]
    alive = np.arange(len(key))
    for distance in range(1, _MOST_NEIGHBOURS + 1):
      alive = alive[alive < len(key) - distance]
      alive = alive[key[alive] == key[alive + distance]]
      if not len(alive):
        break
      pairs = np.stack([order[alive], order[alive + distance]])
      differing = np.bitwise_count(outlines[pairs[0]] ^ outlines[pairs[1]])
      yield pairs[:, differing <= NEAR_BITS]


def _join(leader: np.ndarray, pairs: np.ndarray) -> None:
  """Union-find over a few pairs, in place; the leader of a group is its first picture."""
  for a, b in pairs.T.tolist():
    while (up := leader[a]) != a:
      leader[a] = leader[up]
      a = up
    while (up := leader[b]) != b:
      leader[b] = leader[up]
      b = up
    leader[max(a, b)] = min(a, b)


def _leaders(leader: np.ndarray) -> np.ndarray:
  while (up := leader[leader]).tobytes() != leader.tobytes():
    leader = up
  return leader


def _biggest_first(groups: list[np.ndarray]) -> list[np.ndarray]:
  return sorted(groups, key=lambda group: (-len(group), group[0]))
