"""Selection and restoration of tokens, as products with one-hot matrices.

The gradient of a gather with per-sample indices is a scatter, which TPUs execute row by row. The matrices here are
small (at most a few hundred squared), exact, and cheap on a matrix unit.
"""

import jax
import jax.numpy as jnp

_EXACT = jax.lax.Precision.HIGHEST  # products with one-hot rows copy elements exactly


def select_tokens(tokens: jax.Array, ids: jax.Array) -> jax.Array:
  """Returns tokens[b, ids[b]]: (B, L, D) and (B, M) int32 -> (B, M, D).

  Example:
    >>> tokens = jnp.float32([[[10.0], [20.0], [30.0]]])
    >>> print(select_tokens(tokens, jnp.array([[2, 0]]))[0, :, 0])
    [30. 10.]
  """
  one_hot = jax.nn.one_hot(ids, tokens.shape[1], dtype=tokens.dtype)
  return jnp.einsum("bml,bld->bmd", one_hot, tokens, precision=_EXACT)


def restore_tokens(visible: jax.Array, restore_ids: jax.Array, mask_token: jax.Array) -> jax.Array:
  """Restores visible tokens to their positions and fills all others with the mask token.

  Args:
    visible: (B, M, D) visible tokens in shuffled order.
    restore_ids: (B, L) int32, rank of each position in the shuffled order; ranks of M and above are hidden.
    mask_token: (D,).

  Returns:
    (B, L, D) in raster order.
  """
  one_hot = jax.nn.one_hot(restore_ids, visible.shape[1], dtype=visible.dtype)  # rows of hidden positions are zero
  hidden = restore_ids >= visible.shape[1]
  restored = jnp.einsum("blm,bmd->bld", one_hot, visible, precision=_EXACT)
  return jnp.where(hidden[..., None], mask_token.astype(visible.dtype), restored)
