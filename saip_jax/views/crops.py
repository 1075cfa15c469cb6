"""Random crops of one image: crop, flip, color, blur, solarize, normalize; several views at a time."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from saip_jax.views.geometry import CROP_UNIFORMS, crop_resize, sample_crop_box, to_planes
from saip_jax.views.photometric import COLOR_UNIFORMS, Colors, Photometric, augment, normalize, sample_colors

VIEW_UNIFORMS = CROP_UNIFORMS + 1 + COLOR_UNIFORMS  # uniform numbers per view: box, flip, colors


@dataclasses.dataclass(frozen=True)
class CropRecipe:
  """Distribution of one view.

  Attributes:
    area: range of the area fraction of the crop.
    aspect: range of its width / height.
    colors: distribution of its color augmentation.
  """

  area: tuple[float, float]
  aspect: tuple[float, float]
  colors: Photometric


class CropDraws(NamedTuple):
  """Parameters of several views, each field with a leading axis of views.

  Attributes:
    box_yxhw: (V, 4) top, left, height, width in pixels of the canvas.
    flip: (V,) bool, True if mirrored.
    colors: color augmentation of each view.
  """

  box_yxhw: jax.Array
  flip: jax.Array
  colors: Colors

  def some(self, first: int, last: int) -> "CropDraws":
    """Returns the parameters of views first..last-1."""
    return jax.tree.map(lambda a: a[first:last], self)


def crop_view(
  image_u8: jax.Array, box_yxhw: jax.Array, out_hw: tuple[int, int], flip: jax.Array | bool = False
) -> jax.Array:
  """Returns the normalized view (H, W, 3) float32 of a box of a canvas (Hc, Wc, 3) uint8, see `crop_resize`."""
  return normalize(crop_resize(to_planes(image_u8), box_yxhw, out_hw, flip))


def draw_crops(uniform: jax.Array, valid_hw: jax.Array, recipes: Sequence[CropRecipe]) -> CropDraws:
  """Draws the parameters of all views of one sample together.

  Drawn one by one, these small operations would take most of the compilation time of views.

  Args:
    uniform: (V, VIEW_UNIFORMS) float32 uniform numbers.
    valid_hw: (V, 2) size in pixels of the valid part of the canvas of each view.
    recipes: of each view; their colors may differ only in the probabilities of blur and solarize.
  """
  common = recipes[0].colors
  alike = lambda c: dataclasses.replace(c, blur_probability=0.0, solarize_probability=0.0)
  assert all(alike(r.colors) == alike(common) for r in recipes), "colors of views drawn together differ"
  limits = np.float32([(*r.area, *r.aspect) for r in recipes])
  chances = np.float32([(r.colors.blur_probability, r.colors.solarize_probability) for r in recipes])

  def draw(uniform, valid_hw, limits, chances):
    box = sample_crop_box(uniform[:CROP_UNIFORMS], valid_hw, limits[:2], limits[2:])
    recipe = dataclasses.replace(common, blur_probability=chances[0], solarize_probability=chances[1])
    return CropDraws(box, uniform[CROP_UNIFORMS] < 0.5, sample_colors(uniform[CROP_UNIFORMS + 1 :], recipe))

  return jax.vmap(draw)(uniform, valid_hw, limits, chances)


def render_crops(planes: jax.Array, draws: CropDraws, out_hw: tuple[int, int]) -> jax.Array:
  """Renders views of one size.

  Args:
    planes: (3, Hc, Wc) float32 canvas in [0, 1], see `geometry.to_planes`.
    draws: parameters of V views.
    out_hw: size of the views in pixels.

  Returns:
    (V, H, W, 3) float32, normalized.
  """
  # Colors are changed on transposed planes: persons are tall, and the longer side fills the lanes of vector registers.
  one = lambda box, flip, colors: normalize(augment(crop_resize(planes, box, out_hw, flip).mT, colors).mT)
  return jax.vmap(one)(*draws)
