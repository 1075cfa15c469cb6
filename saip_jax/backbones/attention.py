"""Dot-product attention of several heads."""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from saip_jax.backbones.packing import sequence_numbers

SAVED = ("attention_input", "attention_output", "attention_normalizer")
"""Names of what the backward pass of `attend` needs, for `jax.checkpoint`."""


@jax.named_scope("attention")
def attention_map(q: jax.Array, k: jax.Array, mask: jax.Array | None = None) -> jax.Array:
  """Returns softmax(q k^T / sqrt(d)) in float32.

  Args:
    q: (B, Lq, heads, d).
    k: (B, Lk, heads, d).
    mask: bool, broadcastable to (B, heads, Lq, Lk), False where a query does not attend to a key, see `allowed_keys`.

  Returns:
    (B, heads, Lq, Lk).
  """
  logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
  if mask is not None:
    logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
  return jax.nn.softmax(logits, axis=-1)


@jax.named_scope("attention")
def mix(weights: jax.Array, v: jax.Array) -> jax.Array:
  """Returns weighted sums of values: (B, heads, Lq, Lk) and (B, Lk, heads, d) -> (B, Lq, heads, d)."""
  return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)


def allowed_keys(
  lengths: tuple[int, ...], key_mask: jax.Array | None, queries: tuple[int, ...] | None = None
) -> jax.Array | None:
  """Returns which keys a query attends to: those of its own sequence that are no padding; None for all.

  Args:
    lengths: tokens of the sequences that share a row.
    key_mask: (B, L) bool, False where a key is padding; None for no padding.
    queries: places of the queries in the row; None for all of it.

  Returns:
    bool, broadcastable to (B, heads, Lq, L).
  """
  mask = None if key_mask is None else key_mask[:, None, None, :]
  if len(lengths) > 1:
    sequence = sequence_numbers(lengths)
    own = jnp.asarray(sequence[slice(None) if queries is None else list(queries), None] == sequence)
    mask = own if mask is None else own & mask
  return mask


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  key_mask: jax.Array | None = None,
  heads: int = 1,
  lengths: tuple[int, ...] = (),
) -> jax.Array:
  """Returns attention (B, Lq, heads * d).

  The backward pass computes the probabilities again from the logarithms of their normalizers, as in FlashAttention (Dao
  et al. 2022, arXiv 2205.14135): the products, q, k, v and the result are what it reads. Logits and probabilities have
  the dtype of q; the softmax is computed in float32. The barriers keep XLA from computing the softmax once more in each
  product that reads it.

  Args:
    q: (B, Lq, heads * d).
    k: (B, Lk, heads * d).
    v: (B, Lk, heads * d).
    key_mask: (B, Lk) bool, False where a key is padding; None for no padding.
    heads: attention heads.
    lengths: tokens of the sequences that share a row of Lq = Lk tokens, each of which attends to itself alone; empty
      for a single sequence.
  """
  return _forward(q, k, v, key_mask, heads, lengths)[0]


def split_heads(x: jax.Array, heads: int) -> jax.Array:
  """(B, L, heads * d) -> (B, L, heads, d)."""
  return x.reshape(*x.shape[:2], heads, -1)


def _logits(q, k, key_mask, heads, lengths):
  """Returns masked logits (B, heads, Lq, Lk) in the dtype of q."""
  scaled = split_heads(q, heads) * jnp.asarray((q.shape[-1] // heads) ** -0.5, q.dtype)
  logits = jnp.einsum("bqhd,bkhd->bhqk", scaled, split_heads(k, heads))
  mask = allowed_keys(lengths, key_mask)
  return logits if mask is None else jnp.where(mask, logits, jnp.finfo(logits.dtype).min)


@jax.named_scope("attention")
def _forward(q, k, v, key_mask, heads, lengths):
  q, k, v = (checkpoint_name(x, SAVED[0]) for x in (q, k, v))
  logits = _logits(q, k, key_mask, heads, lengths)
  largest = jnp.max(logits, axis=-1, keepdims=True)
  powers = jnp.exp((logits - largest).astype(jnp.float32)).astype(q.dtype)
  powers = jax.lax.optimization_barrier(powers)
  values = split_heads(v, heads)
  values = jnp.concatenate([values, jnp.ones_like(values[..., :1])], axis=-1)  # the last column sums the powers
  sums = jnp.einsum("bhqk,bkhd->bqhd", powers, values, preferred_element_type=jnp.float32)
  total = sums[..., -1:]
  out = (sums[..., :-1] / total).astype(v.dtype).reshape(q.shape)
  normalizer = largest[..., 0].astype(jnp.float32) + jnp.log(total[..., 0]).swapaxes(1, 2)  # (B, heads, Lq)
  out, normalizer = checkpoint_name(out, SAVED[1]), checkpoint_name(normalizer, SAVED[2])
  return out, (q, k, v, key_mask, out, normalizer)


@jax.named_scope("attention")
def _backward(heads, lengths, saved, gradient):
  q, k, v, key_mask, out, normalizer = saved
  split = functools.partial(split_heads, heads=heads)
  logits = _logits(q, k, key_mask, heads, lengths).astype(jnp.float32)
  weights = jax.lax.optimization_barrier(jnp.exp(logits - normalizer[..., None]).astype(q.dtype))
  of_weights = jnp.einsum("bqhd,bkhd->bhqk", split(gradient), split(v), preferred_element_type=jnp.float32)
  shared = jnp.sum(split(gradient).astype(jnp.float32) * split(out).astype(jnp.float32), axis=-1).swapaxes(1, 2)
  scale = (q.shape[-1] // heads) ** -0.5
  of_logits = weights.astype(jnp.float32) * (of_weights - shared[..., None]) * scale
  of_logits = jax.lax.optimization_barrier(of_logits.astype(q.dtype))
  of_v = jnp.einsum("bhqk,bqhd->bkhd", weights, split(gradient))
  of_q = jnp.einsum("bhqk,bkhd->bqhd", of_logits, split(k))
  of_k = jnp.einsum("bhqk,bqhd->bkhd", of_logits, split(q))
  return of_q.reshape(q.shape), of_k.reshape(k.shape), of_v.reshape(v.shape), None


attend.defvjp(_forward, _backward)
