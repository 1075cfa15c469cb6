"""Pallas TPU kernels of attention over short sequences: whole rows of several images in fast memory, no online softmax.

The logits of a head lie as (keys, queries): keys on sublanes, queries on lanes. Then the maximum and the sum over keys
are additions of registers, what belongs to a query (its log-sum-exp) is one row of lanes, and only arrays of the size
of q are transposed. Heads stay where they are, side by side on lanes: a product reads the 128 lanes that hold a head,
with the lanes of its neighbors set to zero in one operand, which costs the matrix unit nothing.

128 patches and a class token fill the lanes once and begin a second time. That single query is computed apart, as
(heads, keys): one row for each head.
"""

import functools

import jax
import jax.numpy as jnp

from saip_jax.backbones.packing import LANES

_LOG2_E = 1.4426950408889634
_HIDDEN = -1e30  # logit of a key of another segment
_LEAST = -1e29  # least maximum: a query without keys gets weights of zero

_f32 = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
rows_rows = lambda a, b: _f32(a, b, (((1,), (1,)), ((), ())))  # a b^T
product = lambda a, b: _f32(a, b, (((1,), (0,)), ((), ())))  # a b
_columns = lambda a, b: _f32(a, b, (((0,), (0,)), ((), ())))  # a^T b
_over_keys = functools.partial(jnp.sum, axis=0, keepdims=True)


