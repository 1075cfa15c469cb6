"""2-D keypoints of the person in a crop: one heat map for each."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from saip_jax.losses.heat_maps import heat_map_loss, heat_map_targets
from saip_jax.methods.finetune.dense import DenseTask
from saip_jax.methods.finetune.task import LabelShapes
from saip_jax.methods.finetune.views import Placement


class KeypointTask(DenseTask):
  """Heat maps with a mean squared error, as in ViTPose.

  Args:
    label: field of the keypoints: "joints", those that a data set lists, or "landmarks" of the whole body.
  """

  def __init__(self, label: str):
    self.label = label

  def label_shapes(self, classes: int, canvas_hw: tuple[int, int]) -> LabelShapes:
    return {self.label: ((classes, 3), jnp.float32)}

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns (J, h, w) heat maps, and (J,) bool, the keypoints in the view."""
    points = sample[self.label]
    points = place.points(jnp.where(place.flip, points[jnp.array(mirrored)], points))
    return heat_map_targets(points[:, :2], place.out_hw, self.grid(place)), points[:, 2] > 0

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    maps, known = targets
    return {"keypoints": heat_map_loss(outputs, maps, known)}
