"""What supervised learning sees of a picture: moved, scaled, mirrored, partly erased; labels can follow."""

import dataclasses

import jax
import jax.numpy as jnp

from saip_jax.views.geometry import (
  CROP_UNIFORMS,
  crop_nearest,
  crop_resize,
  keypoints_in_crop,
  sample_crop_box,
  to_planes,
)
from saip_jax.views.photometric import normalize

NOT_COUNTED = 255  # class of pixels that have none

_ERASED_AREA, _ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedViews:
  """How a view differs from the whole picture, squashed to its size.

  Attributes:
    scale: range of the size of what is seen / the size of the picture; beyond the picture it is black.
    shift: what is seen moves by up to so many pixels of the view, either way along either axis.
    flip: share of views that are mirrored.
    erase: share of views of which a rectangle, 2 % to a third of the area, is replaced by noise.
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
  """Where a view lies in its picture.

  Attributes:
    box_yxhw: (4,) top, left, height, width in pixels of the canvas; may reach beyond the picture.
    flip: scalar bool, mirrored left and right.
    picture_hw: (2,) size of the picture on its canvas.
    out_hw: size of the view.
  """

  box_yxhw: jax.Array
  flip: jax.Array
  picture_hw: jax.Array
  out_hw: tuple[int, int] = dataclasses.field(metadata={"static": True})

  def classes(self, labels: jax.Array) -> jax.Array:
    """Returns the view of classes (Hc, Wc) on the canvas: (H, W) int32, `NOT_COUNTED` beyond the picture."""
    return self.plane(labels, NOT_COUNTED, self.out_hw)

  def plane(self, labels: jax.Array, beyond: int, grid_hw: tuple[int, int]) -> jax.Array:
    """Returns what labels (Hc, Wc) say in the middles of the cells of a grid on the view, (h, w) int32.

    Args:
      labels: whole numbers from 0, on the canvas.
      beyond: what is said beyond the picture.
      grid_hw: (h, w).
    """
    inside = (jnp.arange(labels.shape[0])[:, None] < self.picture_hw[0]) & (
      jnp.arange(labels.shape[1]) < self.picture_hw[1]
    )
    known = jnp.where(inside, labels.astype(jnp.int32) + 1, 0)
    shown = crop_nearest(known, self.box_yxhw, grid_hw, self.flip).astype(jnp.int32)
    return jnp.where(shown > 0, shown - 1, beyond)

  def points(self, points: jax.Array) -> jax.Array:
    """Returns where keypoints of the canvas are in the view, see `keypoints_in_crop`."""
    return keypoints_in_crop(points, self.box_yxhw, self.out_hw, self.flip)

  def corners(self, boxes: jax.Array) -> jax.Array:
    """Boxes (N, 4) x, y, width, height on the canvas -> (N, 4) left, top, right, bottom in pixels of the view, or
    beyond it."""
    top, left, height, width = self.box_yxhw
    x = (jnp.stack([boxes[:, 0], boxes[:, 0] + boxes[:, 2]]) - left) * (self.out_hw[1] / width)
    y = (jnp.stack([boxes[:, 1], boxes[:, 1] + boxes[:, 3]]) - top) * (self.out_hw[0] / height)
    x = jnp.where(self.flip, self.out_hw[1] - x[::-1], x)
    return jnp.stack([x[0], y[0], x[1], y[1]], axis=1)


def supervised_view(
  image_u8: jax.Array, valid_hw: jax.Array, key: jax.Array, settings: SupervisedViews, out_hw: tuple[int, int]
) -> tuple[jax.Array, Placement]:
  """Returns one view, normalized, (H, W, 3) float32, and where it lies.

  Without a scale it is torchvision's resize, pad with black and crop back to the same size.

  Args:
    image_u8: (Hc, Wc, 3) canvas.
    valid_hw: (2,) size in pixels of its valid part.
    key: key of the sample.
    settings: what may happen.
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
