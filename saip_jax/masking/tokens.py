"""Choosing tokens and putting them back, as products with one-hot matrices.

A gather with per-sample indices has a scatter as its gradient, which TPUs do row by row; the matrices here
are small (at most a few hundred squared), exact, and cost next to nothing on a matrix unit.
"""

import jax
import jax.numpy as jnp

_EXACT = jax.lax.Precision.HIGHEST  # a row of a one-hot product is one element: let no unit round it


def select_tokens(tokens: jax.Array, ids: jax.Array) -> jax.Array:
  """Returns tokens[b, ids[b]]: (B, L, D) and (B, M) int32 -> (B, M, D)."""
  one_hot = jax.nn.one_hot(ids, tokens.shape[1], dtype=tokens.dtype)
  return jnp.einsum("bml,bld->bmd", one_hot, tokens, precision=_EXACT)


def restore_tokens(kept: jax.Array, restore_ids: jax.Array, mask_token: jax.Array) -> jax.Array:
  """Puts kept tokens back at their places and the mask token everywhere else.

  Args:
    kept: (B, M, D) visible tokens in shuffled order.
    restore_ids: (B, L) int32, place of each position in the shuffled order; M and above are hidden.
    mask_token: (D,).

  Returns:
    (B, L, D) in raster order.
  """
  one_hot = jax.nn.one_hot(restore_ids, kept.shape[1], dtype=kept.dtype)  # rows of hidden positions are zero
  hidden = restore_ids >= kept.shape[1]
  visible = jnp.einsum("blm,bmd->bld", one_hot, kept, precision=_EXACT)
  return jnp.where(hidden[..., None], mask_token.astype(kept.dtype), visible)
