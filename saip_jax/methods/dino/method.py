"""DINO: small crops of an image shall look like large ones to a teacher that is the student's moving average.

Source: Caron et al. 2021, arXiv 2104.14294. SAIP's matching is its loss; with a weight of `mae` the student also
reconstructs the hidden patches of the first global view (DINO+MAE).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from saip_jax.backbones.features import Backbone, Views
from saip_jax.heads.prototype import PrototypeHead
from saip_jax.losses import matching
from saip_jax.methods import teacher as teacher_of
from saip_jax.methods.base import Aux, ParamGroup
from saip_jax.methods.dino.config import DinoConfig
from saip_jax.methods.groups import usual_groups
from saip_jax.methods.mae.autoencoder import MaskDraws, MaskedAutoencoder
from saip_jax.methods.mae.method import painted_images, painted_row
from saip_jax.methods.samples import image_spec, sample_keys
from saip_jax.pictures import Panel, decoded, picture
from saip_jax.views.multicrop import multicrop


@struct.dataclass
class DinoViews:
  """Normalized views of a batch.

  Attributes:
    globals: (B, 2, H, W, 3).
    locals: (B, n, H/2, W/2, 3); None without local crops.
    masks: what is hidden of the first global view; None where nothing is reconstructed.
  """

  globals: jax.Array
  locals: jax.Array | None = None
  masks: MaskDraws | None = None


@dataclasses.dataclass(frozen=True)
class Dino:
  """The method: see `saip_jax.methods.base.Method` for the protocol.

  Attributes:
    config: its settings.
    backbone: the encoder.
    canvas_hw: size of decoded images, pixels.
    total_steps: updates of the run.
    accumulate: micro-steps per update.
  """

  config: DinoConfig
  backbone: Backbone
  canvas_hw: tuple[int, int]
  total_steps: int
  accumulate: int = 1

  def __post_init__(self):
    _ = self.autoencoder  # refuses what cannot be masked

  @property
  def head(self) -> PrototypeHead:
    c = self.config
    return PrototypeHead(
      c.prototypes, c.hidden, c.bottleneck, self.backbone.dtype, c.weights, learned_gain=not c.norm_last_layer
    )

  @property
  def autoencoder(self) -> MaskedAutoencoder | None:
    """What reconstructs; None with a weight of 0."""
    return MaskedAutoencoder(self.config.mae, self.backbone) if self.config.mae.weight else None

  @property
  def local_hw(self) -> tuple[int, int]:
    """Size of local crops, pixels."""
    height, width = self.backbone.image_hw
    return height // 2, width // 2

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    return image_spec(global_batch, self.canvas_hw)

  def init(self, key: jax.Array):
    """Returns (params, method_state); the teacher starts as a copy of the student, the center at zero.

    The norm of the tapped layer is among the parameters, as in every encoder, so that other methods can start from
    this one; it is not read here and stays as it is.
    """
    keys = jax.random.split(key, 3)
    backbone = self.backbone.init(keys[0], jnp.zeros((1, *self.backbone.image_hw, 3)), ("cls", "hidden"))
    head = self.head.init(keys[1], jnp.zeros((1, 1, self.backbone.feature_width)))["params"]
    params = {"backbone": backbone["params"], "head": head}
    method_state = teacher_of.start(params, backbone.get("batch_stats"), taught=True)
    if self.autoencoder:
      params["mae"] = self.autoencoder.init(keys[2])  # the teacher reconstructs nothing
    return params, method_state | {"center": jnp.zeros((self.config.prototypes,))}

  def load_params(self, params, method_state, student: dict, teacher: dict | None):
    """Starts from other weights; the center stays at zero, it fills within some twenty updates."""
    return teacher_of.load_params(params, method_state, student, teacher)

  def make_views(self, batch, key: jax.Array) -> DinoViews:
    """Makes views and masks from (key of the micro-step, sample index)."""
    c = self.config
    view_keys, mask_keys = jax.vmap(jax.random.split, out_axes=1)(sample_keys(key, batch["index"]))
    crops = functools.partial(
      multicrop,
      locals_=c.local_crops,
      aspect=c.crop_aspect,
      global_area=c.global_area,
      local_area=c.local_area,
      global_hw=self.backbone.image_hw,
      local_hw=self.local_hw,
    )
    masks = self.autoencoder.draw(mask_keys) if self.autoencoder else None
    return DinoViews(*jax.vmap(crops)(batch["image"], batch["image_hw"], view_keys), masks)

  def objectives(self, params, method_state, views: DinoViews, step: jax.Array) -> tuple[jax.Array, Aux]:
    """Returns the loss on given views; the metrics hold each term unweighted."""
    config, batch = self.config, len(views.globals)
    statistics = method_state.get("statistics", {})
    read = lambda params, who, views: self._read(params, statistics.get(who), views, batch)
    wanted = [views.globals] if views.locals is None else [views.globals, views.locals]
    cls, seen = read(params["backbone"], "student", wanted)
    teacher_params = jax.lax.stop_gradient(method_state["teacher"])
    teacher_cls, taught = read(teacher_params["backbone"], "teacher", [views.globals])
    logits = self.head.apply({"params": params["head"]}, cls)
    teacher_logits = self.head.apply({"params": teacher_params["head"]}, teacher_cls)

    teacher = matching.teacher_probabilities(teacher_logits, method_state["center"], self.temp_teacher(step))
    losses = {"dino": matching.matching_loss(logits, teacher, config.temp_student)}
    total = losses["dino"]
    if self.autoencoder:
      out = self.autoencoder.forward(params["backbone"], params["mae"], views.globals[:, 0], views.masks)
      losses["mae"] = self.autoencoder.loss(out, views.masks)
      total += config.mae.weight * losses["mae"]
    metrics = {f"loss/{name}": value for name, value in losses.items()} | {
      "loss/total": total,
      "monitor/teacher_entropy": matching.entropy(teacher),
      "monitor/center_norm": jnp.linalg.norm(method_state["center"]),
      "monitor/feature_spread": matching.spread(cls[:, 0]),
    }
    for_update = {"center": jnp.mean(teacher_logits.astype(jnp.float32), axis=(0, 1))}
    if statistics:
      for_update["statistics"] = {"student": seen, "teacher": taught}
    return total, Aux(metrics, for_update)

  def _read(self, params, statistics, images: list[jax.Array], batch: int) -> tuple[jax.Array, Any]:
    """Returns the image features (B, V, D) of all views in turn, and the running statistics after them."""
    views = [Views(each, ["cls"]) for each in images]
    features, after = teacher_of.encode(self.backbone, params, statistics, views)
    return jnp.concatenate([f.cls.reshape(batch, -1, f.cls.shape[-1]) for f in features], axis=1), after

  def temp_teacher(self, step: jax.Array) -> jax.Array:
    """Returns the teacher's temperature at a micro-step: it rises in a line or in stairs, and stays from then on."""
    config = self.config
    updates = round(config.temp_teacher_warmup * self.total_steps)
    done = jnp.minimum(step // self.accumulate / max(updates, 1), 1.0) if updates else 1.0
    if config.temp_teacher_stairs and updates:
      stair = step // self.accumulate * config.temp_teacher_stairs // updates
      done = jnp.minimum(stair / (config.temp_teacher_stairs - 1), 1.0)
    return config.temp_teacher_start + (config.temp_teacher - config.temp_teacher_start) * done

  def loss(self, params, method_state, batch, key: jax.Array, step: jax.Array):
    return self.objectives(params, method_state, self.make_views(batch, key), step)

  def after_update(self, method_state, params, for_update, step: jax.Array):
    """Moves the teacher once per update, the center and the running statistics at every micro-step."""
    kept = teacher_of.cosine_momentum(self.config.teacher_momentum, step, self.total_steps, self.accumulate)
    after = method_state | {
      "teacher": teacher_of.follow(method_state["teacher"], params, kept),
      "center": optax.incremental_update(
        for_update["center"], method_state["center"], 1.0 - self.config.center_momentum
      ),
    }
    if "statistics" in method_state:
      after["statistics"] = teacher_of.move_statistics(
        "own", method_state["statistics"], for_update["statistics"], kept
      )
    return after

  def param_groups(self) -> list[tuple[str, ParamGroup]]:
    """As published, everything of more than one axis decays, tokens and positions too; prototypes start later."""
    start = round(self.config.prototypes_frozen * self.total_steps)
    return [(r"^head/(prototypes|gain)$", ParamGroup(start=start)), *usual_groups(decay_tokens=True)]

  def export_params(self, params, method_state, which: str):
    return teacher_of.export_params(params, method_state, which)

  def panels(self, params, method_state, batch, key: jax.Array) -> dict[str, Panel]:
    del method_state
    views, painted = jax.device_get(_views_and_paint(self, params, batch, key))
    samples = range(len(views.globals))
    panels = {"views": Panel([_view_row(views, batch, i) for i in samples])}
    if painted:
      rows = [[("global 1", picture(views.globals[i, 0])), *painted_row(painted, i)] for i in samples]
      panels["reconstruction"] = Panel(rows)
    return panels


@functools.partial(jax.jit, static_argnums=0)
def _views_and_paint(method: Dino, params, batch, key: jax.Array):
  views = method.make_views(batch, key)
  if not method.autoencoder:
    return views, None
  return views, painted_images(method.autoencoder, params, views.globals[:, 0], views.masks)


def _view_row(views: DinoViews, batch, i: int):
  locals_ = [] if views.locals is None else views.locals[i]
  return [
    ("image", decoded(batch, i)),
    *((f"global {j + 1}", picture(view)) for j, view in enumerate(views.globals[i])),
    *((f"local {j + 1}", picture(view)) for j, view in enumerate(locals_)),
  ]
