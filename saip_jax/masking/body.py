"""Masks that hide parts of the body first, then a block, then anything, until enough is hidden."""

import jax
import jax.numpy as jnp

from saip_jax.masking.anchor import order_by_mask
from saip_jax.masking.block import BLOCK_UNIFORMS, block_mask
from saip_jax.masking.parts import part_priority


def mask_body_first(
  keys: jax.Array,
  parts: jax.Array | None,
  count: jax.Array,
  grid_hw: tuple[int, int],
  ratio: float,
  blocks: bool,
  part_fraction: tuple[float, float],
) -> tuple[jax.Array, jax.Array]:
  """Draws one mask of one image.

  It hides exactly as many patches as the ratio gives. A part that does not fit is hidden as far as it fits, at random;
  where parts and blocks leave room, other patches are hidden too.

  Args:
    keys: (4,) random keys; the first is not used here, callers draw `count` with it.
    parts: (6, L) bool, the patches of each part; None: there are none.
    count: how many parts are hidden first.
    grid_hw: rows and columns of patches, L together.
    ratio: hidden fraction.
    blocks: hide a block after the parts.
    part_fraction: range of the share of a part's patches that is hidden, see `part_priority`.

  Returns:
    keep_ids (M,) and restore_ids (L,), see `order_by_mask`.

  Source: HAP (Yuan et al. 2023, arXiv 2310.20695) and its released code, which leaves ties to the sort; here they are
  broken at random.
  """
  length = grid_hw[0] * grid_hw[1]
  priority = jnp.zeros(length)
  if blocks:
    uniform = jax.random.uniform(keys[1], (BLOCK_UNIFORMS,))
    wanted = length - int(length * (1 - ratio))
    priority = block_mask(uniform, grid_hw, wanted).reshape(length).astype(jnp.float32)
  if parts is not None:
    of_parts = part_priority(keys[2], parts, count, part_fraction)
    priority = jnp.where(of_parts > 0, 1 + of_parts, priority)
  return order_by_mask(keys[3], -priority, ratio)  # the lowest priority is seen
