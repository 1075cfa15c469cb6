"""Person re-identification: identities are classified, and images compared."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from saip_jax.backbones.features import Backbone
from saip_jax.heads.bn_neck import BNNeck
from saip_jax.losses.classification import cross_entropy
from saip_jax.losses.triplet import triplet_loss
from saip_jax.methods.finetune.task import LabelShapes, SupervisedTask
from saip_jax.methods.finetune.views import Placement


class ReidTask(SupervisedTask):
  """BNNeck on the image feature, with cross-entropy after it and soft-margin batch-hard triplets before it.

  Source: TransReID-SSL (Luo et al. 2021), without its side information and jigsaw branches.
  """

  label, reads = "identity", "cls"

  def label_shapes(self, classes: int, canvas_hw: tuple[int, int]) -> LabelShapes:
    return {"identity": ((), jnp.int32)}

  def head(self, classes: int, backbone: Backbone) -> BNNeck:
    return BNNeck(classes)

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> jax.Array:
    """Returns the number of the identity, from 1; 0 for unknown."""
    return sample["identity"]

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
    return {"identity": cross_entropy(outputs, targets - 1, targets > 0), "triplet": triplet_loss(inputs, targets)}

  def check_config(self, config) -> None:
    super().check_config(config)
    if config.data.pictures_per_identity < 2:
      raise ValueError(
        f"config.data.pictures_per_identity is {config.data.pictures_per_identity}: re-identification compares "
        "images of one person, set it to 2 or more (4 as published)"
      )
    if config.accumulate > 1:
      raise ValueError(
        f"config.accumulate is {config.accumulate}: re-identification compares the images of a person, and "
        "micro-batches would separate them, set it to 1"
      )
