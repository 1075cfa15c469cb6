"""Random crops of one picture, several at a time: crop, flip, color, blur, solarize, normalize."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from saip_jax.views.geometry import CROP_UNIFORMS, crop_resize, sample_crop_box
from saip_jax.views.photometric import COLOR_UNIFORMS, Colors, Photometric, augment, normalize, sample_colors

VIEW_UNIFORMS = CROP_UNIFORMS + 1 + COLOR_UNIFORMS  # uniform numbers that the draw of a view takes: box, flip, colors


@dataclasses.dataclass(frozen=True)
class CropRecipe:
  """How one view is drawn.

  Attributes:
    area: range of the area fraction of the crop.
    aspect: range of its width / height.
    colors: what may happen to its colors.
  """

  area: tuple[float, float]
  aspect: tuple[float, float]
  colors: Photometric


class CropDraws(NamedTuple):
  """Draws of several views, each field with a leading axis of views.

  Attributes:
    box_yxhw: (V, 4) top, left, height, width in pixels of the canvas.
    flip: (V,) bool, mirrored.
    colors: of each.
  """

  box_yxhw: jax.Array
  flip: jax.Array
  colors: Colors

  def some(self, first: int, last: int) -> "CropDraws":
    """Returns the draws of views first..last-1."""
    return jax.tree.map(lambda a: a[first:last], self)


def draw_crops(uniform: jax.Array, valid_hw: jax.Array, recipes: Sequence[CropRecipe]) -> CropDraws:
  """Draws the views of one sample together.

  Written out view by view, the same small operations take most of the time that views take to compile.

  Args:
    uniform: (V, VIEW_UNIFORMS) uniform numbers.
    valid_hw: (V, 2) size in pixels of the valid part of the canvas that each is cut from.
    recipes: of each; their colors differ in the chances of blur and solarize alone.
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
  """Makes views of one size.

  Args:
    planes: (3, Hc, Wc) canvas in [0, 1], see `geometry.to_planes`.
    draws: of V views.
    out_hw: their size in pixels.

  Returns:
    (V, H, W, 3) float32, normalized.
  """
  one = lambda box, flip, colors: normalize(augment(crop_resize(planes, box, out_hw, flip), colors))
  return jax.vmap(one)(*draws)
