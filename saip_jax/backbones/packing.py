"""Token sequences of several lengths packed into rows of a few layouts."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

KeyMasks = Sequence[jax.Array | None] | None

LANES = 128
"""Tokens that a row of several sequences may hold: the width of a vector register of a TPU, of its matrix unit, and of
a tile of attention on a GPU."""


def sequence_numbers(lengths: Sequence[int]) -> np.ndarray:
  """Returns the number of the sequence, from 0, that each token of a row of sequences of these lengths belongs to."""
  return np.repeat(np.arange(len(lengths)), lengths)


def row_capacity(dtype) -> int:
  """Returns the tokens that short sequences may fill together: `LANES` in bfloat16, 0 in float32.

  An accelerator computes attention in tiles of 128 keys, so that three sequences of 40 tokens cost what one costs. A
  CPU computes the masked products too, and float32 is its precision.
  """
  return LANES if dtype == jnp.bfloat16 else 0


@dataclasses.dataclass(frozen=True)
class Slots:
  """Places in a row for sequences of one length.

  Attributes:
    groups: indices of the groups whose sequences stand here.
    sequences: number of sequences of an image, over all groups.
    per_row: how many of them stand in a row.
    tokens: length of each.
  """

  groups: tuple[int, ...]
  sequences: int
  per_row: int
  tokens: int


@dataclasses.dataclass(frozen=True)
class Rows:
  """Rows of one layout.

  Attributes:
    count: rows of an image.
    slots: the places in a row, in their order.
  """

  count: int
  slots: tuple[Slots, ...]

  @property
  def lengths(self) -> tuple[int, ...]:
    """Tokens of each sequence along a row."""
    return tuple(slots.tokens for slots in self.slots for _ in range(slots.per_row))


@dataclasses.dataclass(frozen=True)
class Packing:
  """The layout of sequences of several lengths as few arrays of rows.

  Each array has rows of equal layout, so that every layer but attention needs no cut, and attention is masked where
  sequences share a row. An image with two global views of 129 tokens, six local views of 33 and three small ones of 51
  has two arrays for `LANES` tokens in a row; a batch has B times these rows:

      groups  (2, 129)  (6, 33)  (3, 51)
      rows    2 x [129]     3 x [51 33 33]

  Sequences of more than half the capacity stand alone in their rows, those of one length in one array. A slot that no
  sequence fills holds zeros.

  Attributes:
    groups: (sequences, tokens of each) of each group.
    capacity: tokens that short sequences may fill together, see `row_capacity`.
  """

  groups: tuple[tuple[int, int], ...]
  capacity: int = 0

  @functools.cached_property
  def rows(self) -> tuple[Rows, ...]:
    """The layouts, one for each array."""
    rows, short = [], []
    for tokens in sorted({tokens for _, tokens in self.groups}, reverse=True):
      groups = tuple(index for index, (_, length) in enumerate(self.groups) if length == tokens)
      slots = Slots(groups, sum(self.groups[group][0] for group in groups), 1, tokens)
      if 2 * tokens <= self.capacity:
        short.append(slots)
      else:
        rows.append(Rows(slots.sequences, (slots,)))
    return (*rows, *_shared_rows(short, self.capacity))

  def join(self, parts: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """Returns the rows (B * count, L, ...) of each layout of parts (B * sequences, tokens, ...), one per group."""
    batch = len(parts[0]) // self.groups[0][0]
    return tuple(self._join(rows, parts, batch) for rows in self.rows)

  def _join(self, rows: Rows, parts: Sequence[jax.Array], batch: int) -> jax.Array:
    columns = []
    for slots in rows.slots:
      of_groups = [parts[group].reshape(batch, -1, *parts[group].shape[1:]) for group in slots.groups]
      column = _concatenate(of_groups, axis=1)
      if missing := rows.count * slots.per_row - slots.sequences:
        column = jnp.pad(column, ((0, 0), (0, missing), *((0, 0),) * (column.ndim - 2)))
      columns.append(column.reshape(batch * rows.count, -1, *column.shape[3:]))
    return _concatenate(columns, axis=1)

  def split(self, arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Inverse of `join`."""
    return self._split(arrays, lambda slots: slots.tokens)

  def split_firsts(self, arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns (B * sequences, D) of each group, of arrays (B * count, sequences in a row, D)."""
    return [part[:, 0] for part in self._split(arrays, lambda slots: 1)]

  def _split(self, arrays: Sequence[jax.Array], tokens_of) -> list[jax.Array]:
    parts = {}
    for rows, x in zip(self.rows, arrays, strict=True):
      end = 0
      for slots in rows.slots:
        tokens = tokens_of(slots)
        start, end = end, end + slots.per_row * tokens
        column = x[:, start:end].reshape(len(x) // rows.count, -1, tokens, *x.shape[2:])
        last = 0
        for group in slots.groups:
          first, last = last, last + self.groups[group][0]
          parts[group] = column[:, first:last].reshape(-1, tokens, *x.shape[2:])
      assert end == x.shape[1], f"{rows} does not cover {x.shape[1]} tokens"
    return [parts[group] for group in range(len(self.groups))]

  def join_masks(self, masks: KeyMasks, batch: int) -> tuple[jax.Array | None, ...]:
    """Returns the key mask (B * count, L) of each layout, None where nothing is masked.

    Args:
      masks: for each group None or (B * sequences, tokens) bool, False where a key is padding; None for no mask.
      batch: B.
    """
    masks = masks or [None] * len(self.groups)
    whole = [
      jnp.ones((batch * count, tokens), bool) if mask is None else mask
      for (count, tokens), mask in zip(self.groups, masks, strict=True)
    ]
    masked = lambda rows: any(masks[group] is not None for slots in rows.slots for group in slots.groups)
    return tuple(self._join(rows, whole, batch) if masked(rows) else None for rows in self.rows)


def _shared_rows(short: list[Slots], capacity: int) -> tuple[Rows, ...]:
  """Returns one layout for sequences of several lengths: the fewest rows of at most `capacity` tokens, if there are."""
  if not short:
    return ()
  most = max(slots.sequences for slots in short)
  for count in range(1, most + 1):
    layout = tuple(dataclasses.replace(slots, per_row=-(-slots.sequences // count)) for slots in short)
    if sum(slots.per_row * slots.tokens for slots in layout) <= capacity:
      break
  return (Rows(count, layout),)


def _concatenate(parts: list[jax.Array], axis: int) -> jax.Array:
  return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis)
