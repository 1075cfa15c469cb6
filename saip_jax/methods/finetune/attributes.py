"""Attributes of a person: each is there or not."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.features import Backbone
from saip_jax.losses.classification import attribute_loss
from saip_jax.methods.finetune.task import Shapes, SupervisedTask
from saip_jax.methods.finetune.views import Placement


class Attributes(SupervisedTask):
  """A linear layer on the image feature, and a binary cross-entropy that makes up for rare attributes."""

  label, reads = "attributes", "cls"

  def labels(self, classes: int, canvas_hw: tuple[int, int]) -> Shapes:
    return {"attributes": ((classes,), jnp.int8), "attribute_shares": ((classes,), jnp.float32)}

  def head(self, classes: int, backbone: Backbone) -> nn.Dense:
    return nn.Dense(classes)

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    return sample["attributes"], sample["attribute_shares"]

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    signs, shares = targets
    return {"attributes": attribute_loss(outputs, signs, shares)}