class Heads:
  """Where the heads lie in a row of `width` lanes."""

  def __init__(self, heads: int, width: int):
    self.heads, self.size = heads, width // heads
    self.scale = self.size**-0.5
    self.to_log2 = _LOG2_E * self.scale  # logits -> exponents of two

  def tiles(self):
    """Yields (heads, lanes) of each 128 lanes."""
    together = max(1, LANES // self.size)
    for first in range(0, self.heads, together):
      heads = range(first, min(first + together, self.heads))
      yield heads, slice(first * self.size, (heads[-1] + 1) * self.size)

  def keep(self, x: jax.Array, place: int) -> jax.Array:
    """Returns (L, lanes of a tile) with zeros outside the head at this place of the tile."""
    if x.shape[1] == self.size:
      return x
    lane = jax.lax.broadcasted_iota(jnp.int32, (1, x.shape[1]), 1)
    inside = (lane >= place * self.size) & (lane < (place + 1) * self.size)
    return jnp.where(inside, x.astype(jnp.float32), 0.0).astype(x.dtype)

  def part(self, x: jax.Array, place: int) -> jax.Array:
    """Returns the sublanes of a head of a transposed tile."""
    return x[place * self.size : (place + 1) * self.size]

  def choose(self, tiles: list[jax.Array]) -> jax.Array:
    """Returns (L, lanes of a tile), the lanes of each head from its own array."""
    lane, chosen = jax.lax.broadcasted_iota(jnp.int32, (1, tiles[0].shape[1]), 1), tiles[0]
    for place in range(1, len(tiles)):
      chosen = jnp.where(lane >= place * self.size, tiles[place], chosen)
    return chosen

  def own(self, x: jax.Array) -> jax.Array:
    """Returns (heads, width), row h zero outside head h, from (heads or 1, width)."""
    shape = (self.heads, x.shape[1])
    start = jax.lax.broadcasted_iota(jnp.int32, shape, 0) * self.size
    lane = jax.lax.broadcasted_iota(jnp.int32, shape, 1)
    inside = (lane >= start) & (lane < start + self.size)
    return jnp.where(inside, jnp.broadcast_to(x.astype(jnp.float32), shape), 0.0).astype(x.dtype)


def split_queries(length: int) -> tuple[int, bool]:
  """Returns (queries on lanes, whether one more is computed apart)."""
  apart = length > LANES and length % LANES == 1
  return length - apart, apart


class Masks:
  """Which keys a query sees, from the segments of a row; everything without segments.

  Attributes:
    together: (keys, queries on lanes) bool, or None.
    single: (1, keys) bool of the query computed apart, or None.
  """

  def __init__(self, queries: jax.Array | None = None, keys: jax.Array | None = None):
    """Takes (1, Lq) and (1, Lk) int32; keys of negative segments are padding."""
    self.together = self.single = None
    if queries is None:
      return
    length, apart = split_queries(queries.shape[1])
    keys = jnp.where(keys < 0, -1, keys)
    queries = jnp.where(queries < 0, -2, queries)
    column = jnp.broadcast_to(keys.astype(jnp.float32), (8, keys.shape[1])).T[:, :1].astype(jnp.int32)
    self.together = column == queries[:, :length]
    if apart:
      self.single = keys == queries[:, length:]


def _hide(logits: jax.Array, mask: jax.Array | None) -> jax.Array:
  return logits if mask is None else jnp.where(mask, logits, _HIDDEN)


def _softmax(logits: jax.Array, mask: jax.Array | None, axis: int, to_log2: float):
  """Returns (weights before they are divided by their sum, the sum, log2-sum-exp), float32."""
  logits = _hide(logits, mask)
  top = jnp.max(logits, axis=axis, keepdims=True)
  if mask is not None:
    top = jnp.maximum(top, _LEAST)
  weights = jnp.exp2((logits - top) * to_log2)
  total = jnp.sum(weights, axis=axis, keepdims=True)
  if mask is not None:
    total = jnp.maximum(total, jnp.finfo(jnp.float32).tiny)
  return weights, total, top * to_log2 + jnp.log2(total)


def forward_group(rows, masks, heads: Heads, q_ref, k_ref, v_ref, out_ref, lse_ref) -> None:
  """Computes attention of some rows at once, so that products of one overlap with the softmax of another.

  Args:
    rows: indices into the references.
    masks: a `Masks` of each.
    heads: the heads.
    q_ref: (rows, Lq, width).
    k_ref: (rows, Lk, width).
    v_ref: (rows, Lk, width).
    out_ref: (rows, Lq, width), written.
    lse_ref: (rows, heads, Lq) float32, written: the logarithm to base two of the sum of exponentials.
  """
  length, apart = split_queries(q_ref.shape[1])
  logits = []
  for row in rows:
    for members, lanes in heads.tiles():
      q, k = q_ref[row, :length, lanes], k_ref[row, :, lanes]
      logits.append([rows_rows(k, heads.keep(q, place)) for place in range(len(members))])
  logits = iter(logits)
  for row, mask in zip(rows, masks):
    for members, lanes in heads.tiles():
      v, outs = v_ref[row, :, lanes].T, []
      for place, (head, of_head) in enumerate(zip(members, next(logits))):
        weights, total, lse = _softmax(of_head, mask.together, 0, heads.to_log2)
        outs.append(product(heads.part(v, place), weights.astype(v.dtype)) / total)
        lse_ref[row, head : head + 1, :length] = lse
      out = outs[0] if len(outs) == 1 else jnp.concatenate(outs, axis=0)
      out_ref[row, :length, lanes] = out.astype(out_ref.dtype).T
    if apart:
      k, v = k_ref[row], v_ref[row]
      weights, total, lse = _softmax(rows_rows(heads.own(q_ref[row, length:]), k), mask.single, 1, heads.to_log2)
      out = _over_keys(heads.own(product(weights.astype(v.dtype), v) / total))
      out_ref[row, length:] = out.astype(out_ref.dtype)
      lse_ref[row, :, length:] = lse


def backward_group(rows, masks, heads: Heads, q_ref, k_ref, v_ref, lse_ref, dout_ref, dq_ref, dk_ref, dv_ref) -> None:
  """Computes the gradients of some rows at once; arguments as in `forward_group`, `dq_ref`... written.

  The weights come from the log-sum-exp, and the output is not needed: the sum over keys of weights times their
  gradients equals that of the output times its gradient.
  """
  length, apart = split_queries(q_ref.shape[1])
  dtype = q_ref.dtype

  def gradients(logits, dweights, mask, lse, axis):
    weights = jnp.exp2(_hide(logits, mask) * heads.to_log2 - lse)
    weighted = weights * dweights
    dlogits = weighted - weights * jnp.sum(weighted, axis=axis, keepdims=True)
    return weights.astype(dtype), dlogits.astype(dtype)

  pairs = []
  for row in rows:
    for members, lanes in heads.tiles():
      q, k, v, dout = (
        q_ref[row, :length, lanes],
        k_ref[row, :, lanes],
        v_ref[row, :, lanes],
        dout_ref[row, :length, lanes],
      )
      pairs.append(
        [(rows_rows(k, heads.keep(q, place)), rows_rows(v, heads.keep(dout, place))) for place in range(len(members))]
      )
  pairs = iter(pairs)
  for row, mask in zip(rows, masks):
    if apart:
      k, q, dout = k_ref[row], heads.own(q_ref[row, length:]), heads.own(dout_ref[row, length:])
      weights, dlogits = gradients(
        rows_rows(q, k), rows_rows(dout, v_ref[row]), mask.single, lse_ref[row, :, length:], 1
      )
      dq_ref[row, length:] = (_over_keys(heads.own(product(dlogits, k))) * heads.scale).astype(dtype)
      single_dk, single_dv = _columns(dlogits, q), _columns(weights, dout)
    for members, lanes in heads.tiles():
      q, dout, k = q_ref[row, :length, lanes], dout_ref[row, :length, lanes], k_ref[row, :, lanes].T
      dqs, dks, dvs = [], [], []
      for place, (head, (logits, dweights)) in enumerate(zip(members, next(pairs))):
        weights, dlogits = gradients(logits, dweights, mask.together, lse_ref[row, head : head + 1, :length], 0)
        dvs.append(product(weights, dout))
        dks.append(product(dlogits, q))
        dqs.append(product(heads.part(k, place), dlogits))
      dq = dqs[0] if len(dqs) == 1 else jnp.concatenate(dqs, axis=0)
      dk, dv = heads.choose(dks), heads.choose(dvs)
      if apart:
        dk, dv = dk + single_dk[:, lanes], dv + single_dv[:, lanes]
      dq_ref[row, :length, lanes] = (dq * heads.scale).astype(dtype).T
      dk_ref[row, :, lanes] = (dk * heads.scale).astype(dtype)
      dv_ref[row, :, lanes] = dv.astype(dtype)
