"""Batch norm that follows PyTorch: its epsilon, momentum and running variance."""

import jax
import jax.numpy as jnp
from flax import linen as nn

BATCH_NORM_EPSILON = 1e-5  # PyTorch's
BATCH_NORM_MOMENTUM = 0.9  # weight of the old running statistics; PyTorch's 0.1 is the weight of the new ones


class BatchNorm(nn.BatchNorm):
  """Flax's batch norm with PyTorch's running variance.

  The running variance averages unbiased estimates, n / (n - 1) times the variance of the batch. The batch itself is
  normalized with its biased variance, as in both libraries.
  """

  def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Normalizes x (..., C). Statistics use the values where the mask is True; the mask broadcasts to x."""
    moving = not self.use_running_average and self.has_variable("batch_stats", "var")
    before = self.get_variable("batch_stats", "var") if moving else None
    y = super().__call__(x, mask=mask)
    if moving:
      count = x.size / x.shape[-1] if mask is None else jnp.sum(jnp.broadcast_to(mask, (*x.shape[:-1], 1)))
      old = self.momentum * before
      new = self.get_variable("batch_stats", "var") - old
      self.put_variable("batch_stats", "var", old + new * (count / jnp.maximum(count - 1, 1)))
    return y


def make_batch_norm(
  module: nn.Module, dtype, momentum: float = BATCH_NORM_MOMENTUM, name: str | None = None, **options
) -> BatchNorm:
  """Returns a batch norm submodule.

  While the collection `batch_stats` of the module is mutable, it uses the statistics of the batch and updates the
  running ones; otherwise it uses the running ones.

  Args:
    module: the parent module.
    dtype: computation dtype.
    momentum: weight of the old running statistics in an update.
    name: name of the submodule.
    **options: options of `nn.BatchNorm`.
  """
  moving = module.is_mutable_collection("batch_stats") and not module.is_initializing()
  return BatchNorm(
    use_running_average=not moving, momentum=momentum, epsilon=BATCH_NORM_EPSILON, dtype=dtype, name=name, **options
  )
