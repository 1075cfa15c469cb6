"""Attention of short sequences as Pallas TPU kernels."""

import functools

import jax
import jax.numpy as jnp

from saip_jax.backbones.packing import LANES
from saip_jax.backbones.pallas_kernels import Heads, backward_group, forward_group
from saip_jax.backbones.pallas_rows import Arrays, as_rows, key_segments, query_segments, run_rows


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
  check_heads(heads, width)
  if (segments_q is None) != (segments_k is None):
    raise ValueError("segments_q and segments_k come together: one of them is None")
  rows = [None if s is None else as_rows(s) for s in (segments_q, segments_k)]
  return _attend(q, k, v, *rows, heads, interpret)


def attend_by_kernel(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  key_mask: jax.Array | None = None,
  heads: int = 1,
  lengths: tuple[int, ...] = (),
) -> jax.Array:
  """Returns `attend_rows`; arguments and result as those of `attention.attend`."""
  keys = key_segments(k.shape[1], lengths, key_mask)
  queries = None if keys is None else query_segments(q.shape[1], lengths)
  return attend_rows(q, k, v, heads, queries, keys)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _attend(q, k, v, segments_q, segments_k, heads, interpret):
  return _attend_forward(q, k, v, segments_q, segments_k, heads, interpret)[0]


def _attend_forward(q, k, v, segments_q, segments_k, heads, interpret):
  segments = () if segments_q is None else (segments_q, segments_k)
  layout, lse = Heads(heads, q.shape[-1]), jax.ShapeDtypeStruct((len(q), heads, q.shape[1]), jnp.float32)
  group = lambda rows, masks, *refs: forward_group(rows, masks, layout, *refs)
  arrays = Arrays((q, k, v), (q, lse), segments=segments)
  out, lse = run_rows(group, arrays, heads, interpret, "attention_forward")
  return out, (q, k, v, lse, segments)


def _attend_backward(heads, interpret, residuals, dout):
  *qkv, lse, segments = residuals
  layout = Heads(heads, dout.shape[-1])
  group = lambda rows, masks, *refs: backward_group(rows, masks, layout, *refs)
  arrays = Arrays((*qkv, lse, dout), qkv, segments=segments)
  return *run_rows(group, arrays, heads, interpret, "attention_backward"), None, None


_attend.defvjp(_attend_forward, _attend_backward)


def check_heads(heads: int, width: int) -> None:
  """Raises ValueError unless the heads of a width can lie side by side on lanes."""
  if width % heads or (LANES % (width // heads) and (width // heads) % LANES):
    raise ValueError(
      f"{heads} heads of a width of {width}: a head's width must divide {LANES} or be a multiple of it;"
      ' with other widths use config.model.attention="xla"'
    )
