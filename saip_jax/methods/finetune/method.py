"""Fine-tuning: a pre-trained backbone and a supervised head learn one task together.

It is a method like the pre-training ones, so that the same loop trains it: it starts from `config.init_from`, and
exports the backbone. The task is a `saip_jax.methods.finetune.task.SupervisedTask`.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn, struct

from saip_jax.backbones.features import Views
from saip_jax.backbones.statistics import join_statistics
from saip_jax.losses import matching
from saip_jax.methods.base import Aux, Method, ParamGroup, loss_metrics, sample_keys
from saip_jax.methods.finetune.config import FinetuneConfig, class_settings
from saip_jax.methods.finetune.task import SupervisedTask
from saip_jax.methods.finetune.tasks import SUPERVISED
from saip_jax.methods.finetune.views import supervised_view
from saip_jax.methods.groups import layer_wise, usual_groups
from saip_jax.methods.modules import encode_views, load_modules
from saip_jax.pictures import Panel, decoded, picture


@struct.dataclass
class FinetuneViews:
  """Views of a batch and their targets.

  Attributes:
    images: (B, H, W, 3) normalized.
    targets: targets of the task, see `SupervisedTask.targets`, with a leading axis B.
  """

  images: jax.Array
  targets: Any


@dataclasses.dataclass(frozen=True)
class Finetune(Method):
  """The method, see `Method`."""

  Config = FinetuneConfig

  config: FinetuneConfig

  @classmethod
  def build(cls, config, **backbone_options) -> "Finetune":
    method = super().build(config, **backbone_options)
    method.task.check_config(config)
    return method

  @classmethod
  def check_data(cls, settings: FinetuneConfig, data) -> None:
    """Raises ValueError unless the head fits the labels of the data set, see `Method.check_data`."""
    needed = class_settings(settings.task, data.classes[SUPERVISED[settings.task].label])
    for name, value in needed.items():
      if getattr(settings, name) != value:
        raise ValueError(
          f"config.method.{name} is {getattr(settings, name)}, the labels of the data set need {value}: set it to that"
        )

  @property
  def task(self) -> SupervisedTask:
    return SUPERVISED[self.config.task]

  @property
  def head(self) -> nn.Module:
    return self.task.head(self.config.classes, self.backbone)

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    labels = self.task.label_shapes(self.config.classes, self.canvas_hw)
    return super().batch_spec(global_batch) | {
      name: jax.ShapeDtypeStruct((global_batch, *shape), dtype) for name, (shape, dtype) in labels.items()
    }

  def init(self, key: jax.Array):
    """Returns (params, method_state): backbone and head; "statistics" of those with batch norm, by their names."""
    keys = jax.random.split(key)
    images, reads = jnp.zeros((1, *self.backbone.image_hw, 3)), ("cls", "tokens", "hidden", "maps")
    features, backbone = self.backbone.init_with_output(keys[0], images, reads)
    variables = {"backbone": backbone, "head": self.head.init(keys[1], self.task.read(features))}
    params = {name: v["params"] for name, v in variables.items()}
    return params, {"statistics": {name: v["batch_stats"] for name, v in variables.items() if "batch_stats" in v}}

  def load_params(self, params, method_state, student: dict, teacher: dict | None):
    del teacher
    return load_modules(params, method_state, student)

  def views(self, batch, key: jax.Array) -> FinetuneViews:
    # A batch may hold an image more than once: the row is part of the key, so that their views differ.
    keys = jax.vmap(jax.random.fold_in)(sample_keys(key, batch["index"]), jnp.arange(len(batch["index"])))

    def one(sample, key):
      image, place = supervised_view(
        sample["image"], sample["image_hw"], key, self.config.views, self.backbone.image_hw
      )
      return image, self.task.targets(sample, place, self.config.mirrored)

    return FinetuneViews(*jax.vmap(one)(batch, keys))

  def objectives(self, params, method_state, views: FinetuneViews, step: jax.Array) -> tuple[jax.Array, Aux]:
    del step  # nothing is scheduled
    statistics = method_state["statistics"]
    (features,), moved = encode_views(
      self.backbone, params["backbone"], statistics.get("backbone"), [Views(views.images[:, None], [self.task.reads])]
    )
    inputs = self.task.read(features)
    variables, extra = self.head_variables(params, method_state), self.task.training_inputs(views.targets)
    outputs, changed = self.head.apply(variables, inputs, *extra, mutable=["batch_stats"])
    after = {"backbone": moved, "head": changed.get("batch_stats")}
    losses = self.task.losses(inputs, outputs, views.targets)
    total = sum(losses.values())
    metrics = loss_metrics(losses, total)
    metrics["monitor/feature_spread"] = matching.spread(inputs.reshape(-1, inputs.shape[-1]))
    return total, Aux(metrics, {name: value for name, value in after.items() if name in statistics}, outputs)

  def outputs(self, params, method_state, images: jax.Array) -> jax.Array:
    """Returns the outputs of the head for normalized images (B, H, W, 3), with running statistics."""
    variables = {"params": params["backbone"]}
    if "backbone" in method_state["statistics"]:
      variables["batch_stats"] = method_state["statistics"]["backbone"]
    features = self.backbone.apply(variables, images, (self.task.reads,))
    return self.head.apply(self.head_variables(params, method_state), self.task.read(features))

  def head_variables(self, params, method_state) -> dict:
    """Returns the variables of the head."""
    statistics = method_state["statistics"].get("head")
    return {"params": params["head"]} | ({"batch_stats": statistics} if statistics else {})

  def after_update(self, method_state, params, for_update, step: jax.Array):
    """Moves running statistics at every micro-step."""
    del params, step
    return method_state | {"statistics": for_update}

  def param_groups(self) -> list[tuple[str, ParamGroup]]:
    return layer_wise(usual_groups(decay_tokens=False), self.backbone, self.config.layer_decay)

  def export_params(self, params, method_state, which: str):
    """See `Method.export_params`; there is no teacher."""
    if which != "student":
      raise ValueError(f"which={which!r}: fine-tuning has one encoder, the student")
    return join_statistics(params["backbone"], method_state["statistics"].get("backbone"))

  def panels(self, params, method_state, batch, key: jax.Array) -> dict[str, Panel]:
    images = jax.device_get(_view_images(self, batch, key))
    return {"views": Panel([[("image", decoded(batch, i)), ("view", picture(x))] for i, x in enumerate(images)])}


@functools.partial(jax.jit, static_argnums=0)
def _view_images(method: Finetune, batch, key: jax.Array) -> jax.Array:
  return method.views(batch, key).images
