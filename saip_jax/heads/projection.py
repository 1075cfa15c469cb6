"""Linear projection of the feature maps of a backbone, pooled or dense."""

import itertools

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.initial_values import uniform_initializer


class MapProjection(nn.Module):
  """Linear layer on maps of several strides, concatenated along their channels.

  Each map is multiplied with its rows of the kernel and the products are added. This equals concatenation followed by
  one product, with fewer operations: coarse maps are enlarged after their product. Initial values are those of
  PyTorch's linear layers on all channels, U(+-1 / sqrt(sum of C_i)).

  Attributes:
    width: D.
    dtype: computation dtype.

  Source: HCMoCo (Hong et al. 2022, arXiv 2203.13815): `pooled` is its sample-level head, `dense` its dense mapper.
  """

  width: int
  dtype: jnp.dtype = jnp.float32

  def pooled(self, maps: tuple[jax.Array, ...]) -> jax.Array:
    """Projects the means of maps (B, h_i, w_i, C_i) -> (B, D); equals the mean of `dense` if sizes divide."""
    products, bias = self._products(tuple(jnp.mean(x, axis=(1, 2)) for x in maps))
    return sum(products) + bias

  def dense(self, maps: tuple[jax.Array, ...]) -> jax.Array:
    """Projects maps -> (B, h, w, D) at the size of the first map; the others are enlarged bilinearly."""
    products, bias = self._products(maps)
    return sum(jax.image.resize(x, products[0].shape, "bilinear") for x in products) + bias

  @nn.compact
  def _products(self, maps: tuple[jax.Array, ...]) -> tuple[list[jax.Array], jax.Array]:
    """Returns each map (..., C_i) times its rows of the kernel, (..., D), and the bias."""
    widths = [x.shape[-1] for x in maps]
    bound = sum(widths) ** -0.5
    kernel = self.param("kernel", uniform_initializer(-bound, bound), (sum(widths), self.width))
    bias = self.param("bias", uniform_initializer(-bound, bound), (self.width,))
    stops = list(itertools.accumulate(widths))[:-1]
    parts = jnp.split(kernel.astype(self.dtype), stops)
    return [x.astype(self.dtype) @ part for x, part in zip(maps, parts)], bias.astype(self.dtype)
