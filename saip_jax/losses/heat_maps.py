"""Keypoints as heat maps: a peak for each."""

import jax
import jax.numpy as jnp

HEAT_MAP_SIGMA = 2.0  # of a peak, in cells of the map


def heat_map_targets(points_xy: jax.Array, size_hw: tuple[int, int], grid_hw: tuple[int, int]) -> jax.Array:
  """Returns (..., J, h, w) float32, exp(-|c - p|^2 / (2 sigma^2)) for the center c of each cell.

  Places are measured from the picture's edge and never rounded to cells, so that maps of any size have their peaks at
  the same place of the picture, mirrored ones too: the unbiased treatment that UDP asks for.

  Args:
    points_xy: (..., J, 2) p, pixels.
    size_hw: height and width of the picture, pixels.
    grid_hw: (h, w).

  Source: Huang et al. 2020, arXiv 1911.07524 (UDP); the sigma of ViTPose (Xu et al. 2022). mmpose measures from the
  centers of the first and the last cell, and cuts a peak off at three sigma.
  """

  def fall(axis: int, place: jax.Array) -> jax.Array:
    centers = jnp.arange(grid_hw[axis]) + 0.5
    return jnp.exp(-0.5 * jnp.square((centers - place[..., None] * (grid_hw[axis] / size_hw[axis])) / HEAT_MAP_SIGMA))

  return fall(0, points_xy[..., 1])[..., :, None] * fall(1, points_xy[..., 0])[..., None, :]


def heat_map_loss(maps: jax.Array, targets: jax.Array, known: jax.Array) -> jax.Array:
  """Mean squared error over all keypoints and cells; keypoints that are not known are counted as right.

  Args:
    maps: (B, h, w, J).
    targets: (B, J, h, w), from `heat_maps`.
    known: (B, J) bool.

  Returns:
    float32 scalar.

  Source: ViTPose (Xu et al. 2022), as mmpose's `KeypointMSELoss` weighs keypoints by their visibility.
  """
  errors = jnp.square(jnp.moveaxis(maps.astype(jnp.float32), -1, -3) - targets)
  return jnp.mean(errors * known[..., None, None])
