"""CroCo's view of each image of a pair: random crop and color jitter, without mirroring."""

import jax

from saip_jax.views.geometry import CROP_UNIFORMS, crop_resize, sample_crop_box, to_planes
from saip_jax.views.photometric import ColorJitter, apply_jitter, normalize, sample_jitter

_JITTER_UNIFORMS = 8


def jittered_crop(
  image_u8: jax.Array,
  valid_hw: jax.Array,
  key: jax.Array,
  area: tuple[float, float],
  aspect: tuple[float, float],
  jitter: ColorJitter,
  out_hw: tuple[int, int],
) -> tuple[jax.Array, jax.Array]:
  """Draws and renders a random resized crop with color jitter.

  Args:
    image_u8: (Hc, Wc, 3) uint8 canvas.
    valid_hw: (2,) size in pixels of its valid part.
    key: key of the view.
    area: range of the area fraction of the crop.
    aspect: range of its width / height.
    jitter: strengths of the color jitter.
    out_hw: size of the view, pixels.

  Returns:
    The normalized view (H, W, 3) float32, and its box_yxhw (4,).

  Source: CroCo (Weinzaepfel et al. 2022, arXiv 2210.10716), as released.
  """
  uniform = jax.random.uniform(key, (CROP_UNIFORMS + _JITTER_UNIFORMS,))
  box = sample_crop_box(uniform[:CROP_UNIFORMS], valid_hw, area, aspect)
  planes = crop_resize(to_planes(image_u8), box, out_hw)
  return normalize(apply_jitter(planes, sample_jitter(uniform[CROP_UNIFORMS:], jitter))), box
