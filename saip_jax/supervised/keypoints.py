"""2-D keypoints of the person in a crop: a heat map for each."""

from typing import Any, Sequence

import jax
import jax.numpy as jnp

from saip_jax.backbones.features import Backbone
from saip_jax.heads.upsampling import FINE_STRIDE, UpsamplingHead
from saip_jax.losses.heat_maps import heat_map_loss, heat_maps
from saip_jax.supervised.base import Shapes, SupervisedTask
from saip_jax.views.geometry import keypoints_in_crop
from saip_jax.views.supervised import Placement


class Keypoints(SupervisedTask):
  """ViTPose's classic decoder and its mean squared error; COCO's 17 joints, whatever a data set calls its own."""

  label, reads, mirrors = "keypoints", "maps", True

  def labels(self, classes: int, canvas_hw: tuple[int, int]) -> Shapes:
    return {"keypoints": ((classes, 3), jnp.float32)}

  def head(self, classes: int, backbone: Backbone) -> UpsamplingHead:
    return UpsamplingHead(classes, backbone.map_strides[-1], dtype=backbone.dtype)

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns (J, h, w) heat maps and (J,) which keypoints are in the view."""
    points = sample["keypoints"]
    points = jnp.where(place.flip, points[jnp.array(mirrored)], points)
    points = keypoints_in_crop(points, place.box_yxhw, place.out_hw, place.flip)
    grid = tuple(side // FINE_STRIDE for side in place.out_hw)
    return heat_maps(points[:, :2], place.out_hw, grid), points[:, 2] > 0

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    maps, known = targets
    return {"keypoints": heat_map_loss(outputs, maps, known)}

  def check_run(self, config) -> None:
    sides = [side for side in config.model.image_hw if side % 32]
    if sides:
      raise ValueError(f"config.model.image_hw is {config.model.image_hw}: heat maps need multiples of 32")
