"""HAP: MAE whose masks hide parts of the body, two per image, and whose image features of the two agree.

Source: Yuan et al. 2023, arXiv 2310.20695.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from saip_jax.losses import matching
from saip_jax.losses.alignment import alignment_loss
from saip_jax.masking.parts import PART_BONES, part_patches
from saip_jax.methods.base import Aux
from saip_jax.methods.hap.config import HapConfig
from saip_jax.methods.hap.masks import draw_masks
from saip_jax.methods.mae.autoencoder import MaskDraws
from saip_jax.methods.mae.method import Mae, painted_images, painted_row
from saip_jax.methods.pictures import decoded, gray, picture
from saip_jax.methods.samples import sample_keys
from saip_jax.pictures import Panel
from saip_jax.views.plain import plain_crop, plain_crop_with_keypoints

_COLORS = np.float32(
  [
    (0.95, 0.77, 0.06),
    (0.20, 0.60, 0.86),
    (0.61, 0.35, 0.71),
    (0.18, 0.80, 0.44),
    (0.90, 0.49, 0.13),
    (0.91, 0.30, 0.24),
  ]
)  # of the parts in panels


@struct.dataclass
class HapDraws:
  """What is hidden of each crop.

  Attributes:
    masks: of (2 B, ...), both masks of the first image, both of the second, ...
    parts: (B, 6, L) bool, the patches of each part; None where no keypoints are read.
  """

  masks: MaskDraws
  parts: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Hap(Mae):
  """The method: see `saip_jax.methods.base.Method` for the protocol, and `Mae` for what is not said here."""

  config: HapConfig

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """See `Method.batch_spec`; keypoints are COCO's 17, x, y in pixels of the canvas and visibility, 0 for unknown."""
    spec = super().batch_spec(global_batch)
    if not self.config.masks.most_parts:
      return spec
    return spec | {"keypoints": jax.ShapeDtypeStruct((global_batch, 17, 3), jnp.float32)}

  def views_and_draws(self, batch, key: jax.Array) -> tuple[jax.Array, HapDraws]:
    """Returns crops (B, H, W, 3) and masks from (key of the micro-step, sample index)."""
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
    return images, HapDraws(draw_masks(mask_keys, parts, c.masks, grid, c.mae.mask_ratio), parts)

  def objectives(self, params, images: jax.Array, draws: HapDraws) -> tuple[jax.Array, Aux]:
    """Returns the loss on given crops and masks; the metrics hold each term unweighted."""
    twice = jnp.repeat(images, 2, axis=0)
    out = self.autoencoder.forward(params["backbone"], params["mae"], twice, draws.masks)
    first, second = jnp.moveaxis(out.cls.reshape(len(images), 2, -1), 1, 0)
    losses = {
      "mae": self.autoencoder.loss(out, draws.masks),
      "align": alignment_loss(first, second, self.config.align.temperature),
    }
    total = losses["mae"] + self.config.align.weight * losses["align"]
    metrics = {f"loss/{name}": value for name, value in losses.items()} | {
      "loss/total": total,
      "monitor/feature_spread": matching.spread(first),
    }
    if draws.parts is not None:
      found = jnp.sum(jnp.any(draws.parts, axis=-1), axis=-1)
      metrics["monitor/parts"] = jnp.mean(found.astype(jnp.float32))
    return total, Aux(metrics, {})

  def panels(self, params, method_state, batch, key: jax.Array) -> dict[str, Panel]:
    del method_state
    images, parts, painted = jax.device_get(_paint(self, params, batch, key))
    return {"masks": Panel([self._row(images, parts, painted, batch, i) for i in range(len(images))])}

  def _row(self, images, parts, painted, batch, i: int):
    crop = picture(images[i])
    row = [("image", decoded(batch, i)), ("crop", crop)]
    if parts is not None:
      row.append(("parts", _tinted(crop, parts[i].reshape(len(PART_BONES), *self.autoencoder.grid))))
    for number in range(2):
      row += [(f"{name} {number + 1}", cell) for name, cell in painted_row(painted, 2 * i + number)]
    return row


@functools.partial(jax.jit, static_argnums=0)
def _paint(method: Hap, params, batch, key: jax.Array):
  images, draws = method.views_and_draws(batch, key)
  twice = jnp.repeat(images, 2, axis=0)
  return images, draws.parts, painted_images(method.autoencoder, params, twice, draws.masks)


def _tinted(image: np.ndarray, parts: np.ndarray) -> np.ndarray:
  """Returns an image (H, W, 3) in 0 to 1 with parts (6, h, w) tinted, where they overlap in a mixture of colors."""
  covers = np.stack([gray(part.astype(np.float32), image.shape[:2])[..., 0] for part in parts])  # (6, H, W)
  number = covers.sum(0)[..., None]
  tint = np.tensordot(covers, _COLORS, (0, 0)) / np.maximum(number, 1)
  return np.where(number > 0, 0.5 * image + 0.5 * tint, 0.5 * image).astype(np.float32)
