"""CroCo-Human: hidden patches of a person are predicted with the help of another view or pose of the same person.

Source: Armando et al. 2024, arXiv 2311.09104, on the networks of CroCo (Weinzaepfel et al. 2022, arXiv 2210.10716) and
CroCo v2 (2023, arXiv 2211.10408). The encoder is the ViT of every method here, with a class token, which CroCo does not
have: it is loaded and exported like any other, and SAIP can start from it.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.settings import PAIR_KINDS
from saip_jax.backbones.patches import patchify, unpatchify
from saip_jax.losses import matching
from saip_jax.masking.foreground import patch_shares
from saip_jax.methods.base import Aux, loss_metrics, sample_keys
from saip_jax.methods.croco_human.autoencoder import PairAutoencoder, PairViews
from saip_jax.methods.croco_human.config import CrocoHumanConfig
from saip_jax.methods.mae.method import Mae
from saip_jax.methods.mae.panels import painted_row
from saip_jax.pictures import Panel, decoded, paint, picture
from saip_jax.views.geometry import crop_resize
from saip_jax.views.jittered import jittered_crop
from saip_jax.views.photometric import ColorJitter


@dataclasses.dataclass(frozen=True)
class CrocoHuman(Mae):
  """The method, see `Method`, and `Mae` for everything that is not overridden here."""

  Config = CrocoHumanConfig

  config: CrocoHumanConfig

  def __post_init__(self):
    super().__post_init__()
    if (self.config.positions == "rope") != self.backbone.rope:
      raise ValueError(
        f"config.method.positions is {self.config.positions!r}: 'rope' is for the backbones vit_*_rope of "
        "config.model.backbone, and they have no other positions"
      )

  @property
  def autoencoder(self) -> PairAutoencoder:
    return PairAutoencoder(self.config.mae, self.backbone, self.config.positions, self.config.second_image)

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """See `Method.batch_spec`; `pair_type` indexes `PAIR_KINDS`, silhouettes are on the canvas of the first image."""
    spec = lambda dtype, *shape: jax.ShapeDtypeStruct((global_batch, *shape), dtype)
    pairs = {
      "partner": spec(jnp.uint8, *self.canvas_hw, 3),
      "partner_hw": spec(jnp.int32, 2),
      "pair_type": spec(jnp.int32),
    }
    if self.config.masks.mode == "foreground":
      pairs |= {"foreground": spec(jnp.bool_, *self.canvas_hw), "has_foreground": spec(jnp.bool_)}
    return super().batch_spec(global_batch) | pairs

  def views(self, batch, key: jax.Array) -> PairViews:
    c = self.config
    out_hw, patch = self.backbone.image_hw, self.autoencoder.patch
    keys = jax.vmap(lambda key: jax.random.split(key, 3))(sample_keys(key, batch["index"]))  # (B, 3)
    both = lambda suffix: jnp.stack([batch[f"image{suffix}"], batch[f"partner{suffix}"]], axis=1)
    crop = lambda image, hw, key: jittered_crop(
      image, hw, key, c.crop_area, c.crop_aspect, ColorJitter(*c.jitter, hue=0.0), out_hw
    )
    images, boxes = jax.vmap(jax.vmap(crop))(both(""), both("_hw"), keys[:, :2])  # (B, 2, H, W, 3)
    preference = jnp.zeros((len(images), self.autoencoder.patches))
    if c.masks.mode == "foreground":
      share = lambda mask, box: patch_shares(crop_resize(mask[None].astype(jnp.float32), box, out_hw)[0], patch)
      shares = jax.vmap(share)(batch["foreground"], boxes[:, 0])
      preference = c.masks.preference * shares * batch["has_foreground"][:, None]
    first, second = images[:, 0], images[:, 1]
    return PairViews(first, second, batch["pair_type"], self.autoencoder.draw(keys[:, 2], preference))

  def objectives(self, params, method_state, views: PairViews, step: jax.Array) -> tuple[jax.Array, Aux]:
    """Returns the sum of the losses of both kinds of pairs, each the mean over the pairs of its kind, and `Aux`."""
    del method_state, step  # no teacher, no schedule
    out = self.autoencoder.forward(params["backbone"], params["mae"], views)
    losses = self.autoencoder.losses(out, views, len(PAIR_KINDS))
    total = jnp.sum(losses)
    metrics = loss_metrics({name: losses[i] for i, name in enumerate(PAIR_KINDS)}, total) | {
      "monitor/view_pairs": jnp.mean((views.kind == PAIR_KINDS.index("view")).astype(jnp.float32)),
      "monitor/feature_spread": matching.spread(out.cls),
    }
    return total, Aux(metrics, outputs=out)

  def panels(self, params, method_state, batch, key: jax.Array) -> dict[str, Panel]:
    del method_state
    shown = jax.device_get(_paint(self, params, batch, key))
    return {"completion": Panel([_row(shown, batch, i) for i in range(len(batch["index"]))])}


@functools.partial(jax.jit, static_argnums=0)
def _paint(method: CrocoHuman, params, batch, key: jax.Array):
  """Returns the images of the panel: views, and reconstructions with their partners and with those of other samples."""
  views = method.views(batch, key)
  autoencoder, networks = method.autoencoder, (params["backbone"], params["mae"])
  painted = lambda views: paint(
    views.images, autoencoder.forward(*networks, views).prediction, views.masks.seen, autoencoder.patch
  )
  shown = {
    "image": views.images,
    "partner": views.partners,
    "painted": painted(views),
    "hidden": (1.0 - views.masks.seen).reshape(-1, *autoencoder.grid),
  }
  if method.config.second_image:
    shown["painted with another"] = painted(views.replace(partners=jnp.roll(views.partners, 1, axis=0)))
    most = jnp.argmax(autoencoder.cross_map(*networks, views), axis=-1)  # (B, L)
    patches = jnp.take_along_axis(patchify(views.partners, autoencoder.patch), most[..., None], axis=1)
    shown["looked at"] = unpatchify(patches, autoencoder.grid, autoencoder.patch)
  return shown


def _row(shown, batch, i: int) -> list[tuple[str, np.ndarray]]:
  row = [
    ("image", decoded(batch, i)),
    (PAIR_KINDS[int(batch["pair_type"][i])], decoded(batch, i, "partner")),
    ("first", picture(shown["image"][i])),
    ("second", picture(shown["partner"][i])),
    *painted_row(shown["painted"] | {"hidden": shown["hidden"]}, i),
  ]
  if "looked at" in shown:
    another = shown["painted with another"]["together"][i]
    row += [("with another second", picture(another)), ("looked at in the second", picture(shown["looked at"][i]))]
  return row
