"""2-D keypoints of the person in a crop: a heat map for each."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from saip_jax.losses.heat_maps import heat_map_loss, heat_map_targets
from saip_jax.methods.finetune.dense import DenseTask
from saip_jax.methods.finetune.task import Shapes
from saip_jax.methods.finetune.views import Placement


class Keypoints(DenseTask):
  """ViTPose's mean squared error of heat maps.

  Args:
    label: the field of the keypoints: "joints", those that a data set lists, or "landmarks" of the whole body.
  """

  def __init__(self, label: str):
    self.label = label

  def labels(self, classes: int, canvas_hw: tuple[int, int]) -> Shapes:
    return {self.label: ((classes, 3), jnp.float32)}

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns (J, h, w) heat maps and (J,) which keypoints are in the view."""
    points = sample[self.label]
    points = place.points(jnp.where(place.flip, points[jnp.array(mirrored)], points))
    return heat_map_targets(points[:, :2], place.out_hw, self.grid(place)), points[:, 2] > 0

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    maps, known = targets
    return {"keypoints": heat_map_loss(outputs, maps, known)}
