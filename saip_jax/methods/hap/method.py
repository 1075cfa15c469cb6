"""HAP: MAE with two masks per image that hide parts of the body first, and aligned image features of the two.

Source: Yuan et al. 2023, arXiv 2310.20695.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.losses import matching
from saip_jax.losses.alignment import alignment_loss
from saip_jax.masking.parts import PART_BONES, part_patches
from saip_jax.methods.base import Aux, loss_metrics, sample_keys
from saip_jax.methods.hap.config import HapConfig
from saip_jax.methods.hap.masks import draw_masks
from saip_jax.methods.mae.autoencoder import MaskDraws
from saip_jax.methods.mae.method import Mae
from saip_jax.methods.mae.panels import painted_images, painted_row
from saip_jax.pictures import Panel, decoded, picture, tint
from saip_jax.views.plain import plain_crop, plain_crop_with_keypoints


@struct.dataclass
class HapViews:
  """Normalized crops of a batch and their masks.

  Attributes:
    images: (B, H, W, 3).
    masks: (2 B, ...) which patches are seen: both masks of the first image, both of the second, ...
    parts: (B, 6, L) bool, the patches of each part; None where no keypoints are read.
  """

  images: jax.Array
  masks: MaskDraws
  parts: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Hap(Mae):
  """The method, see `Method`, and `Mae` for everything that is not overridden here."""

  Config = HapConfig

  config: HapConfig

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """See `Method.batch_spec`; keypoints are COCO's 17, x, y in pixels of the canvas and visibility, 0 for unknown."""
    spec = super().batch_spec(global_batch)
    if not self.config.masks.most_parts:
      return spec
    return spec | {"keypoints": jax.ShapeDtypeStruct((global_batch, 17, 3), jnp.float32)}

  def views(self, batch, key: jax.Array) -> HapViews:
    c, grid, patch = self.config, self.autoencoder.grid, self.autoencoder.patch
    view_keys, mask_keys = jax.vmap(jax.random.split, out_axes=1)(sample_keys(key, batch["index"]))
    crop = c.crop_area, c.crop_aspect, self.backbone.image_hw
    if c.masks.most_parts:
      one = lambda image, hw, points, key: plain_crop_with_keypoints(image, hw, points, key, *crop)
      images, keypoints = jax.vmap(one)(batch["image"], batch["image_hw"], batch["keypoints"], view_keys)
      parts = jax.vmap(lambda points: part_patches(points, grid, patch, c.masks.min_score))(keypoints)
    else:
      one = lambda image, hw, key: plain_crop(image, hw, key, *crop)
      images, parts = jax.vmap(one)(batch["image"], batch["image_hw"], view_keys), None
    return HapViews(images, draw_masks(mask_keys, parts, c.masks, grid, c.mae.mask_ratio), parts)

  def objectives(self, params, method_state, views: HapViews, step: jax.Array) -> tuple[jax.Array, Aux]:
    del method_state, step  # no teacher, no schedule
    twice = jnp.repeat(views.images, 2, axis=0)
    out = self.autoencoder.forward(params["backbone"], params["mae"], twice, views.masks)
    first, second = jnp.moveaxis(out.cls.reshape(len(views.images), 2, -1), 1, 0)
    losses = {
      "mae": self.autoencoder.loss(out, views.masks),
      "align": alignment_loss(first, second, self.config.align.temperature),
    }
    total = losses["mae"] + self.config.align.weight * losses["align"]
    metrics = loss_metrics(losses, total) | {"monitor/feature_spread": matching.spread(first)}
    if views.parts is not None:
      found = jnp.sum(jnp.any(views.parts, axis=-1), axis=-1)
      metrics["monitor/parts"] = jnp.mean(found.astype(jnp.float32))
    return total, Aux(metrics, outputs=out)

  def panels(self, params, method_state, batch, key: jax.Array) -> dict[str, Panel]:
    del method_state
    views, painted = jax.device_get(_paint(self, params, batch, key))
    return {"masks": Panel([self._row(views, painted, batch, i) for i in range(len(views.images))])}

  def _row(self, views: HapViews, painted, batch, i: int):
    crop = picture(views.images[i])
    row = [("image", decoded(batch, i)), ("crop", crop)]
    if views.parts is not None:
      row.append(("parts", tint(crop, views.parts[i].reshape(len(PART_BONES), *self.autoencoder.grid))))
    for number in range(2):
      row += [(f"{name} {number + 1}", cell) for name, cell in painted_row(painted, 2 * i + number)]
    return row


@functools.partial(jax.jit, static_argnums=0)
def _paint(method: Hap, params, batch, key: jax.Array):
  views = method.views(batch, key)
  twice = jnp.repeat(views.images, 2, axis=0)
  return views, painted_images(method.autoencoder, params, twice, views.masks)
