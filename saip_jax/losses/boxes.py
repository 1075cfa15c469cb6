"""Boxes of persons without anchors: where middles are, and how far the sides are from each place.

As TTFNet (Liu et al. 2020, arXiv 1909.00700), a CenterNet (Zhou et al. 2019) whose boxes are learned all around a
middle.
"""

import jax
import jax.numpy as jnp

_SPREAD = 0.54 / 6  # sigma of a peak / side of the box, along either axis: TTFNet's
_LEAST_SPREAD = 0.5  # cells


def box_targets(corners: jax.Array, counted: jax.Array, grid_hw: tuple[int, int], stride: int):
  """Returns (h, w) peaks of the middles of boxes, 1 in the cell that one lies in, and (h, w, 4) the sides around.

  Args:
    corners: (N, 4) left, top, right, bottom in pixels.
    counted: (N,) bool, those that there are.
    grid_hw: (h, w).
    stride: pixels of a cell.

  Returns:
    Peaks, 0 to 1, and for each cell the distances in cells from its center to left, top, right, bottom of the box
    whose peak is the highest there; of a box that does not reach so far, 0.
  """
  corners = corners / stride
  sizes = corners[:, 2:] - corners[:, :2]
  middles = jnp.floor((corners[:, :2] + corners[:, 2:]) / 2) + 0.5
  y, x = (jnp.arange(n) + 0.5 for n in grid_hw)
  spread = jnp.maximum(_SPREAD * sizes, _LEAST_SPREAD)
  fall = lambda places, axis: jnp.square((places[:, None] - middles[:, axis]) / spread[:, axis])  # (places, N)
  peaks = jnp.exp(-0.5 * (fall(y, 1)[:, None] + fall(x, 0))) * counted  # (h, w, N)
  own = corners[jnp.argmax(peaks, axis=-1)]  # (h, w, 4)
  centers = jnp.stack(jnp.meshgrid(x, y), axis=-1)
  sides = jnp.concatenate([centers - own[..., :2], own[..., 2:] - centers], axis=-1)
  return jnp.max(peaks, axis=-1), jnp.maximum(sides, 0.0)


def peak_loss(logits: jax.Array, peaks: jax.Array, known: jax.Array) -> jax.Array:
  """CenterNet's focal loss, the sum over cells / the number of middles: float32 scalar.

  Args:
    logits: (B, h, w).
    peaks: (B, h, w), from `box_targets`: 1 at a middle.
    known: (B, h, w) bool, the cells that count.

  Source: Zhou et al. 2019, arXiv 1904.07850, equation 1, with alpha = 2 and beta = 4.
  """
  logits = logits.astype(jnp.float32)
  p, middle = jax.nn.sigmoid(logits), peaks >= 1
  right = -jnp.square(1 - p) * jax.nn.log_sigmoid(logits)
  wrong = -((1 - peaks) ** 4) * jnp.square(p) * jax.nn.log_sigmoid(-logits)
  return jnp.sum(jnp.where(middle, right, wrong) * known) / jnp.maximum(jnp.sum(middle & known), 1)


def side_loss(sides: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
  """Weighted mean of 1 - GIoU of boxes around the same place: float32 scalar, 0 without a weight.

  Args:
    sides: (..., 4) distances to left, top, right, bottom, positive.
    targets: (..., 4) the true ones, 0 or more.
    weights: (...).

  Source: Rezatofighi et al. 2019, arXiv 1902.09630.
  """
  area = lambda d: (d[..., 0] + d[..., 2]) * (d[..., 1] + d[..., 3])
  both, around = area(jnp.minimum(sides, targets)), area(jnp.maximum(sides, targets))
  either = area(sides) + area(targets) - both
  giou = both / jnp.maximum(either, 1e-6) - (around - either) / jnp.maximum(around, 1e-6)
  return jnp.sum((1 - giou) * weights) / jnp.maximum(jnp.sum(weights), 1e-6)
