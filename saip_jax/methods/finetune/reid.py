"""Person re-identification: identities are classified and compared."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from saip_jax.backbones.features import Backbone
from saip_jax.heads.bn_neck import BNNeck
from saip_jax.losses.classification import cross_entropy
from saip_jax.losses.triplet import triplet_loss
from saip_jax.methods.finetune.task import Shapes, SupervisedTask
from saip_jax.methods.finetune.views import Placement


class Reid(SupervisedTask):
  """BNNeck on the image feature, cross-entropy behind it and soft-margin batch-hard triplets before it.

  Source: TransReID-SSL (Luo et al. 2021), without its side information and jigsaw branches.
  """

  label, reads = "identity", "cls"

  def labels(self, classes: int, canvas_hw: tuple[int, int]) -> Shapes:
    return {"identity": ((), jnp.int32)}

  def head(self, classes: int, backbone: Backbone) -> BNNeck:
    return BNNeck(classes)

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> jax.Array:
    """Returns the number of the person, from 1; 0 for unknown."""
    return sample["identity"]

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
    return {"identity": cross_entropy(outputs, targets - 1, targets > 0), "triplet": triplet_loss(inputs, targets)}

  def check_run(self, config) -> None:
    super().check_run(config)
    if config.data.pictures_per_identity < 2:
      raise ValueError(
        f"config.data.pictures_per_identity is {config.data.pictures_per_identity}: re-identification compares "
        "pictures of one person, set it to 2 or more, as published 4"
      )
    if config.accumulate > 1:
      raise ValueError(
        f"config.accumulate is {config.accumulate}: micro-batches part the pictures of a person, which "
        "re-identification compares, set it to 1"
      )
