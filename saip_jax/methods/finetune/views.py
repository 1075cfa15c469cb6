"""Views of supervised learning: an image is moved, scaled, mirrored and partly erased, and its labels follow."""

import dataclasses

import jax
import jax.numpy as jnp

from input_pipeline.records import IGNORE_LABEL
from saip_jax.views.geometry import (
  CROP_UNIFORMS,
  crop_nearest,
  crop_resize,
  keypoints_in_crop,
  sample_crop_box,
  to_planes,
)
from saip_jax.views.photometric import normalize

_ERASED_AREA, _ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedViews:
  """Random changes of the whole image, resized to the size of the view.

  Attributes:
    scale: range of the size of the view / the size of the image; outside the image the view is black.
    shift: largest shift of the view, in pixels of the view, in both directions of each axis.
    flip: share of mirrored views.
    erase: share of views with a rectangle of 2 % to a third of the area replaced by noise.
  """

  scale: tuple[float, float] = (1.0, 1.0)
  shift: int = 0
  flip: float = 0.0
  erase: float = 0.0

  def __post_init__(self):
    at = "config.method.views"
    if not 0 < self.scale[0] <= self.scale[1]:
      raise ValueError(f"{at}.scale is {self.scale}: expected two positive numbers, the lower first")
    if self.shift < 0:
      raise ValueError(f"{at}.shift is {self.shift}: it must be 0 or more")
    for name in ("flip", "erase"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f"{at}.{name} is {getattr(self, name)}: it must lie in 0 to 1")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Placement:
  """Where a view lies in its image.

  Attributes:
    box_yxhw: (4,) top, left, height, width in pixels of the canvas; may reach outside the image.
    flip: scalar bool, mirrored left and right.
    valid_hw: (2,) size of the image on its canvas.
    out_hw: size of the view.
  """

  box_yxhw: jax.Array
  flip: jax.Array
  valid_hw: jax.Array
  out_hw: tuple[int, int] = dataclasses.field(metadata={"static": True})

  def classes(self, labels: jax.Array) -> jax.Array:
    """Returns the view of classes (Hc, Wc) on the canvas: (H, W) int32, `IGNORE_LABEL` outside the image."""
    return self.plane(labels, IGNORE_LABEL, self.out_hw)

  def plane(self, labels: jax.Array, outside: int, grid_hw: tuple[int, int]) -> jax.Array:
    """Returns labels (Hc, Wc) at the middles of the cells of a grid on the view, (h, w) int32.

    Args:
      labels: whole numbers from 0, on the canvas.
      outside: label outside the image.
      grid_hw: (h, w).
    """
    inside = (jnp.arange(labels.shape[0])[:, None] < self.valid_hw[0]) & (
      jnp.arange(labels.shape[1]) < self.valid_hw[1]
    )
    known = jnp.where(inside, labels.astype(jnp.int32) + 1, 0)
    shown = crop_nearest(known, self.box_yxhw, grid_hw, self.flip).astype(jnp.int32)
    return jnp.where(shown > 0, shown - 1, outside)

  def points(self, points: jax.Array) -> jax.Array:
    """Returns keypoints of the canvas in pixels of the view, see `keypoints_in_crop`."""
    return keypoints_in_crop(points, self.box_yxhw, self.out_hw, self.flip)

  def corners(self, boxes: jax.Array) -> jax.Array:
    """Returns (N, 4) left, top, right, bottom in pixels of the view, of boxes (N, 4) x, y, width, height on the canvas.

    They may lie outside the view.
    """
    top, left, height, width = self.box_yxhw
    x = (jnp.stack([boxes[:, 0], boxes[:, 0] + boxes[:, 2]]) - left) * (self.out_hw[1] / width)
    y = (jnp.stack([boxes[:, 1], boxes[:, 1] + boxes[:, 3]]) - top) * (self.out_hw[0] / height)
    x = jnp.where(self.flip, self.out_hw[1] - x[::-1], x)
    return jnp.stack([x[0], y[0], x[1], y[1]], axis=1)


def supervised_view(
  image_u8: jax.Array, valid_hw: jax.Array, key: jax.Array, settings: SupervisedViews, out_hw: tuple[int, int]
) -> tuple[jax.Array, Placement]:
  """Returns one normalized view (H, W, 3) float32, and where it lies.

  With scale 1 it equals torchvision's resize, pad with black, and crop back to the same size.

  Args:
    image_u8: (Hc, Wc, 3) canvas.
    valid_hw: (2,) size in pixels of its valid part.
    key: key of the sample.
    settings: ranges of the random changes.
    out_hw: size of the view, pixels.

  Source: the transforms of Luo et al. 2019, "Bag of Tricks" for re-identification, section 3; erasing as in Zhong et
  al. 2017, arXiv 1708.04896, with noise as timm draws it.
  """
  places, flips, erasing, noise = jax.random.split(key, 4)
  low, high = settings.scale
  uniform = jax.random.uniform(places, (3,))
  size = valid_hw * (low + (high - low) * uniform[0])
  pixels = jnp.floor(uniform[1:] * (2 * settings.shift + 1)) - settings.shift
  start = (valid_hw - size) / 2 + pixels * size / jnp.array(out_hw)
  place = Placement(jnp.concatenate([start, size]), jax.random.uniform(flips) < settings.flip, valid_hw, tuple(out_hw))
  view = normalize(crop_resize(to_planes(image_u8), place.box_yxhw, out_hw, place.flip, valid_hw))
  if not settings.erase:
    return view, place
  uniform = jax.random.uniform(erasing, (CROP_UNIFORMS + 1,))
  top, left, height, width = sample_crop_box(uniform[1:], jnp.array(out_hw), _ERASED_AREA, _ERASED_ASPECT)
  rows, columns = jnp.arange(out_hw[0])[:, None], jnp.arange(out_hw[1])
  erased = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
  erased &= uniform[0] < settings.erase
  return jnp.where(erased[..., None], jax.random.normal(noise, view.shape), view), place
