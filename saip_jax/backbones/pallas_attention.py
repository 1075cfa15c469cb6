"""Attention of short sequences as a Pallas TPU kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.custom_partitioning import custom_partitioning
from jax.experimental.pallas import tpu as pltpu

from saip_jax.backbones.pallas_kernels import LANES, Heads, Masks, backward_group, forward_group

_WINDOW_BYTES = 8 * 2**20
"""Bytes of fast memory for the rows of a grid step, which are held twice: a step should be long, its start costs."""
_VMEM_BYTES = 64 * 2**20
_TOGETHER = 2
"""Rows whose instructions are interleaved."""


def attend_rows(
  q: jax.Array, k: jax.Array, v: jax.Array, heads: int, segments_q=None, segments_k=None, interpret: bool = False
) -> jax.Array:
  """Returns attention softmax(q k^T / sqrt(d)) v of every head, in the layout of the rows.

  The softmax is computed in float32, products add in float32. The backward pass is one kernel and recomputes the
  weights from the log-sum-exp. Lengths need not be multiples of anything: what lies beyond a row in its last registers
  takes no part in products and sums, the compiler masks it.

  Args:
    q: (B, Lq, heads * d), the heads side by side; d divides 128 or is a multiple of it.
    k: (B, Lk, heads * d).
    v: (B, Lk, heads * d).
    heads: number of heads.
    segments_q: None, or int of shape (Lq,) for all rows or (B, Lq): a query sees the keys of its own segment. A negative
      segment is padding: such a query sees no key and its output is zero, such a key is seen by no query.
    segments_k: (Lk,) or (B, Lk); None if `segments_q` is.
    interpret: run on any device, slowly; otherwise the kernel compiles for a TPU alone.

  Returns:
    (B, Lq, heads * d) in the dtype of q.

  Raises:
    ValueError: widths or segments do not fit.
  """
  width = q.shape[-1]
  if width % heads or (LANES % (width // heads) and (width // heads) % LANES):
    raise ValueError(
      f"{heads} heads of a width of {width}: a head's width must divide {LANES} or be a multiple of it;"
      ' with other widths use config.model.attention="xla"'
    )
  if (segments_q is None) != (segments_k is None):
    raise ValueError("segments_q and segments_k come together: one of them is None")
  rows = [None if s is None else _as_rows(s) for s in (segments_q, segments_k)]
  return _attend(q, k, v, *rows, heads, interpret)


def _as_rows(segments) -> jax.Array:
  segments = jnp.asarray(np.asarray(segments) if isinstance(segments, tuple) else segments, jnp.int32)
  return segments.reshape(-1, segments.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _attend(q, k, v, segments_q, segments_k, heads, interpret):
  return _attend_forward(q, k, v, segments_q, segments_k, heads, interpret)[0]


def _attend_forward(q, k, v, segments_q, segments_k, heads, interpret):
  segments = () if segments_q is None else (segments_q, segments_k)
  call = _batched(_forward, heads, interpret, tuple(len(s) == 1 < len(q) for s in segments))
  out, lse = call(q, k, v, *segments)
  return out, (q, k, v, lse, segments)


def _attend_backward(heads, interpret, residuals, dout):
  q, k, v, lse, segments = residuals
  call = _batched(_backward, heads, interpret, tuple(len(s) == 1 < len(q) for s in segments))
  return *call(q, k, v, lse, dout, *segments), None, None


_attend.defvjp(_attend_forward, _attend_backward)


def _forward(heads, interpret, q, k, v, *segments):
  """Returns the output and the log-sum-exp (B, heads, Lq)."""
  lse = jax.ShapeDtypeStruct((len(q), heads, q.shape[1]), jnp.float32)
  return _call(forward_group, heads, interpret, (q, k, v), segments, (q, lse), "attention_forward")


def _backward(heads, interpret, q, k, v, lse, dout, *segments):
  """Returns the gradients of q, k and v."""
  return _call(backward_group, heads, interpret, (q, k, v, lse, dout), segments, (q, k, v), "attention_backward")


def _call(group, heads: int, interpret: bool, arrays, segments, results, name: str):
  """Runs a kernel over the batch, several rows a grid step."""
  batch, _, width = arrays[0].shape
  step = max(1, min(batch, _WINDOW_BYTES // sum(2 * _row_bytes(a) for a in (*arrays, *results))))
  step -= step % _TOGETHER if step > _TOGETHER else 0

  def kernel(*refs):
    segment_refs, refs = refs[: len(segments)], refs[len(segments) :]
    shared = all(len(s) == 1 for s in segments)
    masks = lambda row: Masks(*(ref[row] for ref in segment_refs)) if segments else Masks(None, None)
    mask = masks(0) if shared else None
    of = lambda rows: [mask if shared else masks(row) for row in rows]
    layout = Heads(heads, width)

    def together(index, carry):
      rows = [index * _TOGETHER + offset for offset in range(_TOGETHER)]
      group(rows, of(rows), layout, *refs)
      return carry

    jax.lax.fori_loop(0, step // _TOGETHER, together, 0)
    if step % _TOGETHER:
      group([step - 1], of([step - 1]), layout, *refs)

  block = lambda a: pl.BlockSpec((step, *a.shape[1:]), lambda i: (i, 0, 0))
  once = lambda a: pl.BlockSpec((1, *a.shape[1:]), lambda i: (0, 0, 0))
  segments = [s[:, None] for s in segments]
  return pl.pallas_call(
    kernel,
    out_shape=[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in results],
    grid=(pl.cdiv(batch, step),),
    in_specs=[block(s) if len(s) == batch else once(s) for s in segments] + [block(a) for a in arrays],
    out_specs=[block(a) for a in results],
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",), vmem_limit_bytes=_VMEM_BYTES),
    interpret=interpret,
    name=name,
  )(*segments, *arrays)


def _row_bytes(a) -> int:
  """Returns the bytes of one row of the batch in fast memory, whose tiles are whole."""
  return -(-a.shape[1] // 16) * 16 * -(-a.shape[2] // LANES) * LANES * a.dtype.itemsize


@functools.cache
def _batched(function, heads: int, interpret: bool, shared: tuple[bool, ...]):
  """Returns the function split over devices by its batch, and mapped over by making the batch longer.

  Args:
    function: `_forward` or `_backward`.
    heads: its first argument.
    interpret: its second argument.
    shared: whether the segments of queries and of keys are those of all rows.
  """
  local = functools.partial(function, heads, interpret)
  split = custom_partitioning(local)
  arrays = "b q w, b k w, b k w" + (", b h q, b q w" if function is _backward else "")
  lengths = [f"{'one' if one else 'b'} {length}" for one, length in zip(shared, "qk")]
  results = "b q w, b k w, b k w" if function is _backward else "b q w, b h q"
  batch_of = lambda shape: shape.sharding.spec[0] if len(shape.sharding.spec) else None

  def partition(mesh, arguments, outputs):
    spec = lambda a, batch: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(batch, *[None] * (a.ndim - 1)))
    batch = batch_of(arguments[0])
    place = jax.tree.map(lambda a: spec(a, batch), arguments)
    inputs = (*place[: len(place) - len(shared)], *(
      spec(a, None if one else batch) for a, one in zip(arguments[len(place) - len(shared) :], shared)
    ))
    return mesh, local, jax.tree.map(lambda a: spec(a, batch), outputs), inputs

  split.def_partition(partition=partition, sharding_rule=", ".join([arrays, *lengths]) + " -> " + results,
    need_replication_factors=("q", "k", "w", "h"))
  mapped = jax.custom_batching.custom_vmap(lambda *arguments: split(*arguments))

  @mapped.def_vmap
  def _(size, is_mapped, *arguments):
    whole = [a if m else jnp.broadcast_to(a, (size, *a.shape)) for a, m in zip(arguments, is_mapped)]
    flat = [a.reshape(-1, *a.shape[2:]) for a in whole]
    outputs = _batched(function, heads, interpret, (False,) * len(shared))(*_full(flat, len(shared)))
    return [a.reshape(size, -1, *a.shape[1:]) for a in outputs], [True] * len(outputs)

  return mapped


def _full(arrays, segments: int):
  """Returns the arrays, the last ones repeated to the length of the batch."""
  batch = len(arrays[0])
  return [a if len(a) == batch else jnp.repeat(a, batch // len(a), axis=0) for a in arrays]
