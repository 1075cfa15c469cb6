"""Attributes of a person, each present or absent."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.features import Backbone
from saip_jax.losses.classification import attribute_loss
from saip_jax.methods.finetune.task import LabelShapes, SupervisedTask
from saip_jax.methods.finetune.views import Placement


class AttributeTask(SupervisedTask):
  """A linear layer on the image feature, with a binary cross-entropy that weighs rare attributes more."""

  label, reads = "attributes", "cls"

  def label_shapes(self, classes: int, canvas_hw: tuple[int, int]) -> LabelShapes:
    return {"attributes": ((classes,), jnp.int8), "attribute_shares": ((classes,), jnp.float32)}

  def head(self, classes: int, backbone: Backbone) -> nn.Dense:
    return nn.Dense(classes)

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    return sample["attributes"], sample["attribute_shares"]

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    signs, shares = targets
    return {"attributes": attribute_loss(outputs, signs, shares)}
