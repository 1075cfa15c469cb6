"""The base class of supervised tasks: labels, a head, and a loss."""

import abc
from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn

from saip_jax.backbones.features import Backbone, Features
from saip_jax.methods.finetune.views import Placement

LabelShapes = dict[str, tuple[tuple[int, ...], Any]]


class SupervisedTask(abc.ABC):
  """One task, without state.

  Attributes:
    label: field of a batch with the classes of the head, a key of `input_pipeline.fields.table.FIELDS`.
    reads: input of the head, a name of `Features`: "cls" or "maps".
    mirrors: classes are swapped in the mirror image, as left and right arms are.
    whole: it takes whole photos with all their persons, not crops of single persons.
  """

  label: str
  reads: str
  mirrors = False
  whole = False

  @abc.abstractmethod
  def label_shapes(self, classes: int, canvas_hw: tuple[int, int]) -> LabelShapes:
    """Returns name -> shape and dtype of the fields of a sample beside its image."""

  @abc.abstractmethod
  def head(self, classes: int, backbone: Backbone) -> nn.Module:
    """Returns the head, which maps what `read` returns to outputs."""

  def read(self, features: Features) -> jax.Array:
    """Returns the input of the head: the image feature (B, D), or the coarsest map (B, h, w, C)."""
    return features.cls if self.reads == "cls" else features.maps[-1]

  @abc.abstractmethod
  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns the targets of one view.

    Args:
      sample: the fields of `label_shapes` of one sample.
      place: where the view lies in the image.
      mirrored: (classes,) class -> its class in the mirror image.
    """

  def training_inputs(self, targets: Any) -> tuple:
    """Returns extra inputs of the head in training; none by default."""
    return ()

  @abc.abstractmethod
  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    """Returns name -> loss; their sum is minimized.

    Args:
      inputs: inputs of the head, of a batch.
      outputs: outputs of the head.
      targets: targets of the batch.
    """

  def check_config(self, config) -> None:
    """Raises ValueError for settings of a `saip_jax.config.RunConfig` that do not fit the task."""
    if config.data.whole_photos != self.whole:
      taken = "whole photos" if self.whole else "crops of single persons"
      raise ValueError(
        f"config.data.whole_photos is {config.data.whole_photos}: {config.method.task} takes {taken}, set it to "
        f"{self.whole}"
      )
