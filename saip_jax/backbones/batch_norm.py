"""Batch norm with PyTorch's epsilon and running statistics."""

import jax
import jax.numpy as jnp
from flax import linen as nn

EPSILON = 1e-5  # PyTorch's
MOMENTUM = 0.9  # share of the running statistics that is kept; PyTorch's 0.1 is the share that is new


class BatchNorm(nn.BatchNorm):
  """Flax's batch norm whose running variance is that of an unbiased estimate, n / (n - 1) of the batch's, as PyTorch's.

  The batch itself is normalized with its biased variance, in both libraries.
  """

  def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Normalizes x (..., C); statistics are those of the values where mask, which broadcasts to x, is True."""
    moving = not self.use_running_average and self.has_variable("batch_stats", "var")
    before = self.get_variable("batch_stats", "var") if moving else None
    y = super().__call__(x, mask=mask)
    if moving:
      count = x.size / x.shape[-1] if mask is None else jnp.sum(jnp.broadcast_to(mask, (*x.shape[:-1], 1)))
      kept = self.momentum * before
      new = self.get_variable("batch_stats", "var") - kept
      self.put_variable("batch_stats", "var", kept + new * (count / jnp.maximum(count - 1, 1)))
    return y


def batch_norm(module: nn.Module, dtype, momentum: float = MOMENTUM, name: str | None = None, **options) -> BatchNorm:
  """Returns the batch norm of a module.

  Statistics are those of the batch, and the running ones move, while `batch_stats` of the module is mutable; else the
  running ones are used.

  Args:
    module: the module that it becomes a part of.
    dtype: computation dtype.
    momentum: share of the running statistics that is kept.
    name: of the submodule.
    **options: of `nn.BatchNorm`.
  """
  moving = module.is_mutable_collection("batch_stats") and not module.is_initializing()
  return BatchNorm(
    use_running_average=not moving, momentum=momentum, epsilon=EPSILON, dtype=dtype, name=name, **options
  )
