"""3-D joints of the person in a crop, from the root of the body."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from saip_jax.backbones.features import Backbone
from saip_jax.heads.regression import MapRegressor
from saip_jax.losses.pose3d import joint_distance
from saip_jax.methods.finetune.task import Shapes, SupervisedTask
from saip_jax.methods.finetune.views import Placement


class Joints3d(SupervisedTask):
  """Regression of the places of joints in meters, whose mean distance from the true ones is minimized."""

  label, reads, mirrors = "joints_xyz", "maps", True

  def labels(self, classes: int, canvas_hw: tuple[int, int]) -> Shapes:
    return {"joints_xyz": ((classes, 4), jnp.float32)}

  def head(self, classes: int, backbone: Backbone) -> MapRegressor:
    return MapRegressor(3 * classes, dtype=backbone.dtype)

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns (J, 3) x, y, z from the root, meters, and (J,) bool, which are known; what is far to the left in a
    picture is far to the right in its mirror image."""
    places = sample["joints_xyz"]
    places = jnp.where(place.flip, places[jnp.array(mirrored)] * jnp.array([-1, 1, 1, 1]), places)
    return places[:, :3], places[:, 3] > 0

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    places, known = targets
    return {"joints3d": joint_distance(outputs.reshape(places.shape), places, known)}
