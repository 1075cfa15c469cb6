"""What a supervised task is: labels, a head, and a loss."""

import abc
from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn

from saip_jax.backbones.features import Backbone, Features
from saip_jax.methods.finetune.views import Placement

Shapes = dict[str, tuple[tuple[int, ...], Any]]


class SupervisedTask(abc.ABC):
  """One task, without state.

  Attributes:
    label: the field of a batch whose classes the head tells apart, a key of `input_pipeline.fields.table.FIELDS`.
    reads: what the head reads of a backbone, a name of `Features`: "cls" or "maps".
    mirrors: classes change places in the mirror image, as left and right arms do.
    whole: it looks at whole photos with everybody in them, not at single persons.
  """

  label: str
  reads: str
  mirrors = False
  whole = False

  @abc.abstractmethod
  def labels(self, classes: int, canvas_hw: tuple[int, int]) -> Shapes:
    """Returns name -> shape and dtype of all that a sample holds beside its image."""

  @abc.abstractmethod
  def head(self, classes: int, backbone: Backbone) -> nn.Module:
    """Returns the head: what `read` gives -> outputs."""

  def read(self, features: Features) -> jax.Array:
    """Returns what the head takes: the image feature (B, D), or the coarsest map (B, h, w, C)."""
    return features.cls if self.reads == "cls" else features.maps[-1]

  @abc.abstractmethod
  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns what is to be said of one view.

    Args:
      sample: the arrays of `labels`, of one sample.
      place: where the view lies.
      mirrored: (classes,) class -> its class in the mirror image.
    """

  def told(self, targets: Any) -> tuple:
    """Returns what the head takes besides while it learns; for most nothing."""
    return ()

  @abc.abstractmethod
  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    """Returns name -> loss; their sum is minimized.

    Args:
      inputs: what the head read of the batch.
      outputs: what it said.
      targets: of the batch.
    """

  def check_run(self, config) -> None:
    """Raises ValueError for settings of a `saip_jax.config.RunConfig` that the task cannot be learned with."""
    if config.data.whole_photos != self.whole:
      shown = "whole photos" if self.whole else "single persons"
      raise ValueError(
        f"config.data.whole_photos is {config.data.whole_photos}: {config.method.task} is learned from {shown}, set "
        f"it to {self.whole}"
      )
