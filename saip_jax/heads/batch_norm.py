"""The batch norm of heads."""

from flax import linen as nn

from saip_jax.backbones.conv_norm import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM


def batch_norm(module: nn.Module, dtype, use_bias: bool = True, name: str | None = None) -> nn.BatchNorm:
  """Returns PyTorch's batch norm; statistics are those of the batch while `module` may change `batch_stats`."""
  moving = module.is_mutable_collection("batch_stats") and not module.is_initializing()
  return nn.BatchNorm(
      use_running_average=not moving, momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, dtype=dtype,
      use_bias=use_bias, name=name,
  )
