"""MAE: three quarters of an image are hidden, and painted from what is left.

Source: He et al. 2022, arXiv 2111.06377. As SAIP's baseline it learns from crops of persons.
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp

from saip_jax.backbones.features import Backbone
from saip_jax.losses import matching
from saip_jax.methods import teacher as teacher_of
from saip_jax.methods.base import Aux, ParamGroup
from saip_jax.methods.groups import usual_groups
from saip_jax.methods.mae.autoencoder import MaskDraws, MaskedAutoencoder, MaskedConfig
from saip_jax.methods.samples import image_spec, sample_keys
from saip_jax.pictures import Panel, decoded, gray, paint, picture
from saip_jax.views.plain import plain_crop


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaeConfig:
  """MAE's own settings; recipes state every number.

  Attributes:
    name: "mae".
    crop_area: range of the area fraction of the crop.
    crop_aspect: range of its width / height.
    mae: what is hidden, and the decoder.
    positions: where patches are, in encoder and decoder: "learned", or "cosine", fixed, as published.
  """

  name: str
  crop_area: tuple[float, float]
  crop_aspect: tuple[float, float]
  mae: MaskedConfig
  positions: Literal["learned", "cosine"] = "learned"


@dataclasses.dataclass(frozen=True)
class Mae:
  """The method: see `saip_jax.methods.base.Method` for the protocol.

  Attributes:
    config: its settings.
    backbone: the encoder.
    canvas_hw: size of decoded images, pixels.
  """

  config: MaeConfig
  backbone: Backbone
  canvas_hw: tuple[int, int]

  def __post_init__(self):
    _ = self.autoencoder  # refuses what cannot be masked

  @property
  def autoencoder(self) -> MaskedAutoencoder:
    return MaskedAutoencoder(self.config.mae, self.backbone, self.config.positions)

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    return image_spec(global_batch, self.canvas_hw)

  def init(self, key: jax.Array):
    """Returns (params, method_state); nothing is kept beside the parameters.

    The norm of the tapped layer is among them, as in every encoder, so that other methods can start from this one; it
    is not read here and stays as it is.
    """
    keys = jax.random.split(key)
    images = jnp.zeros((1, *self.backbone.image_hw, 3))
    backbone = self.backbone.init(keys[0], images, ("cls", "hidden"))["params"]
    return {"backbone": backbone, "mae": self.autoencoder.init(keys[1])}, {}

  def load_params(self, params, method_state, student: dict, teacher: dict | None):
    return teacher_of.load_params(params, method_state, student, teacher)

  def views_and_draws(self, batch, key: jax.Array) -> tuple[jax.Array, MaskDraws]:
    """Returns crops (B, H, W, 3) and masks from (key of the micro-step, sample index)."""
    view_keys, mask_keys = jax.vmap(jax.random.split, out_axes=1)(sample_keys(key, batch["index"]))
    crop = lambda *sample: plain_crop(*sample, self.config.crop_area, self.config.crop_aspect, self.backbone.image_hw)
    return jax.vmap(crop)(batch["image"], batch["image_hw"], view_keys), self.autoencoder.draw(mask_keys)

  def objectives(self, params, images: jax.Array, draws: MaskDraws) -> tuple[jax.Array, Aux]:
    """Returns the loss on given crops and masks."""
    out = self.autoencoder.forward(params["backbone"], params["mae"], images, draws)
    loss = self.autoencoder.loss(out, draws)
    metrics = {"loss/mae": loss, "loss/total": loss, "monitor/feature_spread": matching.spread(out.cls)}
    return loss, Aux(metrics, {})

  def loss(self, params, method_state, batch, key: jax.Array, step: jax.Array):
    del method_state, step  # there is no teacher, and nothing is scheduled
    return self.objectives(params, *self.views_and_draws(batch, key))

  def after_update(self, method_state, params, for_update, step: jax.Array):
    del params, for_update, step
    return method_state

  def param_groups(self) -> list[tuple[str, ParamGroup]]:
    """As published, class and mask token decay; positions, which are fixed there, do not."""
    return usual_groups(decay_tokens=True, decay_positions=False)

  def export_params(self, params, method_state, which: str):
    return teacher_of.export_params(params, method_state, which)

  def panels(self, params, method_state, batch, key: jax.Array) -> dict[str, Panel]:
    del method_state
    images, painted = jax.device_get(_paint(self, params, batch, key))
    rows = [
      [("image", decoded(batch, i)), ("crop", picture(images[i])), *painted_row(painted, i)] for i in range(len(images))
    ]
    return {"reconstruction": Panel(rows)}


@functools.partial(jax.jit, static_argnums=0)
def _paint(method: Mae, params, batch, key: jax.Array):
  images, draws = method.views_and_draws(batch, key)
  return images, painted_images(method.autoencoder, params, images, draws)


def painted_images(autoencoder: MaskedAutoencoder, params, images: jax.Array, draws: MaskDraws) -> dict[str, jax.Array]:
  """Returns what `painted_row` shows: the pictures of `pictures.paint`, and "hidden", (B, h, w), 1 where it was."""
  out = autoencoder.forward(params["backbone"], params["mae"], images, draws)
  hidden = (1.0 - draws.seen).reshape(-1, *autoencoder.grid)
  return paint(images, out.prediction, draws.seen, autoencoder.patch) | {"hidden": hidden}


def painted_row(painted, i: int):
  """Returns the cells of a panel's row for sample i: what was seen, what of it hidden, and what was painted."""
  return [
    ("seen", picture(painted["seen"][i])),
    ("hidden", gray(painted["hidden"][i], painted["seen"][i].shape[:2])),
    ("reconstruction", picture(painted["painted"][i])),
    ("with the seen", picture(painted["together"][i])),
  ]
