"""Fine-tuning: a pre-trained backbone and a supervised head learn one task together.

A method like those that pre-train, so that the same loop trains it: `config.init_from` is what it starts from, and the
backbone alone is what it exports. What is learned is said by a `saip_jax.methods.finetune.task.SupervisedTask`.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.features import Backbone, Views
from saip_jax.backbones.statistics import join_statistics, split_statistics
from saip_jax.losses import matching
from saip_jax.methods.base import Aux, ParamGroup, replace_modules
from saip_jax.methods.finetune.config import FinetuneConfig
from saip_jax.methods.finetune.task import SupervisedTask
from saip_jax.methods.finetune.tasks import SUPERVISED
from saip_jax.methods.finetune.views import supervised_view
from saip_jax.methods.groups import layer_wise, usual_groups
from saip_jax.methods.samples import image_spec, sample_keys
from saip_jax.methods.teacher import encode
from saip_jax.pictures import Panel, decoded, picture


@dataclasses.dataclass(frozen=True)
class Finetune:
  """The method: see `saip_jax.methods.base.Method` for the protocol.

  Attributes:
    config: its settings.
    backbone: the encoder.
    canvas_hw: size of decoded images, pixels.
  """

  config: FinetuneConfig
  backbone: Backbone
  canvas_hw: tuple[int, int]

  @property
  def task(self) -> SupervisedTask:
    return SUPERVISED[self.config.task]

  @property
  def head(self) -> nn.Module:
    return self.task.head(self.config.classes, self.backbone)

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    labels = self.task.labels(self.config.classes, self.canvas_hw)
    return image_spec(global_batch, self.canvas_hw) | {
      name: jax.ShapeDtypeStruct((global_batch, *shape), dtype) for name, (shape, dtype) in labels.items()
    }

  def init(self, key: jax.Array):
    """Returns (params, method_state): of backbone and head; "statistics" of those that have some, by their names."""
    keys = jax.random.split(key)
    images, reads = jnp.zeros((1, *self.backbone.image_hw, 3)), ("cls", "tokens", "hidden", "maps")
    features, backbone = self.backbone.init_with_output(keys[0], images, reads)
    variables = {"backbone": backbone, "head": self.head.init(keys[1], self.task.read(features))}
    params = {name: v["params"] for name, v in variables.items()}
    return params, {"statistics": {name: v["batch_stats"] for name, v in variables.items() if "batch_stats" in v}}

  def load_params(self, params, method_state, student: dict, teacher: dict | None):
    del teacher
    split = {name: split_statistics(tree) for name, tree in student.items()}
    params = replace_modules(params, {name: parts["params"] for name, parts in split.items()})
    statistics = {name: parts["batch_stats"] for name, parts in split.items() if "batch_stats" in parts}
    return params, method_state | {"statistics": replace_modules(method_state["statistics"], statistics)}

  def loss(self, params, method_state, batch, key: jax.Array, step: jax.Array):
    del step  # nothing is scheduled
    images, targets = self.views(batch, key)
    statistics = method_state["statistics"]
    (features,), moved = encode(
      self.backbone, params["backbone"], statistics.get("backbone"), [Views(images[:, None], [self.task.reads])]
    )
    inputs = self.task.read(features)
    variables, told = self.head_variables(params, method_state), self.task.told(targets)
    outputs, changed = self.head.apply(variables, inputs, *told, mutable=["batch_stats"])
    after = {"backbone": moved, "head": changed.get("batch_stats")}
    losses = self.task.losses(inputs, outputs, targets)
    total = sum(losses.values())
    metrics = {f"loss/{name}": value for name, value in losses.items()} | {"loss/total": total}
    metrics["monitor/feature_spread"] = matching.spread(inputs.reshape(-1, inputs.shape[-1]))
    return total, Aux(metrics, {name: value for name, value in after.items() if name in statistics})

  def views(self, batch, key: jax.Array):
    """Returns views (B, H, W, 3) and what is to be said of them, from (key of the micro-step, sample index)."""
    # Several pictures of a person in a batch can be the same one: the row tells them apart.
    keys = jax.vmap(jax.random.fold_in)(sample_keys(key, batch["index"]), jnp.arange(len(batch["index"])))

    def one(sample, key):
      image, place = supervised_view(
        sample["image"], sample["image_hw"], key, self.config.views, self.backbone.image_hw
      )
      return image, self.task.targets(sample, place, self.config.mirrored)

    return jax.vmap(one)(batch, keys)

  def outputs(self, params, method_state, images: jax.Array) -> jax.Array:
    """Returns what the head says of normalized images (B, H, W, 3), with running statistics."""
    variables = {"params": params["backbone"]}
    if "backbone" in method_state["statistics"]:
      variables["batch_stats"] = method_state["statistics"]["backbone"]
    features = self.backbone.apply(variables, images, (self.task.reads,))
    return self.head.apply(self.head_variables(params, method_state), self.task.read(features))

  def head_variables(self, params, method_state) -> dict:
    """Returns what `head.apply` takes first."""
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
    images = jax.device_get(_see(self, batch, key))
    return {"views": Panel([[("image", decoded(batch, i)), ("view", picture(x))] for i, x in enumerate(images)])}


@functools.partial(jax.jit, static_argnums=0)
def _see(method: Finetune, batch, key: jax.Array) -> jax.Array:
  return method.views(batch, key)[0]
