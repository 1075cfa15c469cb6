"""Attention of short sequences as a Pallas TPU kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec as P

from saip_jax.backbones.pallas_kernels import LANES, Heads, Masks, backward_group, forward_group

_WINDOW_BYTES = 8 * 2**20
"""Bytes of fast memory for the rows of a grid step, which are held twice: a step should be long, its start costs."""
_VMEM_BYTES = 64 * 2**20  # of 128 MiB
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
    segments_q: None, or int of shape (Lq,) for all rows or (B, Lq): a query sees the keys of its own segment. Negative
      ones are padding: such a query sees no key and its output is zero, such a key is seen by no query.
    segments_k: (Lk,) or (B, Lk); None if `segments_q` is.
    interpret: run on any device, slowly; otherwise the kernel compiles for a TPU alone.

  Returns:
    (B, Lq, heads * d) in the dtype of q.

  Raises:
    ValueError: widths or segments do not fit, or the devices of the mesh are not TPUs.
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
  lse = jax.ShapeDtypeStruct((len(q), heads, q.shape[1]), jnp.float32)
  out, lse = _run(forward_group, heads, interpret, segments, (q, k, v), (q, lse))
  return out, (q, k, v, lse, segments)


def _attend_backward(heads, interpret, residuals, dout):
  *arrays, segments = residuals
  gradients = _run(backward_group, heads, interpret, segments, (*arrays, dout), arrays[:3])
  return *gradients, None, None


_attend.defvjp(_attend_forward, _attend_backward)


def _run(group, heads: int, interpret: bool, segments, arrays, results):
  """Runs a kernel on the rows of each device of the mesh that `jax.sharding.use_abstract_mesh` has set, if any.

  Args:
    group: `forward_group` or `backward_group`.
    heads: number of heads.
    interpret: as in `attend_rows`.
    segments: () or those of queries and keys, (B or 1, L) each.
    arrays: what the kernel reads, B first.
    results: anything with the shapes and dtypes of what it writes, B first.
  """
  batch = len(arrays[0])
  kernel = lambda segments, arrays: _call(group, heads, interpret, segments, arrays, results)
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.are_all_axes_manual:
    return kernel(segments, arrays)
  platform = mesh.abstract_device.platform
  if platform != "tpu" and not interpret:
    raise ValueError(
      f'config.model.attention is "pallas", which are kernels for TPUs, but the devices of this run are of platform'
      f' {platform!r}: use "xla"'
    )
  split, whole = P(mesh.axis_names), P()
  shared = tuple(whole if len(s) == 1 < batch else split for s in segments)
  kernel = jax.shard_map(kernel, in_specs=(shared, split), out_specs=split, check_vma=False)
  return kernel(segments, arrays)


def _call(group, heads: int, interpret: bool, segments, arrays, results) -> list[jax.Array]:
  """Runs a kernel over the rows of one device, several rows a grid step."""
  batch, _, width = arrays[0].shape
  results = [jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype) for a in results]
  step = max(1, min(batch, _WINDOW_BYTES // sum(2 * row_bytes(a) for a in (*arrays, *results))))
  step -= step % _TOGETHER if step > _TOGETHER else 0
  shared = len(segments) > 0 and all(len(s) == 1 for s in segments)

  def kernel(*refs):
    segment_refs, refs = refs[: len(segments)], refs[len(segments) :]
    of_row = lambda ref, row: ref[row if ref.shape[0] > 1 else 0]
    mask_of = lambda row: Masks(*(of_row(ref, row) for ref in segment_refs)) if segments else Masks()
    same = mask_of(0) if shared else None

    def together(rows):
      masks = [same or mask_of(row) for row in rows]
      group(rows, masks, Heads(heads, width), *refs)

    def some(index, carry):
      together([index * _TOGETHER + offset for offset in range(_TOGETHER)])
      return carry

    jax.lax.fori_loop(0, step // _TOGETHER, some, 0)
    if step % _TOGETHER:
      together([step - 1])

  def block(a):
    batched = a.shape[0] == batch
    return pl.BlockSpec((step if batched else 1, *a.shape[1:]), lambda i: (i if batched else 0, 0, 0))

  inputs = [s[:, None] for s in segments] + list(arrays)
  return pl.pallas_call(
    kernel,
    out_shape=results,
    grid=(pl.cdiv(batch, step),),
    in_specs=[block(a) for a in inputs],
    out_specs=[block(a) for a in results],
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",), vmem_limit_bytes=_VMEM_BYTES),
    interpret=interpret,
    name=f"attention_{group.__name__}",
  )(*inputs)


def row_bytes(a) -> int:
  """Returns the bytes of one row of the batch in fast memory, whose tiles are whole."""
  return -(-a.shape[1] // 8) * 8 * -(-a.shape[2] // LANES) * LANES * a.dtype.itemsize
