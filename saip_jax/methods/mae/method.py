"""MAE: most patches of an image are hidden, and predicted from the rest.

Source: He et al. 2022, arXiv 2111.06377. As SAIP's baseline it learns from crops of persons.
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.losses import matching
from saip_jax.methods.base import Aux, Method, ParamGroup, loss_metrics, sample_keys
from saip_jax.methods.groups import usual_groups
from saip_jax.methods.mae.autoencoder import MaskDraws, MaskedAutoencoder, MaskedConfig
from saip_jax.methods.mae.panels import painted_images, painted_row
from saip_jax.pictures import Panel, decoded, picture
from saip_jax.views.plain import plain_crop


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaeConfig:
  """MAE's own settings; recipes give every number.

  Attributes:
    name: "mae".
    crop_area: range of the area fraction of the crop.
    crop_aspect: range of its width / height.
    mae: mask and decoder.
    positions: positions of the patches, in encoder and decoder: "learned", or "cosine", fixed, as published.
  """

  name: str
  crop_area: tuple[float, float]
  crop_aspect: tuple[float, float]
  mae: MaskedConfig
  positions: Literal["learned", "cosine"] = "learned"


@struct.dataclass
class MaeViews:
  """Normalized crops of a batch and their masks.

  Attributes:
    images: (B, H, W, 3).
    masks: which patches are seen.
  """

  images: jax.Array
  masks: MaskDraws


@dataclasses.dataclass(frozen=True)
class Mae(Method):
  """The method, see `Method`; it keeps no state beside the parameters."""

  Config = MaeConfig

  config: MaeConfig

  def __post_init__(self):
    _ = self.autoencoder  # raises for backbones and sizes that cannot be masked

  @classmethod
  def vit_options(cls, settings) -> dict[str, str]:
    return super().vit_options(settings) | {"positions": settings.positions}

  @property
  def autoencoder(self) -> MaskedAutoencoder:
    return MaskedAutoencoder(self.config.mae, self.backbone, self.config.positions)

  def init(self, key: jax.Array):
    """Returns (params, method_state), the second empty.

    The norm of the tapped layer is among the parameters, as in every encoder, so that other methods can start from
    this one; it is not used here and stays as it is.
    """
    keys = jax.random.split(key)
    images = jnp.zeros((1, *self.backbone.image_hw, 3))
    backbone = self.backbone.init(keys[0], images, ("cls", "hidden"))["params"]
    return {"backbone": backbone, "mae": self.autoencoder.init(keys[1])}, {}

  def views(self, batch, key: jax.Array) -> MaeViews:
    view_keys, mask_keys = jax.vmap(jax.random.split, out_axes=1)(sample_keys(key, batch["index"]))
    crop = lambda *sample: plain_crop(*sample, self.config.crop_area, self.config.crop_aspect, self.backbone.image_hw)
    return MaeViews(jax.vmap(crop)(batch["image"], batch["image_hw"], view_keys), self.autoencoder.draw(mask_keys))

  def objectives(self, params, method_state, views: MaeViews, step: jax.Array) -> tuple[jax.Array, Aux]:
    del method_state, step  # no teacher, no schedule
    out = self.autoencoder.forward(params["backbone"], params["mae"], views.images, views.masks)
    loss = self.autoencoder.loss(out, views.masks)
    metrics = loss_metrics({"mae": loss}, loss) | {"monitor/feature_spread": matching.spread(out.cls)}
    return loss, Aux(metrics, outputs=out)

  def param_groups(self) -> list[tuple[str, ParamGroup]]:
    """As published, class and mask token decay; positions, which are fixed there, do not."""
    return usual_groups(decay_tokens=True, decay_positions=False)

  def panels(self, params, method_state, batch, key: jax.Array) -> dict[str, Panel]:
    del method_state
    images, painted = jax.device_get(_paint(self, params, batch, key))
    rows = [
      [("image", decoded(batch, i)), ("crop", picture(images[i])), *painted_row(painted, i)] for i in range(len(images))
    ]
    return {"reconstruction": Panel(rows)}


@functools.partial(jax.jit, static_argnums=0)
def _paint(method: Mae, params, batch, key: jax.Array):
  views = method.views(batch, key)
  return views.images, painted_images(method.autoencoder, params, views.images, views.masks)
