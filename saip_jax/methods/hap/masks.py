"""HAP's masks: parts of the body first, then blocks, then anything, until enough is hidden."""

import jax
import jax.numpy as jnp

from saip_jax.masking.anchor import order_by_mask
from saip_jax.masking.block import BLOCK_UNIFORMS, block_mask
from saip_jax.masking.parts import part_counts, part_priority
from saip_jax.methods.hap.config import HapMasksConfig
from saip_jax.methods.mae.autoencoder import MaskDraws


def draw_masks(
  keys: jax.Array, parts: jax.Array | None, config: HapMasksConfig, grid_hw: tuple[int, int], ratio: float
) -> MaskDraws:
  """Draws two masks of each image, independent of each other.

  Each hides exactly as many patches as the ratio says. A part that does not fit hides as much as does, at random;
  where parts and blocks leave room, so are patches of neither.

  Args:
    keys: (B,) one key per image.
    parts: (B, 6, L) bool, patches of each part; None: there are none.
    config: what is hidden first.
    grid_hw: rows and columns of patches, L together.
    ratio: hidden fraction.

  Returns:
    Draws of (2 B, ...): both of the first image, both of the second, ...

  Source: methods, HAP section 3; ties are broken at random, where the released code leaves them to the sort.
  """
  split = jax.vmap(lambda key: jax.random.split(key, (2, 4)))(keys)  # (B, 2 masks, 4)
  counts = part_counts(jax.vmap(jax.vmap(jax.random.uniform))(split[..., 0]), config.most_parts, config.cap_bug)

  one = lambda keys, count, parts: hide(keys, parts, count, config, grid_hw, ratio)
  of_image = jax.vmap(one, in_axes=(0, 0, None))
  if parts is None:
    ids = jax.vmap(lambda keys, counts: of_image(keys, counts, None))(split, counts)
  else:
    ids = jax.vmap(of_image)(split, counts, parts)
  return MaskDraws(*(a.reshape(-1, a.shape[-1]) for a in ids))


def hide(
  keys: jax.Array,
  parts: jax.Array | None,
  count: jax.Array,
  config: HapMasksConfig,
  grid_hw: tuple[int, int],
  ratio: float,
) -> tuple[jax.Array, jax.Array]:
  """Draws one mask of one image, see `draw_masks`.

  Args:
    keys: (4,) random keys, of which the first is the caller's, who draws `count`.
    parts: (6, L) bool, or None.
    count: how many parts are hidden first.
    config: as there, and so on.

  Returns:
    keep_ids (M,) and restore_ids (L,), see `order_by_mask`.
  """
  length = grid_hw[0] * grid_hw[1]
  priority = jnp.zeros(length)
  if config.blocks:
    uniform = jax.random.uniform(keys[1], (BLOCK_UNIFORMS,))
    wanted = length - int(length * (1 - ratio))
    priority = block_mask(uniform, grid_hw, wanted).reshape(length).astype(jnp.float32)
  if parts is not None:
    of_parts = part_priority(keys[2], parts, count, config.part_fraction)
    priority = jnp.where(of_parts > 0, 1 + of_parts, priority)
  return order_by_mask(keys[3], -priority, ratio)  # the lowest priority is seen
