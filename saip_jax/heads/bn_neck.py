"""BNNeck: a batch norm between the features of the triplet loss and those of the classifier."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.batch_norm import make_batch_norm


class BNNeck(nn.Module):
  """Batch norm without bias, then a linear layer without bias: (B, D) -> (B, classes) float32 logits.

  The triplet loss and retrieval use the features before the batch norm.

  Attributes:
    classes: number of identities.

  Source: Luo et al. 2019, arXiv 1903.07071, section 3.5.
  """

  classes: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = make_batch_norm(self, jnp.float32, use_bias=False, name="bn")(x.astype(jnp.float32))
    return nn.Dense(self.classes, use_bias=False, kernel_init=initializers.normal(0.001), name="classifier")(x)
