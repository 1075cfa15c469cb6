"""DINO: the student matches, from small crops, the outputs of an EMA teacher on large crops.

Source: Caron et al. 2021, arXiv 2104.14294. The loss is the one of SAIP's matching. With a positive `mae.weight` the
student also reconstructs the hidden patches of the first global view (DINO+MAE).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from saip_jax.backbones.features import Views
from saip_jax.heads.prototype import PrototypeHead
from saip_jax.losses import matching
from saip_jax.methods.base import Aux, Method, ParamGroup, loss_metrics, sample_keys
from saip_jax.methods.dino.config import DinoConfig
from saip_jax.methods.groups import usual_groups
from saip_jax.methods.mae.autoencoder import MaskDraws, MaskedAutoencoder
from saip_jax.methods.mae.panels import painted_images, painted_row
from saip_jax.methods.modules import encode_views
from saip_jax.methods.teacher import cosine_momentum, move_statistics, move_teacher, start_teacher
from saip_jax.pictures import Panel, decoded, picture
from saip_jax.views.multicrop import multicrop


@struct.dataclass
class DinoViews:
  """Normalized views of a batch.

  Attributes:
    globals: (B, 2, H, W, 3).
    locals: (B, n, H/2, W/2, 3); None without local crops.
    masks: masks of the first global view; None without reconstruction.
  """

  globals: jax.Array
  locals: jax.Array | None = None
  masks: MaskDraws | None = None


@struct.dataclass
class DinoOutputs:
  """Outputs of the networks for a batch; views are ordered [global 1, global 2, local crops].

  Attributes:
    cls: (B, V, D) image features of the student.
    logits: (B, V, K) its prototype logits.
    teacher_cls: (B, 2, D) image features of the teacher.
    teacher_logits: (B, 2, K) its prototype logits.
  """

  cls: jax.Array
  logits: jax.Array
  teacher_cls: jax.Array
  teacher_logits: jax.Array


@dataclasses.dataclass(frozen=True)
class Dino(Method):
  """The method, see `Method`.

  Attributes:
    total_steps: updates of the run.
    accumulate: micro-steps per update.
  """

  Config = DinoConfig

  config: DinoConfig
  total_steps: int
  accumulate: int = 1

  def __post_init__(self):
    _ = self.autoencoder  # raises for backbones and sizes that cannot be masked

  @classmethod
  def build(cls, config, **backbone_options) -> "Dino":
    backbone = cls.build_encoder(config, **backbone_options)
    return cls(config.method, backbone, config.data.canvas_hw, config.total_steps, config.accumulate)

  @classmethod
  def vit_options(cls, settings) -> dict[str, str]:
    interpolation = {"grid2d": "grid2d", "as_published": "grid2d_offset"}[settings.positions]
    return {"pos_interpolation": interpolation, "tokens": "normal", "weights": settings.weights}

  @property
  def head(self) -> PrototypeHead:
    c = self.config
    return PrototypeHead(
      c.prototypes, c.hidden, c.bottleneck, self.backbone.dtype, c.weights, learned_gain=not c.norm_last_layer
    )

  @property
  def autoencoder(self) -> MaskedAutoencoder | None:
    """The masked autoencoder; None with a weight of 0."""
    return MaskedAutoencoder(self.config.mae, self.backbone) if self.config.mae.weight else None

  @property
  def local_hw(self) -> tuple[int, int]:
    """Size of local crops, pixels."""
    height, width = self.backbone.image_hw
    return height // 2, width // 2

  def init(self, key: jax.Array):
    """Returns (params, method_state); the teacher starts as a copy of the student, the center at zero.

    The norm of the tapped layer is among the parameters, as in every encoder, so that other methods can start from
    this one; it is not used here and stays as it is.
    """
    keys = jax.random.split(key, 3)
    backbone = self.backbone.init(keys[0], jnp.zeros((1, *self.backbone.image_hw, 3)), ("cls", "hidden"))
    head = self.head.init(keys[1], jnp.zeros((1, 1, self.backbone.feature_width)))["params"]
    params = {"backbone": backbone["params"], "head": head}
    method_state = start_teacher(params, backbone.get("batch_stats"), has_teacher=True)
    if self.autoencoder:
      params["mae"] = self.autoencoder.init(keys[2])  # the teacher reconstructs nothing
    return params, method_state | {"center": jnp.zeros((self.config.prototypes,))}

  def views(self, batch, key: jax.Array) -> DinoViews:
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
    config = self.config
    out, statistics = self._forward(params, method_state, views)
    targets = matching.teacher_probabilities(out.teacher_logits, method_state["center"], self.temp_teacher(step))
    losses = {"dino": matching.matching_loss(out.logits, targets, config.temp_student)}
    total = losses["dino"]
    if self.autoencoder:
      masked = self.autoencoder.forward(params["backbone"], params["mae"], views.globals[:, 0], views.masks)
      losses["mae"] = self.autoencoder.loss(masked, views.masks)
      total += config.mae.weight * losses["mae"]
    metrics = loss_metrics(losses, total) | {
      "monitor/teacher_entropy": matching.entropy(targets),
      "monitor/center_norm": jnp.linalg.norm(method_state["center"]),
      "monitor/feature_spread": matching.spread(out.cls[:, 0]),
    }
    for_update = {"center": jnp.mean(out.teacher_logits.astype(jnp.float32), axis=(0, 1))}
    if "statistics" in method_state:
      for_update["statistics"] = statistics
    return total, Aux(metrics, for_update, out)

  def _forward(self, params, method_state, views: DinoViews) -> tuple[DinoOutputs, dict[str, Any]]:
    """Returns the outputs of student and teacher, and the running statistics of each after the batch."""
    statistics = method_state.get("statistics", {})
    images = [views.globals] if views.locals is None else [views.globals, views.locals]
    with jax.named_scope("student"):
      cls, student_after = self._image_features(params["backbone"], statistics.get("student"), images)
      logits = self.head.apply({"params": params["head"]}, cls)
    with jax.named_scope("teacher"):
      teacher = jax.lax.stop_gradient(method_state["teacher"])
      teacher_cls, teacher_after = self._image_features(teacher["backbone"], statistics.get("teacher"), [views.globals])
      teacher_logits = self.head.apply({"params": teacher["head"]}, teacher_cls)
    after = {"student": student_after, "teacher": teacher_after}
    return DinoOutputs(cls, logits, teacher_cls, teacher_logits), after

  def _image_features(self, params, statistics, images: list[jax.Array]) -> tuple[jax.Array, Any]:
    """Returns the image features (B, V, D) of all views, and the running statistics after them."""
    batch = len(images[0])
    features, after = encode_views(self.backbone, params, statistics, [Views(each, ["cls"]) for each in images])
    return jnp.concatenate([f.cls.reshape(batch, -1, f.cls.shape[-1]) for f in features], axis=1), after

  def temp_teacher(self, step: jax.Array) -> jax.Array:
    """Returns the teacher's temperature at a micro-step: it rises in a line or in stairs, then stays constant."""
    config = self.config
    updates = round(config.temp_teacher_warmup * self.total_steps)
    done = jnp.minimum(step // self.accumulate / max(updates, 1), 1.0) if updates else 1.0
    if config.temp_teacher_stairs and updates:
      stair = step // self.accumulate * config.temp_teacher_stairs // updates
      done = jnp.minimum(stair / (config.temp_teacher_stairs - 1), 1.0)
    return config.temp_teacher_start + (config.temp_teacher - config.temp_teacher_start) * done

  def after_update(self, method_state, params, for_update, step: jax.Array):
    """Moves the teacher once per update, the center and the running statistics at every micro-step."""
    momentum = cosine_momentum(self.config.teacher_momentum, step, self.total_steps, self.accumulate)
    after = method_state | {
      "teacher": move_teacher(method_state["teacher"], params, momentum),
      "center": optax.incremental_update(
        for_update["center"], method_state["center"], 1.0 - self.config.center_momentum
      ),
    }
    if "statistics" in method_state:
      after["statistics"] = move_statistics("own", method_state["statistics"], for_update["statistics"], momentum)
    return after

  def param_groups(self) -> list[tuple[str, ParamGroup]]:
    """As published, everything of more than one axis decays, tokens and positions too; prototypes start later."""
    start = round(self.config.prototypes_frozen * self.total_steps)
    return [(r"^head/(prototypes|gain)$", ParamGroup(start=start)), *usual_groups(decay_tokens=True)]

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
  views = method.views(batch, key)
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
