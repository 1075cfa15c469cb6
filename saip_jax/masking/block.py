"""Block-wise masks: rectangles thrown on a grid until about a wanted number of patches is covered."""

import math

import jax
import jax.numpy as jnp

_PROPOSALS = 32  # 20,000 masks of 64 of 16x8 patches never needed more
_PATIENCE = 10  # proposals in a row that may fail before a mask stays as it is
_LEAST_SHARE = 12 / 64  # smallest rectangle, of the patches wanted
_LOWEST_ASPECT = 0.3
BLOCK_UNIFORMS = 4 * _PROPOSALS  # uniform numbers that the draw of a mask takes


def block_mask(uniform: jax.Array, grid_hw: tuple[int, int], wanted: int) -> jax.Array:
  """Draws a union of rectangles that covers about `wanted` patches of a grid.

  Rectangles have an area from 12/64 of `wanted` to what is still missing, a log-uniform aspect of 0.3 to 1 / 0.3 and a
  uniform place; none is as wide or as high as the grid, so the middle is covered more often than the edge. One is taken
  if it covers something new and, patches covered twice counted twice, not more than is missing; ten failures in a row
  end it. The number covered therefore differs from `wanted`, at 64 of 16x8 patches by 1.5 on average, and is for the
  caller to trim or fill.

  Args:
    uniform: (BLOCK_UNIFORMS,) uniform numbers.
    grid_hw: rows and columns of patches.
    wanted: patches to cover.

  Returns:
    (h, w) bool.

  Source: BEiT (Bao et al. 2022), algorithm 1, with the acceptance rule of the code that HAP released.
  """
  height, width = grid_hw
  rows, columns = jnp.arange(height)[:, None], jnp.arange(width)

  def propose(state, numbers):
    covered, failures = state
    missing = wanted - jnp.sum(covered)
    least = _LEAST_SHARE * wanted
    area = least + (missing - least) * numbers[0]
    aspect = jnp.exp(math.log(_LOWEST_ASPECT) * (1 - 2 * numbers[1]))
    h, w = jnp.round(jnp.sqrt(area * aspect)), jnp.round(jnp.sqrt(area / aspect))
    top, left = jnp.floor(numbers[2] * (height - h + 1)), jnp.floor(numbers[3] * (width - w + 1))
    block = (rows >= top) & (rows < top + h) & (columns >= left) & (columns < left + w)
    new = h * w - 2 * jnp.sum(block & covered)
    going = (missing > 0) & (failures < _PATIENCE)
    taken = going & (w < width) & (h < height) & (new > 0) & (new <= missing)
    return (covered | (block & taken), jnp.where(taken, 0, failures + 1)), None

  start = jnp.zeros(grid_hw, bool), jnp.zeros((), jnp.int32)
  (covered, _), _ = jax.lax.scan(propose, start, uniform.reshape(_PROPOSALS, 4))
  return covered
