"""The base class of pre-training methods; the trainer knows nothing else about a method."""

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from input_pipeline.schema import to_dict
from saip_jax.backbones import build_backbone
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.vit import ViT
from saip_jax.methods.teacher import export_student_or_teacher, load_student_and_teacher
from saip_jax.pictures import Panel


@struct.dataclass
class Aux:
  """What a loss returns beside its value.

  Attributes:
    metrics: name -> float32 scalar, averaged over micro-steps and logged.
    for_update: what `after_update` needs from this micro-step (e.g. the batch mean of teacher logits).
    outputs: outputs of the networks, for panels and comparisons; `Method.loss` drops them.
  """

  metrics: dict[str, jax.Array]
  for_update: Any = struct.field(default_factory=dict)
  outputs: Any = None


@dataclasses.dataclass(frozen=True)
class ParamGroup:
  """How the optimizer treats the parameters of a group.

  Attributes:
    decay: apply weight decay.
    lr_multiplier: factor of the learning rate, and so of the weight decay; for blocks stacked along a leading axis a
      tuple, one factor for each.
    frozen: never update them.
    start: updates before the first one that changes them; their moments start there too.
  """

  decay: bool = True
  lr_multiplier: float | tuple[float, ...] = 1.0
  frozen: bool = False
  start: int = 0


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
  """A training objective as pure functions of (params, method_state, batch, key).

  A method defines `Config`, `init`, `views`, `objectives` and `param_groups`, and overrides the defaults that do not
  fit. `step` counts micro-steps (updates x accumulation). No method uses a collective: the batch is global, and the
  partitioner inserts what is needed.

  Attributes:
    Config: frozen dataclass of the `method` section of a recipe.
    config: an instance of it.
    backbone: the encoder whose parameters `export_params` returns.
    canvas_hw: size of decoded images, pixels.
  """

  Config: ClassVar[type]

  config: Any
  backbone: Backbone
  canvas_hw: tuple[int, int]

  @classmethod
  def build(cls, config, **backbone_options) -> "Method":
    """Returns the method of a run.

    Args:
      config: a `saip_jax.config.RunConfig`.
      **backbone_options: attributes of the encoder on top of those of the config.
    """
    return cls(config.method, cls.build_encoder(config, **backbone_options), config.data.canvas_hw)

  @classmethod
  def build_encoder(cls, config, **backbone_options) -> Backbone:
    """Returns the encoder of a run, see `build`."""
    options = {
      "dtype": jnp.dtype(config.precision),
      "attention": config.model.attention,
      "remat": config.remat,
      "unroll": config.unroll,
    }
    backbone = build_backbone(
      config.model.backbone, image_hw=config.model.image_hw, **config.model.own_attributes, **options | backbone_options
    )
    if isinstance(backbone, ViT):  # other families have no table of positions
      return backbone.clone(**cls.vit_options(config.method))  # type: ignore[arg-type]
    if backbone.attention != "xla":
      raise ValueError(
        f"config.model.attention is {backbone.attention!r}: {config.model.backbone} has none of the kernels, which are"
        ' those of ViTs; use "xla"'
      )
    return backbone

  @classmethod
  def vit_options(cls, settings) -> dict[str, str]:
    """Returns the attributes of a ViT that the settings of the method decide: positions, tokens, initial weights."""
    del settings
    return {"pos_interpolation": "grid2d", "tokens": "normal"}

  @classmethod
  def check_data(cls, settings, data) -> None:
    """Raises ValueError if the data set does not fit the settings of the method.

    Args:
      settings: a `Config`.
      data: a `input_pipeline.pipeline.TrainData`.
    """
    del settings, data  # any data set by default

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns name -> shape and dtype of every field of a batch of `global_batch` samples: one image each."""
    spec = lambda dtype, *shape: jax.ShapeDtypeStruct((global_batch, *shape), dtype)
    return {"image": spec(jnp.uint8, *self.canvas_hw, 3), "image_hw": spec(jnp.int32, 2), "index": spec(jnp.uint32)}

  @abc.abstractmethod
  def init(self, key: jax.Array) -> tuple[Any, Any]:
    """Returns (params, method_state): trainable parameters, and the state beside them: teacher, center, banks."""

  @property
  def frozen(self) -> dict[str, Any]:
    """Weights that losses read beside `method_state` and that never change; numpy arrays, none by default.

    They are no part of checkpoints: the method opens them again.
    """
    return {}

  def fixed_settings(self) -> dict[str, Any]:
    """Returns the settings of the method, JSON-able, that must not change between the checkpoints of a run."""
    return to_dict(self.config)

  def load_params(self, params, method_state, student: dict, teacher: dict | None) -> tuple[Any, Any]:
    """Returns (params, method_state) of a new run with loaded weights, see `modules.replace_modules`.

    Everything else in `method_state` stays as `init` made it.

    Args:
      params: from `init`.
      method_state: from `init`.
      student: top-level name in `params` -> tree, for some of them.
      teacher: the same for the teacher; modules that it lacks are copies of the student's.

    Raises:
      ValueError: weights that do not fit, all of them listed.
    """
    return load_student_and_teacher(params, method_state, student, teacher)

  @abc.abstractmethod
  def views(self, batch, key: jax.Array) -> Any:
    """Returns the views and random choices of a micro-step, each sample's from (key of the micro-step, its index)."""

  @abc.abstractmethod
  def objectives(self, params, method_state, views, step: jax.Array) -> tuple[jax.Array, Aux]:
    """Returns the scalar to minimize, and `Aux`; its metrics hold each term of the sum unweighted.

    `method_state` includes what `frozen` holds. No gradient flows into `method_state`.
    """

  def loss(self, params, method_state, batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
    """Returns `objectives` of the views of a batch, without the outputs of the networks."""
    with jax.named_scope("views"):
      views = self.views(batch, key)
    total, aux = self.objectives(params, method_state, views, step)
    return total, dataclasses.replace(aux, outputs=None)

  def after_update(self, method_state, params, for_update, step: jax.Array):
    """Returns `method_state` after a micro-step: moving averages, center, banks; unchanged by default."""
    del params, for_update, step
    return method_state

  @abc.abstractmethod
  def param_groups(self) -> list[tuple[str, ParamGroup]]:
    """Returns (regex over parameter names, group) pairs; the first match wins, all must be covered."""

  def export_params(self, params, method_state, which: str):
    """Returns the parameters of one encoder, its running statistics among them.

    Args:
      params: trained parameters.
      method_state: the state beside them.
      which: "student", "teacher", or another encoder that the method has, of the same kind.

    Raises:
      ValueError: an encoder that the method does not have.
    """
    return export_student_or_teacher(params, method_state, which)

  def panels(self, params, method_state, batch, key: jax.Array) -> dict[str, Panel]:
    """Returns name -> panel: pictures that show what the method does; none by default."""
    del params, method_state, batch, key
    return {}


def sample_keys(key: jax.Array, index: jax.Array) -> jax.Array:
  """Returns one key per sample from the key of the micro-step and the indices of the samples (B,).

  A sample has the same random numbers in any batch and on any number of devices.

  >>> key = jax.random.key(0)
  >>> bool((sample_keys(key, jax.numpy.array([7, 3]))[1] == sample_keys(key, jax.numpy.array([3]))[0]).all())
  True
  """
  return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def loss_metrics(losses: dict[str, jax.Array], total: jax.Array) -> dict[str, jax.Array]:
  """Returns the metrics "loss/NAME" of each term and "loss/total".

  >>> loss_metrics({"csr": 0.5}, total=2.0)
  {'loss/csr': 0.5, 'loss/total': 2.0}
  """
  return {f"loss/{name}": value for name, value in losses.items()} | {"loss/total": total}
