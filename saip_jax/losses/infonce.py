"""InfoNCE with negatives from the batch or from a memory bank."""

import jax
import jax.numpy as jnp

NEVER = -1e9  # logit of ignored entries; finite, so that rows without other entries have finite gradients


def unit(x: jax.Array) -> jax.Array:
  """Returns x (..., D) scaled to length 1, float32; zero vectors stay zero, with zero gradient."""
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))


def cosines(queries: jax.Array, keys: jax.Array) -> jax.Array:
  """Returns (..., Q, K) float32 products of unit vectors (..., Q, D) and (..., K, D).

  Precision is HIGHEST: bfloat16 products would round cosines by about 1e-3, which a small temperature amplifies.
  """
  return jnp.einsum("...qd,...kd->...qk", queries, keys, precision=jax.lax.Precision.HIGHEST)


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
  """Returns sum(w x) / sum(w) of arrays of one shape with weights 0 or 1; 0 if all weights are 0."""
  weights = weights.astype(jnp.float32)
  return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def batch_contrast(
  queries: jax.Array, keys: jax.Array, temperature: float, known: jax.Array | None = None
) -> jax.Array:
  """InfoNCE with the batch as negatives: mean over samples i of -log( exp(q_i k_i / T) / sum_j exp(q_i k_j / T) ).

  Args:
    queries: (B, D) float unit vectors q.
    keys: (B, D) float unit vectors k.
    temperature: T.
    known: (B,) bool, True for samples with query and key; others are ignored. None for all.

  Returns:
    float32 scalar; 0 if no sample has both.

  Source: InfoNCE (van den Oord et al. 2018, arXiv 1807.03748), equation 4, with the batch as negatives.

  Example:
    >>> import jax.numpy as jnp
    >>> queries = jnp.eye(3)
    >>> print(f"{batch_contrast(queries, queries, temperature=0.1):.4f}")  # each key equals its query
    0.0001
    >>> print(f"{batch_contrast(queries, jnp.roll(queries, 1, axis=0), temperature=0.1):.4f}")  # each equals another's
    10.0001
  """
  known = jnp.ones(len(queries), bool) if known is None else known
  logits = cosines(queries, keys) / temperature
  normalizer = jax.nn.logsumexp(jnp.where(known, logits, NEVER), axis=1)
  return weighted_mean(normalizer - jnp.diagonal(logits), known)


def bank_contrast(
  queries: jax.Array, bank: jax.Array, index: jax.Array, drawn: jax.Array, temperature: float, known: jax.Array
) -> jax.Array:
  """InfoNCE with a memory bank: mean over i of -log( exp(q_i m_i / T) / (exp(q_i m_i / T) + sum_n exp(q_i m_n / T)) ).

  m_i is the row of the sample in the bank, the features of its partner at the last visit; n are the drawn rows.

  Args:
    queries: (B, D) float unit vectors q; only they receive a gradient.
    bank: (N, D) float unit vectors m.
    index: (B,) int, rows of the samples.
    drawn: (K,) int, rows that are negatives of all samples except their own; or (B, K) int, negatives of each sample,
      which may include its own row.
    temperature: T.
    known: (B,) bool, True for samples with query and partner; the mean is over them.

  Returns:
    float32 scalar; 0 if no sample has both.

  Source: HCMoCo (Hong et al. 2022, arXiv 2203.13815), sample-level contrast, after CMC (Tian et al. 2020, arXiv
  1906.05849). The released code draws rows for each sample, including its own; shared rows need one matrix product.
  """
  bank = jax.lax.stop_gradient(bank)
  own = jnp.sum(queries * bank[index], axis=-1) / temperature  # (B,)
  if drawn.ndim == 1:
    others = jnp.where(drawn == index[:, None], NEVER, cosines(queries, bank[drawn]) / temperature)  # (B, K)
  else:
    others = cosines(queries[:, None], bank[drawn])[:, 0] / temperature
  normalizer = jax.nn.logsumexp(jnp.concatenate([own[:, None], others], axis=1), axis=1)
  return weighted_mean(normalizer - own, known)


def moved_bank(bank: jax.Array, index: jax.Array, features: jax.Array, known: jax.Array, momentum: float) -> jax.Array:
  """Updates the rows of a batch in a memory bank: m <- unit(momentum m + (1 - momentum) f).

  Args:
    bank: (N, D) float unit vectors m.
    index: (B,) int, rows of the samples; for repeated rows the last known sample counts.
    features: (B, D) float unit vectors f.
    known: (B,) bool, True for samples with features.
    momentum: weight of the old row.

  Returns:
    The new bank (N, D).

  Source: CMC (Tian et al. 2020, arXiv 1906.05849), as in HCMoCo.
  """
  same = (index[:, None] == index) & known
  last = len(index) - 1 - jnp.argmax(same[:, ::-1], axis=1)  # all samples of a row write the same value
  before = bank[index]
  after = unit(momentum * before + (1 - momentum) * features[last])
  return bank.at[index].set(jnp.where(jnp.any(same, axis=1, keepdims=True), after, before))
