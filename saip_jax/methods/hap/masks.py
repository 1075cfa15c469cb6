"""HAP's masks: two of each image, which hide parts of the body first."""

import jax

from saip_jax.masking.body import mask_body_first
from saip_jax.masking.parts import part_counts
from saip_jax.methods.hap.config import HapMasksConfig
from saip_jax.methods.mae.autoencoder import MaskDraws


def draw_masks(
  keys: jax.Array, parts: jax.Array | None, config: HapMasksConfig, grid_hw: tuple[int, int], ratio: float
) -> MaskDraws:
  """Draws two masks of each image, independent of each other, see `mask_body_first`.

  Args:
    keys: (B,) one key per image.
    parts: (B, 6, L) bool, patches of each part; None: there are none.
    config: what is hidden first.
    grid_hw: rows and columns of patches, L together.
    ratio: hidden fraction.

  Returns:
    Draws of (2 B, ...): both of the first image, both of the second, ...
  """
  split = jax.vmap(lambda key: jax.random.split(key, (2, 4)))(keys)  # (B, 2 masks, 4)
  counts = part_counts(jax.vmap(jax.vmap(jax.random.uniform))(split[..., 0]), config.most_parts, config.cap_bug)

  def one(keys, count, parts):
    return mask_body_first(keys, parts, count, grid_hw, ratio, config.blocks, config.part_fraction)

  of_image = jax.vmap(one, in_axes=(0, 0, None))
  if parts is None:
    ids = jax.vmap(lambda keys, counts: of_image(keys, counts, None))(split, counts)
  else:
    ids = jax.vmap(of_image)(split, counts, parts)
  return MaskDraws(*(a.reshape(-1, a.shape[-1]) for a in ids))
