"""Token sequences of several lengths packed into one row."""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

KeyMasks = Sequence[jax.Array | None] | None


@dataclasses.dataclass(frozen=True)
class Packing:
  """The layout of a row of tokens that holds sequences of several lengths.

  Every layer but attention processes the whole row at once; attention processes each group. One program for all
  lengths compiles several times faster than one for each, and its matrix products are larger.

  An image with one global view (aaaaa), one masked view (bbbbb) and three local views (cc, dd, ee) has one row; a batch
  has B rows of this layout:

      groups  (1, 5)   (1, 5)   (3, 2)
      row     a a a a a b b b b b c c d d e e      L = 16 tokens

  Attributes:
    groups: (sequences, tokens of each) in their order along the row.
  """

  groups: tuple[tuple[int, int], ...]

  def split(self, x: jax.Array) -> list[jax.Array]:
    """Returns one array (B * sequences, tokens, ...) per group of x (B, L, ...)."""
    return [part.reshape(-1, tokens, *x.shape[2:]) for (_, tokens), part in zip(self.groups, self._parts(x))]

  def join(self, parts: Sequence[jax.Array]) -> jax.Array:
    """Inverse of `split`; the sequences of a group may have a new length."""
    rows = [part.reshape(-1, count * part.shape[1], *part.shape[2:]) for (count, _), part in zip(self.groups, parts)]
    return rows[0] if len(rows) == 1 else jnp.concatenate(rows, axis=1)

  def _parts(self, x: jax.Array) -> list[jax.Array]:
    stops = [0]
    for count, tokens in self.groups:
      stops.append(stops[-1] + count * tokens)
    assert stops[-1] == x.shape[1], f"{self.groups} does not cover {x.shape[1]} tokens"
    return [x[:, start:stop] for start, stop in zip(stops, stops[1:])]

  def merged(self, batch: int, key_masks: KeyMasks) -> tuple["Packing", KeyMasks]:
    """Returns the packing and key masks with neighboring groups of one length merged, which compiles less code.

    The tokens stay in place; attention sees two groups instead of three:

        row     a a a a a b b b b b c c d d e e
        before  (1, 5)    (1, 5)    (3, 2)           masks of B, B and 3 B sequences
        after   (2, 5)              (3, 2)           masks of 2 B and 3 B sequences, image by image: a b a b ...

    Args:
      batch: B.
      key_masks: for each group None or (B * sequences, tokens) bool; None for no mask.
    """
    groups, masks = [], []
    members = zip(self.groups, key_masks or [None] * len(self.groups), strict=True)
    for tokens, same_length in itertools.groupby(members, key=lambda member: member[0][1]):
      counts, parts = zip(*((count, mask) for (count, _), mask in same_length))
      groups.append((sum(counts), tokens))
      masks.append(_merged_masks(batch, tokens, counts, parts))
    return Packing(tuple(groups)), masks

  def firsts(self, x: jax.Array) -> jax.Array:
    """Returns the first token of each sequence: (B, L, D) -> (B, sequences, D)."""
    return self.join([part[:, :1] for part in self.split(x)])


def _merged_masks(batch: int, tokens: int, counts: Sequence[int], masks: Sequence[jax.Array | None]):
  """Returns the key mask of groups of one length as one group, or None if none of them has a mask."""
  if len(masks) == 1 or all(mask is None for mask in masks):
    return masks[0]
  full = lambda n: jnp.ones((batch, n, tokens), bool)
  parts = [full(n) if mask is None else mask.reshape(batch, n, tokens) for n, mask in zip(counts, masks)]
  return jnp.concatenate(parts, axis=1).reshape(-1, tokens)
