"""Finds images that a data set has more than once: exact copies (same bytes) and near copies (nearly same pixels)."""

import itertools
from collections.abc import Iterator

import numpy as np

NEAR_BITS = 4
"""Maximum number of differing bits, of 64, between the outlines (dHash) of near copies; finds 98 % of the images that
were saved again or shrunk by a third."""

NEAR_LEVELS = 4.0
"""Maximum mean difference, in levels of 255, between the thumbnails of near copies; outlines may agree by chance."""

# NEAR_BITS differing bits change at most NEAR_BITS of the blocks; so near copies agree in one of the C(7, 3) = 35
# choices of three blocks, about 27 bits, and few other images do. This makes the search linear, not quadratic.
_BLOCKS = 7
_BLOCK_ENDS = [round(64 * k / _BLOCKS) for k in range(_BLOCKS + 1)]
# Maximum number of neighbors with the same key to compare an outline with, which bounds the time for many blank images.
_MOST_NEIGHBORS = 32

_BITS_OF_16 = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)


def exact_groups(digests: np.ndarray) -> list[np.ndarray]:
  """Returns the groups of rows with equal digests.

  Args:
    digests: (n, 2) uint64.

  Returns:
    Ascending positions of each group of two or more, the largest group first.
  """
  order = np.lexsort((digests[:, 1], digests[:, 0]))
  return _groups_of(order, (digests[order[1:]] != digests[order[:-1]]).any(1))


def near_groups(outlines: np.ndarray, thumbnails: np.ndarray) -> list[np.ndarray]:
  """Returns the groups of near copies, chained: each image is near to another one of its group, not to all.

  Args:
    outlines: (n,) uint64, the dHash of each image.
    thumbnails: (n, cells) uint8, gray levels.

  Returns:
    Ascending positions of each group of two or more, the largest group first.
  """
  leader = np.arange(len(outlines))
  for pairs in near_pairs(outlines):
    levels = np.abs(thumbnails[pairs[0]].astype(np.int16) - thumbnails[pairs[1]]).mean(1)
    _join(leader, pairs[:, levels <= NEAR_LEVELS])
  leader = _leaders(leader)
  order = np.argsort(leader, kind="stable")
  return _groups_of(order, leader[order[1:]] != leader[order[:-1]])


def near_pairs(outlines: np.ndarray) -> Iterator[np.ndarray]:
  """Yields (2, k) arrays of positions with outlines that differ in at most `NEAR_BITS` bits; pairs may repeat.

  Equal outlines are paired with their neighbors among each other, and only the first of them with different ones.
  """
  order = np.argsort(outlines, kind="stable")
  yield from _equal_pairs(outlines[order], order)
  first = order[np.concatenate([[True], np.diff(outlines[order]) > 0])] if len(order) else order
  blocks = [np.uint64(((1 << end) - 1) ^ ((1 << start) - 1)) for start, end in itertools.pairwise(_BLOCK_ENDS)]
  for chosen in itertools.combinations(blocks, _BLOCKS - NEAR_BITS):
    key = outlines[first] & np.bitwise_or.reduce(chosen)
    order = np.argsort(key, kind="stable")
    for pairs in _equal_pairs(key[order], first[order]):
      differing = _BITS_OF_16[(outlines[pairs[0]] ^ outlines[pairs[1]]).view(np.uint16).reshape(-1, 4)].sum(1)
      yield pairs[:, differing <= NEAR_BITS]


def _equal_pairs(key: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
  """Yields pairs of rows with equal keys; `key` is sorted. Many equal keys give only pairs of neighbors."""
  alive = np.arange(len(key))
  for distance in range(1, _MOST_NEIGHBORS + 1):
    alive = alive[alive < len(key) - distance]
    alive = alive[key[alive] == key[alive + distance]]
    if not len(alive):
      return
    yield np.stack([rows[alive], rows[alive + distance]])


def _join(leader: np.ndarray, pairs: np.ndarray) -> None:
  """Merges the groups of each pair in place (union-find); the leader of a group is its first image."""
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


def _groups_of(order: np.ndarray, changes: np.ndarray) -> list[np.ndarray]:
  """Splits `order` where `changes` is true, i.e. where the next row differs; returns pieces of two or more rows, the
  largest first."""
  ends = np.append(np.flatnonzero(changes) + 1, len(order))
  starts = np.append(0, ends[:-1])
  pieces = [np.sort(order[starts[k] : ends[k]]) for k in np.flatnonzero(ends - starts > 1)]
  return sorted(pieces, key=lambda group: (-len(group), group[0]))
