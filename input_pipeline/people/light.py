"""Sun and sky, and the shadows of solids: a point that the sun does not see is in shadow."""

import dataclasses

import numpy as np

from input_pipeline.people.raycast import Camera, Cast
from input_pipeline.people.solid import Solid

_SUN_DISTANCE = 80.0  # meters; far enough for parallel rays
_CELL = 0.016  # meters per cell of a shadow map
_BIAS = 0.03  # meters that a point in shadow lies behind the surface that the sun sees, at least
_LEAST_RADIUS = 0.018  # meters; the shadows of smaller solids (eyes, straps) are left out to save time
_MARGIN = 0.35  # meters; no solid reaches farther beyond its two centers


@dataclasses.dataclass(frozen=True)
class Light:
  """Sun and sky.

  Attributes:
    direction: (3,) towards the sun, world frame, unit length.
    sun_rgb: (3,) strength of the direct light.
    sky_rgb: (3,) strength of the light from all directions.
  """

  direction: np.ndarray
  sun_rgb: np.ndarray
  sky_rgb: np.ndarray

  @classmethod
  def sample(cls, rng: np.random.Generator, time: float) -> "Light":
    """Draws the light at a time of day (seconds since midnight, 7 to 19 o'clock): low and warm at both ends."""
    noon = np.sin(np.pi * (time / 3600 - 6) / 14)
    height, turn, sun = np.deg2rad(12 + 58 * noon), rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.95)
    direction = np.array([np.cos(height) * np.sin(turn), np.sin(height), np.cos(height) * np.cos(turn)])
    warmth = 0.22 * (1 - noon) + rng.normal(0, 0.03)
    warm = np.array([1 + warmth, 1.0, 1 - warmth], np.float32)
    return cls(direction, np.float32(1.1 * sun) * warm, np.float32(1.02 - 0.66 * sun) * (2 - warm**0.5))

  def brightness(self, cosine: np.ndarray, shadow: np.ndarray, ambient: np.ndarray | float = 1.0) -> np.ndarray:
    """Returns the brightness (3, ...) of surfaces.

    Args:
      cosine: (...) between their normal and the sun; below 0 they face away.
      shadow: (...) 0 to 1, share of the sunlight that is blocked.
      ambient: share of the sky that they see.
    """
    direct = np.maximum(cosine, 0) * (1 - shadow)
    sky = self.sky_rgb.reshape(-1, *[1] * direct.ndim) * np.asarray(ambient, np.float32)
    return np.multiply.outer(self.sun_rgb, direct) + sky


class ShadowMap:
  """Distance from the sun to the nearest of some solids, in a grid across the sun's rays.

  Args:
    solids: the solids that cast the shadow; near each other, as those of one person.
    light: the light.
  """

  def __init__(self, solids: list[Solid], light: Light):
    points = np.array([point for solid in solids for point in (solid.start, solid.end)])
    self.low, self.high = points.min(0) - _MARGIN, points.max(0) + _MARGIN
    self._direction = light.direction
    middle = (self.low + self.high) / 2
    sun = Camera.looking_at(
      middle + _SUN_DISTANCE * light.direction, middle, 0.0, _SUN_DISTANCE / _CELL, (0, 0), (0, 0)
    )
    place = sun.to_pixels(sun.to_camera(points))
    start = place.min(0) - _MARGIN / _CELL / 2
    width, height = np.ceil(place.max(0) - start + _MARGIN / _CELL / 2).astype(int)
    self._sun = dataclasses.replace(sun, center_xy=tuple(-start), image_hw=(int(height), int(width)))
    self._reach = Cast([solid for solid in solids if max(solid.radii) > _LEAST_RADIUS], self._sun).depth

  def footprint(self) -> np.ndarray:
    """Returns (8, 3) world points around the solids and their shadow on the ground."""
    corners = np.array(
      [(x, y, z) for x in (self.low[0], self.high[0]) for y in (0.0, self.high[1]) for z in (self.low[2], self.high[2])]
    )
    shadow = corners - self._direction * (corners[:, 1:2] / self._direction[1])
    return np.concatenate([corners[corners[:, 1] > 0], shadow[corners[:, 1] > 0]])

  def covers(self, points: np.ndarray) -> np.ndarray:
    """Returns which world points (3, N) lie in the shadow: (N,) bool."""
    pose = self._sun.pose().astype(np.float32)
    x, y, z = pose[:, :3] @ points + pose[:, 3:]
    scale = np.float32(self._sun.focal) / z
    column, row = (
      (place * scale + np.float32(center)).astype(np.int32) for place, center in zip((x, y), self._sun.center_xy)
    )
    height, width = self._sun.image_hw
    inside = np.flatnonzero((column >= 0) & (column < width) & (row >= 0) & (row < height))
    shadow = np.zeros(len(z), bool)
    shadow[inside] = z[inside] > self._reach.ravel()[row[inside] * width + column[inside]] + np.float32(_BIAS)
    return shadow
