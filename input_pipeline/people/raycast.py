"""Ray casting: a pinhole camera, exact intersections inside each solid's outline box, a depth buffer."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from input_pipeline.people.solid import Solid


@dataclasses.dataclass(frozen=True)
class Camera:
  """A pinhole camera.

  Attributes:
    position: (3,) in the world, meters.
    rotation: (3, 3) world to camera: rows are the camera's right, down and forward.
    focal: in pixels.
    center_xy: principal point in pixels; the center of the top left pixel is (0.5, 0.5).
    image_hw: size in pixels.
  """

  position: np.ndarray
  rotation: np.ndarray
  focal: float
  center_xy: tuple[float, float]
  image_hw: tuple[int, int]

  @classmethod
  def looking_at(cls, position, target, roll: float, focal: float, center_xy, image_hw) -> "Camera":
    """Returns a camera at `position` that looks at `target`; roll in radians."""
    forward = np.subtract(target, position)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll), np.sin(roll)
    rotation = np.stack([cos * right + sin * down, cos * down - sin * right, forward])
    return cls(np.asarray(position, float), rotation, focal, center_xy, image_hw)

  def scaled(self, factor: int) -> "Camera":
    """Returns the same view with `factor` times as many pixels along each side."""
    return dataclasses.replace(
      self,
      focal=self.focal * factor,
      center_xy=tuple(c * factor for c in self.center_xy),
      image_hw=tuple(n * factor for n in self.image_hw),
    )

  def matrix(self) -> np.ndarray:
    """Returns the (3, 3) matrix from camera coordinates to homogeneous pixels."""
    return np.array([[self.focal, 0, self.center_xy[0]], [0, self.focal, self.center_xy[1]], [0, 0, 1.0]])

  def pose(self) -> np.ndarray:
    """Returns the (3, 4) matrix from homogeneous world coordinates to camera coordinates."""
    return np.hstack([self.rotation, -(self.rotation @ self.position)[:, None]])

  def to_camera(self, points: np.ndarray) -> np.ndarray:
    """Converts world points (..., 3) to camera coordinates: x right, y down, z forward, meters."""
    return (points - self.position) @ self.rotation.T

  def plane_xy(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places of pixel centers on the plane z = 1 of the camera frame: x (W,) and y (H,) float32."""
    height, width = self.image_hw
    x = (np.arange(width) + 0.5 - self.center_xy[0]) / self.focal
    y = (np.arange(height) + 0.5 - self.center_xy[1]) / self.focal
    return x.astype(np.float32), y.astype(np.float32)

  def to_pixels(self, points: np.ndarray) -> np.ndarray:
    """Projects camera coordinates (..., 3) in front of the camera to pixels (..., 2)."""
    return self.focal * points[..., :2] / points[..., 2:] + np.asarray(self.center_xy)


@dataclasses.dataclass(frozen=True)
class Surface:
  """The visible pixels of one solid; arrays have coordinates first, which is faster in numpy.

  Attributes:
    number: index of the solid in the list that was cast.
    pixels: (N,) row * W + column.
    points: (3, N) places on the solid, in the solid's own frame, meters.
    normals: (3, N) outward, camera frame, unit length.
  """

  number: int
  pixels: np.ndarray
  points: np.ndarray
  normals: np.ndarray


