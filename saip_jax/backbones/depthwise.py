"""Depthwise convolution that is fast on CPU, where XLA's native one took three times as long for a whole ConvNeXt.

Other devices use XLA's native convolution.
"""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def depthwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns the convolution of maps (B, h, w, C) and a kernel (side, side, 1, C) of odd side, with zero padding.

  The custom gradient also depends on the platform; automatic differentiation would save the residuals of both branches.
  """
  return jax.lax.platform_dependent(x, kernel, cpu=_row_by_row, default=native_depthwise_conv)


def native_depthwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns the same with XLA's native convolution, which XLA's cost analysis counts in full."""
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1]
  )


def _row_by_row(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Sums shifted maps in a loop over the rows of the kernel; unrolled, it compiles three times as long."""

  def add(row, total):
    weights = jax.lax.dynamic_index_in_dim(kernel, row, 0, keepdims=False)  # (side, 1, C)
    return total + sum(shifted * weight for shifted, weight in zip(_shifted(x, row, kernel.shape[0]), weights))

  return jax.lax.fori_loop(0, kernel.shape[0], add, jnp.zeros(x.shape, jnp.float32)).astype(x.dtype)


def _shifted(x: jax.Array, row: jax.Array, side: int) -> list[jax.Array]:
  """Returns, for each column of a row of the kernel, the map shifted to that tap: (B, h, w, C) float32."""
  reach = side // 2
  around = jnp.pad(x.astype(jnp.float32), ((0, 0), (reach, reach), (reach, reach), (0, 0)))
  rows = jax.lax.dynamic_slice_in_dim(around, row, x.shape[1], 1)
  return [rows[:, :, column : column + x.shape[2]] for column in range(side)]


def _row_by_row_gradients(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
  of_row = lambda row: jnp.stack([jnp.sum(s * gradient, (0, 1, 2)) for s in _shifted(x, row, kernel.shape[0])])
  of_kernel = jax.lax.map(of_row, jnp.arange(kernel.shape[0]))[:, :, None]
  return _row_by_row(gradient, jax.lax.rev(kernel, (0, 1))), of_kernel.astype(kernel.dtype)


def _native_gradients(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
  return jax.vjp(native_depthwise_conv, x, kernel)[1](gradient)


def _gradients(residuals, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
  return jax.lax.platform_dependent(*residuals, gradient, cpu=_row_by_row_gradients, default=_native_gradients)


depthwise_conv.defvjp(lambda x, kernel: (depthwise_conv(x, kernel), (x, kernel)), _gradients)
