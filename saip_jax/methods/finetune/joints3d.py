"""3-D joints of the person in a crop, relative to the root of the body."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from saip_jax.backbones.features import Backbone
from saip_jax.heads.regression import MapRegressor
from saip_jax.losses.pose3d import joint_distance
from saip_jax.methods.finetune.task import LabelShapes, SupervisedTask
from saip_jax.methods.finetune.views import Placement


class Joints3dTask(SupervisedTask):
  """Regression of joints in meters, with the mean distance from the labels as loss."""

  label, reads, mirrors = "joints_xyz", "maps", True

  def label_shapes(self, classes: int, canvas_hw: tuple[int, int]) -> LabelShapes:
    return {"joints_xyz": ((classes, 4), jnp.float32)}

  def head(self, classes: int, backbone: Backbone) -> MapRegressor:
    return MapRegressor(3 * classes, dtype=backbone.dtype)

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns (J, 3) x, y, z from the root, meters, and (J,) bool, the known ones; a mirrored view negates x."""
    places = sample["joints_xyz"]
    places = jnp.where(place.flip, places[jnp.array(mirrored)] * jnp.array([-1, 1, 1, 1]), places)
    return places[:, :3], places[:, 3] > 0

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    places, known = targets
    return {"joints3d": joint_distance(outputs.reshape(places.shape), places, known)}
