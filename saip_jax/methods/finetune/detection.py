"""Detection of persons in whole photos, without anchors."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from input_pipeline.fields.boxes import COUNTED, IGNORED, MOST_BOXES
from saip_jax.heads.upsampling import FINE_STRIDE
from saip_jax.losses.boxes import box_targets, peak_loss, side_loss
from saip_jax.methods.finetune.dense import DenseTask
from saip_jax.methods.finetune.task import LabelShapes
from saip_jax.methods.finetune.views import Placement

_RARE = -4.6  # logit of 0.01, the initial prediction: nearly all cells are no middle
_USUAL = 4.0  # cells from a middle to the sides of its box, the initial prediction
_SIDE_WEIGHT = 5.0  # TTFNet's


class DetectionTask(DenseTask):
  """A map of the middles of persons, and in each cell the distances to the sides of its box.

  It has one scale, where published detectors have a pyramid; see `losses.boxes`. Cells of a person whose middle is
  outside the view are not counted.
  """

  label, whole, mirrors = "boxes", True, False

  def label_shapes(self, classes: int, canvas_hw: tuple[int, int]) -> LabelShapes:
    return {"boxes": ((MOST_BOXES, 5), jnp.float32), "has_boxes": ((), jnp.bool_)}

  def outputs(self, classes: int) -> int:
    return classes + 4

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns (h, w) peaks, (h, w, 4) sides, and (h, w) bool, the cells that are counted."""
    corners, kind, size = place.corners(sample["boxes"][:, :4]), sample["boxes"][:, 4], jnp.array(place.out_hw[::-1])
    middles = (corners[:, :2] + corners[:, 2:]) / 2
    shown = ((middles >= 0) & (middles < size)).all(1)
    corners = jnp.clip(corners, 0, jnp.tile(size, 2))
    grid = self.grid(place)
    peaks, sides = box_targets(corners, (kind == COUNTED) & shown, grid, FINE_STRIDE)
    y, x = ((jnp.arange(n)[:, None] + 0.5) * FINE_STRIDE for n in grid)
    within = lambda at, axis: (at >= corners[:, axis]) & (at < corners[:, axis + 2])  # (cells, N)
    unclear = (kind == IGNORED) | (kind == COUNTED) & ~shown
    ignored = (within(y, 1)[:, None] & within(x, 0) & unclear).any(-1)
    return peaks, sides, sample["has_boxes"] & (~ignored | (peaks >= 1))

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    peaks, sides, known = targets
    logits, found = read_maps(outputs)
    return {"middles": peak_loss(logits, peaks, known), "sides": _SIDE_WEIGHT * side_loss(found, sides, peaks * known)}


def read_maps(outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns (...) logits of a middle and (..., 4) cells to left, top, right, bottom, of outputs (..., 5)."""
  outputs = outputs.astype(jnp.float32)
  return outputs[..., 0] + _RARE, _USUAL * jnp.exp(jnp.clip(outputs[..., 1:], -8, 8))
