"""Solids to pixels: a pinhole camera, exact ray intersections inside each solid's bounding box, a depth buffer."""

import dataclasses

import numpy as np

from input_pipeline.people.figure import Solid


@dataclasses.dataclass(frozen=True)
class Camera:
  """A pinhole camera.

  Attributes:
    position: (3,) in the world, metres.
    rotation: (3, 3) world to camera: rows are the camera's right, down and forward.
    focal: in pixels.
    center_xy: principal point in pixels; the centre of the top left pixel is (0.5, 0.5).
    image_hw: size in pixels.
  """

  position: np.ndarray
  rotation: np.ndarray
  focal: float
  center_xy: tuple[float, float]
  image_hw: tuple[int, int]

  @classmethod
  def looking_at(cls, position, target, roll: float, focal: float, center_xy, image_hw) -> "Camera":
    """A camera at `position` whose axis meets `target`; roll in radians."""
    forward = np.subtract(target, position)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0., 1., 0.))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll), np.sin(roll)
    rotation = np.stack([cos * right + sin * down, cos * down - sin * right, forward])
    return cls(np.asarray(position, float), rotation, focal, center_xy, image_hw)

  def scaled(self, factor: int) -> "Camera":
    """The same view with `factor` times as many pixels along each side."""
    return dataclasses.replace(self, focal=self.focal * factor, center_xy=tuple(c * factor for c in self.center_xy),
                               image_hw=tuple(n * factor for n in self.image_hw))

  def to_camera(self, points: np.ndarray) -> np.ndarray:
    """World points (..., 3) to camera coordinates: x right, y down, z forward, metres."""
    return (points - self.position) @ self.rotation.T

  def plane_xy(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """Where pixel centres lie on the plane z = 1 of the camera frame: x (w,) and y (h,) float32."""
    x = (np.arange(columns.start, columns.stop) + .5 - self.center_xy[0]) / self.focal
    y = (np.arange(rows.start, rows.stop) + .5 - self.center_xy[1]) / self.focal
    return x.astype(np.float32), y.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Surface:
  """The pixels where one solid is what the camera sees.

  Attributes:
    solid: the solid.
    rows: (N,) pixel rows.
    columns: (N,) pixel columns.
    points: (N, 3) where on the solid, in the solid's own frame, metres.
    normals: (N, 3) outward, camera frame, unit length.
  """

  solid: Solid
  rows: np.ndarray
  columns: np.ndarray
  points: np.ndarray
  normals: np.ndarray


def cast(solids: list[Solid], camera: Camera) -> tuple[np.ndarray, list[Surface]]:
  """The nearest surface at every pixel centre.

  Distances first, for all solids; points and normals only where a solid turned out to be seen.

  Returns:
    Depth along the camera's axis (H, W) in metres, infinite where nothing is, and the visible solids' surfaces.
  """
  depth = np.full(camera.image_hw, np.inf, np.float32)
  nearest = np.full(camera.image_hw, -1, np.int16)
  local_views = [_LocalView(solid, camera) for solid in solids]
  for number, view in enumerate(local_views):
    box = _bounding_box(view, camera)
    if box is None:
      continue
    distance = view.distance(*camera.plane_xy(*box))
    nearer = distance < depth[box]
    np.copyto(depth[box], distance, where=nearer)
    np.copyto(nearest[box], np.int16(number), where=nearer)
  rows, columns = np.nonzero(nearest >= 0)
  numbers = nearest[rows, columns]
  order = np.argsort(numbers, kind="stable")
  starts = np.searchsorted(numbers[order], np.arange(len(solids) + 1))
  x, y = camera.plane_xy(slice(0, camera.image_hw[0]), slice(0, camera.image_hw[1]))
  surfaces = []
  for number, (start, stop) in enumerate(zip(starts[:-1], starts[1:])):
    if start < stop:
      r, c = rows[order[start:stop]], columns[order[start:stop]]
      points, normals = local_views[number].surface(x[c], y[r], depth[r, c])
      surfaces.append(Surface(solids[number], r, c, points, normals))
  return depth, surfaces


class _LocalView:
  """A camera's rays in the coordinates of one solid, where it is round, its first ball at 0, its axis +y."""

  def __init__(self, solid: Solid, camera: Camera):
    self.solid = solid
    self.start, self.end = camera.to_camera(solid.start), camera.to_camera(solid.end)
    self._flatten = np.array([solid.flatten[0], 1, solid.flatten[1]], np.float32)
    self._to_local = (solid.frame() @ camera.rotation.T).astype(np.float32)  # camera frame -> solid's own frame
    self._to_round = self._to_local / self._flatten[:, None]
    self._origin = self._to_round @ -self.start.astype(np.float32)
    self._length = float(np.linalg.norm(self.end - self.start))

  def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """First hits of the rays (x, y, 1): depth (h, w), infinite without a hit.

    The hull touches the two balls in two circles; between them it is a cone, whose quadratic is solved together with
    the condition that the hit lies between the circles. Elsewhere the nearer ball counts.
    """
    x, y = x[None], y[:, None]
    radius0, radius1 = self.solid.radii
    columns, origin, length = self._to_round.T, self._origin, self._length
    dx, dy, dz = (columns[0, i] * x + columns[1, i] * y + columns[2, i] for i in range(3))
    a = dx * dx + dy * dy + dz * dz
    b = float(columns[0] @ origin) * x + float(columns[1] @ origin) * y + float(columns[2] @ origin)
    oo, oy = float(origin @ origin), float(origin[1])
    distance = _first_root(a, b, oo - radius0 ** 2)
    taper = radius0 - radius1
    inside = length ** 2 - taper ** 2
    if inside > 1e-6:  # else one ball holds the other
      b_end = b - dy * length
      distance = np.minimum(distance, _first_root(a, b_end, oo - 2 * oy * length + length ** 2 - radius1 ** 2))
      along = dy * length
      k2 = np.maximum(inside * a - along * along, 1e-9)
      k1 = inside * b + along * (taper * radius0 - oy * length)
      k0 = inside * oo - (oy * length) ** 2 + 2 * oy * length * taper * radius0 - (length * radius0) ** 2
      hit = _first_root(k2, k1, k0)
      place = hit * along + (oy * length - radius0 * taper)
      distance = np.where((place > 0) & (place < inside), hit, distance)
    if self.solid.open_end:
      distance = np.where(oy + distance * dy > length, np.inf, distance)
    return distance

  def surface(self, x: np.ndarray, y: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) in the solid's own frame and normals (N, 3) in the camera's, at depths along rays (x, y, 1)."""
    rays = np.stack([x, y, np.ones_like(x)], -1)
    points = self._origin + depth[:, None] * (rays @ self._to_round.T)
    # The ball whose surface this is: straight in along the normal, to the axis between the two centres.
    taper, length = self.solid.radii[0] - self.solid.radii[1], self._length
    slope = taper / np.sqrt(length ** 2 - taper ** 2) if length > abs(taper) else 0.
    centers_y = np.clip(points[:, 1] - slope * np.hypot(points[:, 0], points[:, 2]), 0, length)
    normals = points.copy()
    normals[:, 1] -= centers_y
    normals = (normals / self._flatten) @ self._to_local
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    return points * self._flatten, normals


def _first_root(a: np.ndarray, b: np.ndarray, c: float) -> np.ndarray:
  """The smaller t with a t^2 + 2 b t + c = 0, a > 0; infinite where there is none."""
  root = b * b - a * np.float32(c)
  return np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)


def _bounding_box(view: _LocalView, camera: Camera) -> tuple[slice, slice] | None:
  """Rows and columns that may see the two balls; None outside the image or too near the camera."""
  thickest = max(1., *view.solid.flatten)
  lows, highs = [], []
  for center, radius in zip((view.start, view.end), view.solid.radii):
    near = center[2] - radius * thickest
    if near < .05:
      return None
    reach = 1.05 * camera.focal * radius * thickest / near + 1
    place = camera.focal * center[:2] / center[2] + camera.center_xy
    lows.append(place - reach)
    highs.append(place + reach)
  (left, top), (right, bottom) = np.min(lows, 0).astype(int), np.max(highs, 0).astype(int) + 1
  height, width = camera.image_hw
  rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
  return None if rows.start >= rows.stop or columns.start >= columns.stop else (rows, columns)
