"""Views of HCMoCo: a crop of an image, its depth and its joints, and cells drawn in it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from input_pipeline.body import COCO_JOINTS
from saip_jax.backbones.semgcn import JOINT_PARENTS
from saip_jax.methods.base import sample_keys
from saip_jax.methods.hcmoco.config import HcmocoConfig
from saip_jax.views.rescaling import rescale_nearest
from saip_jax.views.rgbd import depth_image, rgbd_crop
from saip_jax.views.skeleton import centered_skeleton

_OF_COCO = np.array([COCO_JOINTS.index(joint) for joint in JOINT_PARENTS])
_ROOT = [parent for parent in JOINT_PARENTS.values()].index(None)


@struct.dataclass
class HcmocoViews:
  """Crops of a batch. J joints are those of `JOINT_PARENTS`, cells those of the finest map.

  Attributes:
    rgb: (B, H, W, 3) normalized.
    depth: (B, H, W, 3), see `depth_image`; zeros without depth.
    skeleton: (B, J, 2), see `centered_skeleton`.
    known: modality -> (B,) bool, the samples that have it: "rgb" all, "depth" those with a known pixel, "skeleton"
      those with a visible joint, or all as published.
    joints_xy: (B, J, 2) pixels of the crop.
    visible: (B, J) bool.
    places: (B, S) int32 cells of known depth, drawn with replacement; the first cell where there is none.
    index: (B,) index of each sample in the data set.
    drawn: (K,) int32 rows of the memory banks, or (B, K), for each sample; None without banks.
  """

  rgb: jax.Array
  depth: jax.Array
  skeleton: jax.Array
  known: dict[str, jax.Array]
  joints_xy: jax.Array
  visible: jax.Array
  places: jax.Array
  index: jax.Array
  drawn: jax.Array | None


def hcmoco_views(
  batch: dict[str, Any], key: jax.Array, config: HcmocoConfig, image_hw: tuple[int, int], grid: tuple[int, int]
) -> HcmocoViews:
  """Makes the views of a batch from (key of the micro-step, sample index), and draws rows of the banks from the key.

  Args:
    batch: fields of `Hcmoco.batch_spec`.
    key: key of the micro-step.
    config: the method's settings.
    image_hw: size of the crops in pixels.
    grid: rows and columns of the finest map.
  """
  sample_key, bank_key = jax.random.split(key)
  view_keys, place_keys = jax.vmap(jax.random.split, out_axes=1)(sample_keys(sample_key, batch["index"]))

  def one(image, depth, has_depth, valid_hw, keypoints, view_key, place_key):
    depth = jnp.where(has_depth, depth, 0)
    rgb, depth, joints = rgbd_crop(
      image, depth, valid_hw, keypoints[_OF_COCO], view_key, config.crop_area, config.crop_aspect, image_hw
    )
    xy, visible = joints[:, :2], joints[:, 2] > 0
    person = rescale_nearest(depth[..., None] > 0, grid)[..., 0]
    places = draw_places(jax.random.uniform(place_key, (config.places,)), person)
    known = {"rgb": True, "depth": jnp.any(person), "skeleton": jnp.any(visible) | config.as_published}
    return rgb, depth_image(depth), centered_skeleton(xy, visible, _ROOT), known, xy, visible, places

  fields = ("image", "depth", "has_depth", "image_hw", "keypoints")
  views = jax.vmap(one)(*(batch[name] for name in fields), view_keys, place_keys)
  drawn = None
  if config.negatives == "bank":
    each = (len(batch["index"]),) if config.as_published else ()
    drawn = jax.random.randint(bank_key, (*each, config.bank.draws), 0, config.bank.size)
  return HcmocoViews(*views, batch["index"].astype(jnp.int32), drawn)


def draw_places(uniform: jax.Array, wanted: jax.Array) -> jax.Array:
  """Returns (S,) int32 cells drawn uniformly from the wanted ones; the first cell S times if none is wanted.

  Args:
    uniform: (S,) uniform numbers.
    wanted: (h, w) bool.
  """
  wanted = wanted.reshape(-1)
  wanted_first = jnp.argsort(~wanted, stable=True)
  return wanted_first[jnp.floor(uniform * jnp.sum(wanted)).astype(jnp.int32)]
