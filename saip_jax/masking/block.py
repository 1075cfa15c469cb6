"""Block-wise masks: a union of random rectangles of patches."""

import math

import jax
import jax.numpy as jnp

_PROPOSALS = 32  # enough for each of 20,000 masks of 64 of 16x8 patches
_PATIENCE = 10  # consecutive failures that end a mask
_LEAST_SHARE = 12 / 64  # area of the smallest rectangle / wanted patches
_LOWEST_ASPECT = 0.3
BLOCK_UNIFORMS = 4 * _PROPOSALS  # uniform numbers per mask


def block_mask(uniform: jax.Array, grid_hw: tuple[int, int], wanted: int) -> jax.Array:
  """Draws a union of rectangles that covers about `wanted` patches of a grid.

  A rectangle has an area between 12/64 of `wanted` and the number of missing patches, a log-uniform aspect of 0.3 to
  1 / 0.3 and a uniform position; all are narrower and lower than the grid, so the middle is covered more often than the
  edge. A rectangle is accepted if it covers a new patch and, counting covered patches twice, not more than are missing.
  Ten consecutive rejections end the mask. The number of covered patches therefore differs from `wanted`, by 1.5 on
  average for 64 of 16x8 patches; the caller trims or fills the mask.

  Args:
    uniform: (BLOCK_UNIFORMS,) float32 uniform numbers.
    grid_hw: rows and columns of patches.
    wanted: number of patches to cover.

  Returns:
    (h, w) bool, True for covered patches.

  Source: BEiT (Bao et al. 2022, arXiv 2106.08254), algorithm 1, with the acceptance rule of HAP's released code.

  Example:
    >>> import jax
    >>> mask = block_mask(jax.random.uniform(jax.random.key(0), (BLOCK_UNIFORMS,)), (16, 8), wanted=64)
    >>> mask.shape, 48 <= int(mask.sum()) <= 80
    ((16, 8), True)
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
    active = (missing > 0) & (failures < _PATIENCE)
    taken = active & (w < width) & (h < height) & (new > 0) & (new <= missing)
    return (covered | (block & taken), jnp.where(taken, 0, failures + 1)), None

  start = jnp.zeros(grid_hw, bool), jnp.zeros((), jnp.int32)
  (covered, _), _ = jax.lax.scan(propose, start, uniform.reshape(_PROPOSALS, 4))
  return covered