class Cast:
  """The nearest of many solids at every pixel center.

  In its own frame, divided by its flattening, a solid is round. There every quantity of a hit (the coefficients and the
  discriminant of the quadratic) is a polynomial in the pixel's place. Each is expanded about the middle of the solid,
  where float32 is exact enough, and evaluated as a row plus a column plus a product.

  Args:
    solids: the solids, world frame.
    camera: the camera.

  Attributes:
    depth: (H, W) float32 along the camera's axis, meters; infinite without a solid.
    nearest: (H, W) int16, number of the visible solid; -1 none.
    frames: (S, 3, 3) float32, rows are each solid's own axes in the world.
    boxes: (S, 4) left, top, right, bottom of each solid alone, pixels, not cut at the border; NaN if it is too near the
      camera or behind it.
  """

  def __init__(self, solids: list[Solid], camera: Camera):
    self._camera = camera
    self.depth = np.full(camera.image_hw, np.inf, np.float32)
    self.nearest = np.full(camera.image_hw, -1, np.int16)
    start, end = (
      camera.to_camera(np.array([getattr(s, end) for s in solids]).reshape(-1, 3)) for end in ("start", "end")
    )
    radii = np.array([s.radii for s in solids]).reshape(-1, 2)
    axes = frames(solids)
    self.frames = axes.astype(np.float32)
    self._flatten = np.array([(s.flatten[0], 1.0, s.flatten[1]) for s in solids]).reshape(-1, 3)
    self._to_local = axes @ camera.rotation.T  # camera frame -> each solid's own frame
    self._to_round = self._to_local / self._flatten[:, :, None]
    self._origin = -np.einsum("sij,sj->si", self._to_round, start)
    self._length = np.linalg.norm(end - start, axis=1)
    self._taper = radii[:, 0] - radii[:, 1]
    self.boxes = self._boxes(start, end, radii)
    self._draw_all(radii, [solid.open_end for solid in solids])

  def surfaces(self) -> Iterator[Surface]:
    """Yields the visible part of every solid."""
    pixels = np.flatnonzero(self.nearest >= 0)
    numbers = self.nearest.ravel()[pixels]
    order = np.argsort(numbers, kind="stable")
    pixels, numbers = pixels[order], numbers[order]
    rows, columns = np.divmod(pixels, self.nearest.shape[1])
    x, y = self._camera.plane_xy()
    depth = self.depth.ravel()[pixels]
    hits = np.stack([x[columns] * depth, y[rows] * depth, depth])
    seen, starts = np.unique(numbers, return_index=True)
    for number, start, stop in zip(seen, starts, [*starts[1:], len(pixels)]):
      yield Surface(int(number), pixels[start:stop], *self._surface(number, hits[:, start:stop]))

  def _boxes(self, start, end, radii) -> np.ndarray:
    """Returns the bounds of the two end ellipsoids' outlines, which are conics; the hull between them stays inside."""
    low, high = np.full((len(start), 2), np.inf), np.full((len(start), 2), -np.inf)
    axes = np.swapaxes(self._to_local, 1, 2) * self._flatten[:, None, :]  # columns: half axes of a ball of radius 1
    spread = axes @ np.swapaxes(axes, 1, 2)
    for center, radius in ((start, radii[:, 0]), (end, radii[:, 1])):
      conic = center[:, :, None] * center[:, None, :] - spread * (radius**2)[:, None, None]
      in_front = center[:, 2] - np.sqrt(spread[:, 2, 2]) * radius > 0.05
      depth2 = np.where(in_front, conic[:, 2, 2], np.nan)[:, None]
      middle = conic[:, :2, 2]
      half = np.sqrt(np.maximum(middle**2 - conic[:, [0, 1], [0, 1]] * depth2, 0))
      low, high = np.minimum(low, (middle - half) / depth2), np.maximum(high, (middle + half) / depth2)
    return np.hstack([low, high]) * self._camera.focal + np.tile(self._camera.center_xy, 2)

  def _draw_all(self, radii: np.ndarray, open_ends: list[bool]) -> None:
    """Draws every solid into the depth buffer.

    The hull touches the two balls in two circles; between them it is a cone. A ray enters the solid where it enters the
    endless cone if that place lies between the circles, otherwise through the ball on that side.
    """
    height, width = self._camera.image_hw
    limits = np.array([width, height])
    boxes = np.nan_to_num(self.boxes, nan=-1.0)  # too near or behind: no window
    first = np.clip(np.ceil(boxes[:, :2] - 0.5), 0, limits).astype(int)
    last = np.clip(np.floor(boxes[:, 2:] + 0.5), 0, limits).astype(int)
    middle = np.hstack([((first + last) / 2 - self._camera.center_xy) / self._camera.focal, np.ones((len(boxes), 1))])

    # rays of the round frame as functions of (1, u, v), the place relative to the window's middle
    rays = np.concatenate([self._to_round @ middle[:, :, None], self._to_round[:, :, :2]], 2)
    length, taper, radius0, radius1 = self._length, self._taper, *radii.T
    inside = length**2 - taper**2  # where it is not positive, one ball contains the other
    lean = taper * radius0 - self._origin[:, 1] * length
    along = rays[:, 1] * length[:, None]
    a = np.swapaxes(rays, 1, 2) @ rays
    b = np.einsum("sji,sj->si", rays, self._origin)
    c = np.einsum("si,si->s", self._origin, self._origin)
    cone = _equations(
      inside[:, None, None] * a - along[:, :, None] * along[:, None, :],
      inside[:, None] * b + along * lean[:, None],
      inside * (c - radius0**2) - lean**2,
    )
    balls = np.stack(
      [
        _equations(a, b, c - radius0**2),
        _equations(a, b - along, c - 2 * self._origin[:, 1] * length + length**2 - radius1**2),
      ]
    )
    end_on = inside * a[:, 0, 0] < 4 * along[:, 0] ** 2  # within 60 degrees of the axis
    cut = length - self._origin[:, 1]
    cone, along, lean, inside, cut = (v.tolist() for v in (cone, along, lean, inside, cut))

    x, y = self._camera.plane_xy()
    with np.errstate(invalid="ignore"):  # a ray that misses has a distance of NaN, which is never nearer
      for number in np.nonzero((first < last).all(1))[0]:
        (left, top), (right, bottom) = first[number], last[number]
        window = slice(top, bottom), slice(left, right)
        u, v = x[window[1]] - np.float32(middle[number, 0]), y[window[0], None] - np.float32(middle[number, 1])
        if inside[number] <= 1e-6:
          distance = _first_root(balls[int(taper[number] < 0), number].tolist(), u, v)
        else:
          distance = _first_root(cone[number], u, v)
          place = _affine(along[number], u, v)
          place *= distance
          far = place >= inside[number] + lean[number]
          ends = (place <= lean[number]) | far
          if end_on[number]:
            # Rays that run towards the tip, steeper than the cone, start inside it: they meet the wide ball first.
            inner = (_quadratic(cone[number][9:], u, v) > 0) & (_affine(along[number], u, v) * taper[number] > 0)
            ends |= inner
            far = np.where(inner, taper[number] < 0, far)
          r, c = np.nonzero(ends)
          distance[r, c] = _first_root(balls[far[r, c].view(np.int8), number].T, u[c], v[r, 0])
        if open_ends[number]:
          distance[distance * _affine(rays[number, 1].tolist(), u, v) > cut[number]] = np.nan
        nearer = distance < self.depth[window]
        np.copyto(self.depth[window], distance, where=nearer)
        np.copyto(self.nearest[window], np.int16(number), where=nearer)

  def _surface(self, number: int, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (3, N) in the solid's frame and normals (3, N) in the camera's, of hits in the camera's frame."""
    length, taper = float(self._length[number]), float(self._taper[number])
    flatten = self._flatten[number, :, None].astype(np.float32)
    points = self._to_round[number].astype(np.float32) @ hits + self._origin[number, :, None].astype(np.float32)
    # The center of the ball that has this surface: inwards along the normal, to the axis between the two centers.
    slope = np.float32(taper / np.sqrt(length**2 - taper**2) if length > abs(taper) else 0.0)
    across = np.sqrt(points[0] ** 2 + points[2] ** 2)
    normals = points.copy()
    normals[1] -= np.clip(points[1] - slope * across, 0, length)
    normals = (self._to_local[number] / self._flatten[number, :, None]).T.astype(np.float32) @ normals
    normals /= np.sqrt(np.einsum("cn,cn->n", normals, normals)) + np.float32(1e-12)
    return points * flatten, normals


def _equations(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
  """Returns the coefficients (S, 15) of a quadratic equation in t, for `_first_root`.

  The equation is A t^2 + 2 B t + c = 0 with A = h a h', B = b h', h = (1, u, v).
  """
  discriminant = b[:, :, None] * b[:, None, :] - c[:, None, None] * a
  forms = [
    np.stack([m[:, 0, 0], 2 * m[:, 0, 1], m[:, 1, 1], 2 * m[:, 0, 2], m[:, 2, 2], 2 * m[:, 1, 2]], 1)
    for m in (discriminant, -a)
  ]
  return np.concatenate([forms[0], b, forms[1]], 1).astype(np.float32)


def _first_root(coefficients, u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """Returns the smaller t of `_equations` at places (u, v); NaN if there is none."""
  root = _quadratic(coefficients[:6], u, v)
  np.sqrt(root, out=root)
  root += _affine(coefficients[6:9], u, v)
  root /= _quadratic(coefficients[9:], u, v)
  return root


def _affine(form, u: np.ndarray, v: np.ndarray) -> np.ndarray:
  p, q, r = form
  return (p + q * u) + r * v


def _quadratic(form, u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """Evaluates a quadratic form as a row plus a column plus a product."""
  p, q, s, r, w, t = form
  value = (t * v) * u
  value += p + u * (q + s * u)
  value += v * (r + w * v)
  return value


def frames(solids: list[Solid]) -> np.ndarray:
  """Returns (S, 3, 3): rows are each solid's x, y (along its axis) and z, in the world."""
  axis = np.array([s.end - s.start for s in solids]).reshape(-1, 3)
  front = np.array([s.front for s in solids]).reshape(-1, 3)
  length = np.linalg.norm(axis, axis=1, keepdims=True)
  y = np.where(length > 1e-6, axis / np.maximum(length, 1e-6), (0.0, 1.0, 0.0))
  z = front - np.sum(front * y, 1, keepdims=True) * y
  along = np.linalg.norm(z, axis=1) < 1e-3  # front along the axis: use the world axis that is most across
  across = np.eye(3)[np.argmin(np.abs(y), axis=1)]
  z[along] = (across - np.sum(across * y, 1, keepdims=True) * y)[along]
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  return np.stack([np.cross(y, z), y, z], 1)
