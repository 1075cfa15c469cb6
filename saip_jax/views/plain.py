"""MAE's view: a random crop, mirrored in half of all cases, without color augmentation."""

import jax

from saip_jax.views.crops import crop_view
from saip_jax.views.geometry import CROP_UNIFORMS, keypoints_in_crop, sample_crop_box


def plain_crop(
  image_u8: jax.Array,
  valid_hw: jax.Array,
  key: jax.Array,
  area: tuple[float, float],
  aspect: tuple[float, float],
  out_hw: tuple[int, int],
) -> jax.Array:
  """Draws and renders a random resized crop, mirrored in half of all cases.

  Args:
    image_u8: (Hc, Wc, 3) uint8 canvas.
    valid_hw: (2,) size in pixels of its valid part.
    key: key of the sample.
    area: range of the area fraction of the crop.
    aspect: range of its width / height.
    out_hw: size of the view, pixels.

  Returns:
    The normalized view (H, W, 3) float32.

  Source: MAE (He et al. 2022, arXiv 2111.06377), appendix A.1.

  >>> canvas, key = jax.numpy.zeros((80, 40, 3), "uint8"), jax.random.key(0)
  >>> plain_crop(canvas, jax.numpy.array([80, 40]), key, area=(0.2, 1.0), aspect=(0.4, 0.6), out_hw=(64, 32)).shape
  (64, 32, 3)
  """
  box, flip = _draw(key, valid_hw, area, aspect)
  return crop_view(image_u8, box, out_hw, flip)


def plain_crop_with_keypoints(
  image_u8: jax.Array,
  valid_hw: jax.Array,
  keypoints: jax.Array,
  key: jax.Array,
  area: tuple[float, float],
  aspect: tuple[float, float],
  out_hw: tuple[int, int],
) -> tuple[jax.Array, jax.Array]:
  """Returns `plain_crop` and its keypoints (J, 3), given those of the canvas, see `keypoints_in_crop`."""
  box, flip = _draw(key, valid_hw, area, aspect)
  return crop_view(image_u8, box, out_hw, flip), keypoints_in_crop(keypoints, box, out_hw, flip)


def _draw(key: jax.Array, valid_hw: jax.Array, area, aspect) -> tuple[jax.Array, jax.Array]:
  """Returns the box of a crop and whether it is mirrored."""
  uniform = jax.random.uniform(key, (CROP_UNIFORMS + 1,))
  return sample_crop_box(uniform[:CROP_UNIFORMS], valid_hw, area, aspect), uniform[CROP_UNIFORMS] < 0.5
