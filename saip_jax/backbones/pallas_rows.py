"""Runs a Pallas TPU kernel over the rows of a batch: several rows a grid step, each device its own rows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec as P

from saip_jax.backbones.packing import LANES, sequence_numbers
from saip_jax.backbones.pallas_kernels import Masks

_WINDOW_BYTES = 8 * 2**20
"""Bytes of fast memory for the rows of a grid step, which are held twice: a step should be long, its start costs."""
_VMEM_BYTES = 64 * 2**20  # of 128 MiB


class Arrays(NamedTuple):
  """What a kernel reads and writes; every entry has a shape and a dtype.

  Attributes:
    rows: read, B first.
    results: written, B first.
    weights: read, the same for all rows.
    sums: written, float32, added up over all rows.
    scratch: (rows of a step that are computed together, ...), neither read nor written outside.
    segments: () or those of queries and of keys, (B or 1, L) int32 each.
  """

  rows: Sequence
  results: Sequence
  weights: Sequence = ()
  sums: Sequence = ()
  scratch: Sequence = ()
  segments: Sequence = ()


def together(heads: int) -> int:
  """Returns the rows whose instructions are interleaved: one with many heads keeps the units busy by itself."""
  return 2 if heads <= 8 else 1


def run_rows(group: Callable, arrays: Arrays, heads: int, interpret: bool, name: str) -> list[jax.Array]:
  """Runs a kernel on the rows of each device of the mesh that `jax.sharding.use_abstract_mesh` has set, if any.

  Args:
    group: (indices of some rows, a `Masks` of each, references to weights, rows, results, sums and scratch) -> None.
    arrays: what it reads and writes.
    heads: number of heads.
    interpret: run on any device, slowly; otherwise the kernel compiles for a TPU alone.
    name: of the kernel.

  Returns:
    The results, then the sums.

  Raises:
    ValueError: the devices of the mesh are not TPUs.
  """
  batch = len(arrays.rows[0])

  def local(segments, weights, rows):
    own = arrays._replace(segments=segments, weights=weights, rows=rows)
    return _call(group, own, together(heads), interpret, name)

  inputs = tuple(arrays.segments), tuple(arrays.weights), tuple(arrays.rows)
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.are_all_axes_manual:
    return local(*inputs)
  kind = mesh.abstract_device.device_kind
  if not kind.startswith("TPU") and not interpret:
    raise ValueError(
      f'config.model.attention is "pallas", which are kernels for TPUs, but the devices of this run are {kind!r}:'
      ' use "xla"'
    )

  def summed(*inputs):
    outputs = local(*inputs)
    results, sums = outputs[: len(arrays.results)], outputs[len(arrays.results) :]
    return [*results, *(jax.lax.psum(a, mesh.axis_names) for a in sums)]

  split, whole = P(mesh.axis_names), P()
  shared = tuple(whole if len(s) == 1 < batch else split for s in arrays.segments)
  outputs = [split] * len(arrays.results) + [whole] * len(arrays.sums)
  return jax.shard_map(summed, in_specs=(shared, whole, split), out_specs=outputs, check_vma=False)(*inputs)


def _call(group, arrays: Arrays, each: int, interpret: bool, name: str) -> list[jax.Array]:
  """Runs a kernel over the rows of one device, `each` of them together."""
  batch = len(arrays.rows[0])
  results = [jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype) for a in arrays.results]
  step = rows_of_step(batch, sum(map(row_bytes, (*arrays.rows, *results))), each, whole=len(arrays.sums) > 0)
  segments = [s[:, None] for s in arrays.segments]
  shared = len(segments) > 0 and all(len(s) == 1 for s in segments)

  def kernel(*refs):
    segment_refs, refs = refs[: len(segments)], refs[len(segments) :]
    of_row = lambda ref, row: ref[row if ref.shape[0] > 1 else 0]
    mask_of = lambda row: Masks(*(of_row(ref, row) for ref in segment_refs)) if segments else Masks()
    same = mask_of(0) if shared else None

    if arrays.sums:
      start = len(arrays.weights) + len(arrays.rows) + len(results)

      @pl.when(pl.program_id(0) == 0)
      def _():
        for ref in refs[start : start + len(arrays.sums)]:
          ref[...] = jnp.zeros(ref.shape, ref.dtype)

    def compute(rows):
      group(rows, [same or mask_of(row) for row in rows], *refs)

    def some(index, carry):
      compute([index * each + offset for offset in range(each)])
      return carry

    jax.lax.fori_loop(0, step // each, some, 0)
    if step % each:
      compute([step - 1])

  def of_step(a):
    batched = a.shape[0] == batch
    return pl.BlockSpec((step if batched else 1, *a.shape[1:]), lambda i: (i if batched else 0, 0, 0))

  whole = lambda a: pl.BlockSpec(a.shape, lambda i: (0,) * len(a.shape))
  order = "arbitrary" if arrays.sums else "parallel"  # sums grow from step to step
  return pl.pallas_call(
    kernel,
    out_shape=[*results, *arrays.sums],
    grid=(pl.cdiv(batch, step),),
    in_specs=[*map(of_step, segments), *map(whole, arrays.weights), *map(of_step, arrays.rows)],
    out_specs=[*map(of_step, results), *map(whole, arrays.sums)],
    scratch_shapes=[pltpu.VMEM(a.shape, a.dtype) for a in arrays.scratch],
    compiler_params=pltpu.CompilerParams(dimension_semantics=(order,), vmem_limit_bytes=_VMEM_BYTES),
    interpret=interpret,
    name=name,
  )(*segments, *arrays.weights, *arrays.rows)


def rows_of_step(batch: int, size: int, each: int, whole: bool) -> int:
  """Returns the rows of a grid step.

  Args:
    batch: rows of all steps.
    size: bytes of all arrays of a row.
    each: rows that are computed together.
    whole: no step may reach beyond the batch, because what it reads there would enter the sums.
  """
  most = max(1, min(batch, _WINDOW_BYTES // (2 * size)))
  if whole:
    divisors = [n for n in range(1, most + 1) if batch % n == 0]
    return max(divisors, key=lambda n: (n % each == 0, n))
  if most <= each:
    return most
  even = pl.cdiv(batch, pl.cdiv(batch, most - most % each))  # no step has far fewer rows than the others
  return pl.cdiv(even, each) * each


def row_bytes(a) -> int:
  """Returns the bytes of one row (L, width) of the batch in memory, whose tiles are whole."""
  return -(-a.shape[1] // 8) * 8 * -(-a.shape[2] // LANES) * LANES * a.dtype.itemsize


def as_rows(segments) -> jax.Array:
  """Returns segments (L,) or (B, L) as (1 or B, L) int32."""
  return jnp.atleast_2d(jnp.asarray(segments, jnp.int32))


def query_segments(tokens: int, lengths: tuple[int, ...]) -> jax.Array:
  """Returns the sequence that each token of a row belongs to, (1, tokens) int32.

  Args:
    tokens: L.
    lengths: tokens of the sequences that share a row, see `packing.Rows`; empty for a single sequence.
  """
  return as_rows(sequence_numbers(lengths) if lengths else np.zeros(tokens))


def key_segments(tokens: int, lengths: tuple[int, ...], key_mask: jax.Array | None) -> jax.Array | None:
  """Returns the segments of keys, (1 or B, tokens) int32, or None if every query sees all of them.

  Args:
    tokens: L.
    lengths: as for `query_segments`.
    key_mask: (B, L) bool, False where a key is padding; None for no padding.
  """
  if key_mask is None and len(lengths) < 2:
    return None
  own = query_segments(tokens, lengths)
  return own if key_mask is None else jnp.where(key_mask, own, -1)
