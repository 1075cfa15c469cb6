"""Heat maps of keypoints: targets and loss."""

import jax
import jax.numpy as jnp

HEAT_MAP_SIGMA = 2.0  # standard deviation of a peak, in cells


def heat_map_targets(points_xy: jax.Array, size_hw: tuple[int, int], grid_hw: tuple[int, int]) -> jax.Array:
  """Draws the target heat maps exp(-|c - p|^2 / (2 sigma^2)) of keypoints p at the cell centers c.

  Positions are measured from the edge of the image and not rounded to cells. Peaks therefore lie at the same position
  of the image for every map size, also after mirroring (unbiased coordinates, UDP).

  Args:
    points_xy: (..., J, 2) float, x and y in pixels.
    size_hw: height and width of the image in pixels.
    grid_hw: (h, w).

  Returns:
    (..., J, h, w) float32.

  Source: UDP (Huang et al. 2020, arXiv 1911.07524); sigma of ViTPose (Xu et al. 2022, arXiv 2204.12484). mmpose
  measures from the centers of the first and the last cell, and cuts a peak off at three sigma.
  """

  def fall(axis: int, place: jax.Array) -> jax.Array:
    centers = jnp.arange(grid_hw[axis]) + 0.5
    return jnp.exp(-0.5 * jnp.square((centers - place[..., None] * (grid_hw[axis] / size_hw[axis])) / HEAT_MAP_SIGMA))

  return fall(0, points_xy[..., 1])[..., :, None] * fall(1, points_xy[..., 0])[..., None, :]


def heat_map_loss(maps: jax.Array, targets: jax.Array, known: jax.Array) -> jax.Array:
  """Mean squared error over all keypoints and cells; unknown keypoints contribute an error of zero.

  Args:
    maps: (B, h, w, J) float.
    targets: (B, J, h, w) float32 from `heat_map_targets`.
    known: (B, J) bool.

  Returns:
    float32 scalar.

  Source: ViTPose (Xu et al. 2022, arXiv 2204.12484); mmpose's `KeypointMSELoss` weights keypoints by visibility.
  """
  errors = jnp.square(jnp.moveaxis(maps.astype(jnp.float32), -1, -3) - targets)
  return jnp.mean(errors * known[..., None, None])
