"""Anchor-free detection: heat map of box centers, and distances from each cell to the sides of its box.

Source: TTFNet (Liu et al. 2020, arXiv 1909.00700), a CenterNet (Zhou et al. 2019, arXiv 1904.07850) that learns boxes
from all cells around a center.
"""

import jax
import jax.numpy as jnp

_SPREAD = 0.54 / 6  # sigma of a peak / side of the box, along each axis; from TTFNet
_LEAST_SPREAD = 0.5  # smallest sigma, cells


def box_targets(corners: jax.Array, counted: jax.Array, grid_hw: tuple[int, int], stride: int):
  """Draws the targets of `peak_loss` and `side_loss` for one image.

  Args:
    corners: (N, 4) float, left, top, right, bottom in pixels.
    counted: (N,) bool, False for padding.
    grid_hw: (h, w).
    stride: pixels per cell.

  Returns:
    Peaks (h, w) float32 in 0 to 1, 1 in the cell of a box center; and sides (h, w, 4) float32, the distances in cells
    from each cell center to left, top, right, bottom of the box with the highest peak there, clipped at 0.

  Source: TTFNet (Liu et al. 2020, arXiv 1909.00700).
  """
  corners = corners / stride
  sizes = corners[:, 2:] - corners[:, :2]
  centers = jnp.floor((corners[:, :2] + corners[:, 2:]) / 2) + 0.5
  y, x = (jnp.arange(n) + 0.5 for n in grid_hw)
  spread = jnp.maximum(_SPREAD * sizes, _LEAST_SPREAD)
  fall = lambda places, axis: jnp.square((places[:, None] - centers[:, axis]) / spread[:, axis])  # (places, N)
  peaks = jnp.exp(-0.5 * (fall(y, 1)[:, None] + fall(x, 0))) * counted  # (h, w, N)
  own = corners[jnp.argmax(peaks, axis=-1)]  # (h, w, 4)
  places = jnp.stack(jnp.meshgrid(x, y), axis=-1)
  sides = jnp.concatenate([places - own[..., :2], own[..., 2:] - places], axis=-1)
  return jnp.max(peaks, axis=-1), jnp.maximum(sides, 0.0)


def peak_loss(logits: jax.Array, peaks: jax.Array, known: jax.Array) -> jax.Array:
  """CenterNet's focal loss: the sum over cells / the number of box centers.

  Args:
    logits: (B, h, w) float.
    peaks: (B, h, w) float32 from `box_targets`, 1 at a box center.
    known: (B, h, w) bool, False for cells to ignore.

  Returns:
    float32 scalar.

  Source: CenterNet (Zhou et al. 2019, arXiv 1904.07850), equation 1, with alpha = 2 and beta = 4.
  """
  logits = logits.astype(jnp.float32)
  p, center = jax.nn.sigmoid(logits), peaks >= 1
  right = -jnp.square(1 - p) * jax.nn.log_sigmoid(logits)
  wrong = -((1 - peaks) ** 4) * jnp.square(p) * jax.nn.log_sigmoid(-logits)
  return jnp.sum(jnp.where(center, right, wrong) * known) / jnp.maximum(jnp.sum(center & known), 1)


def side_loss(sides: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
  """Weighted mean of 1 - GIoU of predicted and true boxes around the same cells.

  Args:
    sides: (..., 4) float, predicted distances to left, top, right, bottom; positive.
    targets: (..., 4) float, true distances; 0 or more.
    weights: (...) float.

  Returns:
    float32 scalar; 0 if all weights are 0.

  Source: Rezatofighi et al. 2019, arXiv 1902.09630, algorithm 1.
  """
  area = lambda d: (d[..., 0] + d[..., 2]) * (d[..., 1] + d[..., 3])
  both, around = area(jnp.minimum(sides, targets)), area(jnp.maximum(sides, targets))
  either = area(sides) + area(targets) - both
  giou = both / jnp.maximum(either, 1e-6) - (around - either) / jnp.maximum(around, 1e-6)
  return jnp.sum((1 - giou) * weights) / jnp.maximum(jnp.sum(weights), 1e-6)
