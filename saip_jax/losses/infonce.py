"""InfoNCE: a sample finds its own partner among others, which come from the batch or from a memory bank."""

import jax
import jax.numpy as jnp

NEVER = -1e9  # logit of what does not count: rows that hold nothing else stay finite, and so do their gradients


def unit(x: jax.Array) -> jax.Array:
  """Returns (..., D) scaled to length 1, float32; zeros stay zeros, with a gradient of zero."""
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))


def cosines(queries: jax.Array, keys: jax.Array) -> jax.Array:
  """Returns (..., Q, K) float32 products of unit vectors (..., Q, D) and (..., K, D).

  HIGHEST: bfloat16 products would round cosines by some 1e-3, which a small temperature enlarges.
  """
  return jnp.einsum("...qd,...kd->...qk", queries, keys, precision=jax.lax.Precision.HIGHEST)


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
  """Returns sum(w x) / sum(w) of arrays of one shape, w being 0 or 1; 0 if no weight is 1."""
  weights = weights.astype(jnp.float32)
  return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def batch_contrast(
  queries: jax.Array, keys: jax.Array, temperature: float, known: jax.Array | None = None
) -> jax.Array:
  """Mean over samples i of -log( exp(q_i k_i / T) / sum_j exp(q_i k_j / T) ), j being the samples of the batch.

  Args:
    queries: (B, D) unit vectors.
    keys: (B, D) likewise.
    temperature: T.
    known: (B,) bool, the samples that have both; the others count neither as queries nor as keys. None: all.

  Returns:
    float32 scalar; 0 if no sample has both.

  Source: InfoNCE (van den Oord et al. 2018), equation 4, with the batch as the negatives.
  """
  known = jnp.ones(len(queries), bool) if known is None else known
  logits = cosines(queries, keys) / temperature
  normalizer = jax.nn.logsumexp(jnp.where(known, logits, NEVER), axis=1)
  return weighted_mean(normalizer - jnp.diagonal(logits), known)


def bank_contrast(
  queries: jax.Array, bank: jax.Array, index: jax.Array, drawn: jax.Array, temperature: float, known: jax.Array
) -> jax.Array:
  """Mean over samples i of -log( exp(q_i m_i / T) / (exp(q_i m_i / T) + sum_n exp(q_i m_n / T)) ).

  m_i is the sample's own row of the bank, what its partner was when it was last seen, n the drawn rows.

  Args:
    queries: (B, D) unit vectors; the gradient flows into them alone.
    bank: (N, D) unit vectors.
    index: (B,) rows of the samples.
    drawn: (K,) rows that are the negatives of all samples alike, those of the sample itself left out; or (B, K) rows
      for each sample, which may be its own.
    temperature: T.
    known: (B,) bool, the samples that have both; the mean is over them.

  Returns:
    float32 scalar; 0 if no sample has both.

  Source: methods, HCMoCo section 3 (1), after CMC (Tian et al. 2020). The released code draws rows for each sample, its
  own among them; drawn once they are one matrix product.
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
  """Returns a bank after a visit: m <- unit(momentum m + (1 - momentum) f) in the rows of samples that have f.

  Args:
    bank: (N, D) unit vectors.
    index: (B,) rows of the samples; of a row that comes more than once the last one that is known counts.
    features: (B, D) unit vectors.
    known: (B,) bool, the samples that have them.
    momentum: share that is kept.
  """
  same = (index[:, None] == index) & known
  last = len(index) - 1 - jnp.argmax(same[:, ::-1], axis=1)  # every sample of a row writes the same
  before = bank[index]
  after = unit(momentum * before + (1 - momentum) * features[last])
  return bank.at[index].set(jnp.where(jnp.any(same, axis=1, keepdims=True), after, before))
