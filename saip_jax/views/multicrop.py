"""DINO's multi-crop: two global and several local crops of one image, each with its own color augmentation."""

import jax
import jax.numpy as jnp

from saip_jax.views.crops import VIEW_UNIFORMS, CropRecipe, draw_crops, render_crops
from saip_jax.views.geometry import to_planes
from saip_jax.views.photometric import ColorJitter, Photometric

_JITTER = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
GLOBAL_1 = Photometric(jitter=_JITTER, blur_probability=1.0, solarize_probability=0.0)
GLOBAL_2 = Photometric(jitter=_JITTER, blur_probability=0.1, solarize_probability=0.2)
LOCAL = Photometric(jitter=_JITTER, blur_probability=0.5, solarize_probability=0.0)
"""Color augmentation of DINO (Caron et al. 2021, arXiv 2104.14294), as released; SAIP has the same."""


def multicrop(
  image_u8: jax.Array,
  valid_hw: jax.Array,
  key: jax.Array,
  *,
  locals_: int,
  aspect: tuple[float, float],
  global_area: tuple[float, float],
  local_area: tuple[float, float],
  global_hw: tuple[int, int],
  local_hw: tuple[int, int],
) -> tuple[jax.Array, jax.Array | None]:
  """Draws and renders the views of one sample.

  Args:
    image_u8: (Hc, Wc, 3) uint8 canvas.
    valid_hw: (2,) size in pixels of its valid part.
    key: key of the sample.
    locals_: number of local crops.
    aspect: range of width / height of all crops.
    global_area: range of the area fraction of global crops.
    local_area: the same of local crops.
    global_hw: size of global views, pixels.
    local_hw: size of local views, pixels.

  Returns:
    Normalized global views (2, H, W, 3) and local views (locals_, h, w, 3) float32; None without local crops.
  """
  recipes = [
    CropRecipe(global_area, aspect, GLOBAL_1),
    CropRecipe(global_area, aspect, GLOBAL_2),
    *[CropRecipe(local_area, aspect, LOCAL)] * locals_,
  ]
  count = len(recipes)
  uniform = jax.random.uniform(key, (count, VIEW_UNIFORMS))
  draws = draw_crops(uniform, jnp.broadcast_to(valid_hw, (count, 2)), recipes)
  planes = to_planes(image_u8)
  small = render_crops(planes, draws.some(2, count), local_hw) if locals_ else None
  return render_crops(planes, draws.some(0, 2), global_hw), small
