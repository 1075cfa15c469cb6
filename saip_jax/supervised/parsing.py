"""Parsing of a person: the class of each pixel."""

from typing import Sequence

import jax
import jax.numpy as jnp

from saip_jax.backbones.features import Backbone
from saip_jax.heads.upsampling import UpsamplingHead
from saip_jax.losses.classification import cross_entropy
from saip_jax.supervised.base import Shapes, SupervisedTask
from saip_jax.views.supervised import NOT_COUNTED, Placement


class Parsing(SupervisedTask):
  """The decoder of keypoints, enlarged bilinearly to the view, and the cross-entropy of each pixel.

  SCHP, which published results are of, pools over several scales, also predicts edges, adds a Lovasz and a consistency
  loss, and corrects its labels in cycles; none of that is here.
  """

  label, reads, mirrors = "parts", "maps", True

  def labels(self, classes: int, canvas_hw: tuple[int, int]) -> Shapes:
    return {"parts": (tuple(canvas_hw), jnp.uint8), "has_parts": ((), jnp.bool_)}

  def head(self, classes: int, backbone: Backbone) -> UpsamplingHead:
    return UpsamplingHead(classes, backbone.map_strides[-1], dtype=backbone.dtype)

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> jax.Array:
    """Returns (H, W) int32 classes, `NOT_COUNTED` where a pixel has none."""
    seen = place.classes(sample["parts"])
    table = jnp.array([*mirrored, *range(len(mirrored), NOT_COUNTED + 1)])
    seen = jnp.where(place.flip, table[seen], seen)
    return jnp.where(sample["has_parts"], seen, NOT_COUNTED)

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
    logits = jax.image.resize(outputs, (*targets.shape, outputs.shape[-1]), "bilinear")
    return {"parts": cross_entropy(logits, targets, targets != NOT_COUNTED)}
