"""Places where the built-in people stand: textured ground, upright panels (walls, houses, signs, cars) and sky."""

import dataclasses

import cv2
import numpy as np

from input_pipeline.people.raycast import Camera

_FAR = 60.0  # meters; nothing beyond it is drawn
_NOISE_CELLS = 64


@dataclasses.dataclass(frozen=True)
class Texture:
  """A pattern on a plane, in meters, so that every camera sees the same one.

  Attributes:
    kind: plain, tiles (lines both ways), planks (lines one way), windows (dark panes) or bricks.
    base_rgb: (3,) 0 to 1.
    accent_rgb: (3,) color of lines, panes and blotches.
    period: meters per repeat.
    angle: of the pattern on the plane, radians.
    contrast: share of the accent in lines and panes.
    noise: (cells, cells) blotches, 0 to 1, repeated over the plane.
    noise_period: meters per repeat of `noise`.
    noise_contrast: share of the accent in blotches.
  """

  kind: str
  base_rgb: np.ndarray
  accent_rgb: np.ndarray
  period: float
  angle: float
  contrast: float
  noise: np.ndarray
  noise_period: float
  noise_contrast: float

  @classmethod
  def sample(
    cls, rng: np.random.Generator, kinds: tuple[str, ...], angle: float = 0.0, chroma: float = 0.13
  ) -> "Texture":
    return cls(
      kind=str(rng.choice(kinds)),
      base_rgb=_sample_rgb(rng, chroma),
      accent_rgb=_sample_rgb(rng, chroma),
      period=float(np.exp(rng.uniform(np.log(0.25), np.log(2.5)))),
      angle=angle,
      contrast=rng.uniform(0.2, 0.7),
      noise=rng.random((_NOISE_CELLS, _NOISE_CELLS), np.float32),
      noise_period=float(np.exp(rng.uniform(np.log(2.0), np.log(40.0)))),
      noise_contrast=rng.uniform(0.0, 0.5),
    )

  def albedo(self, u: np.ndarray, v: np.ndarray, footprint: np.ndarray | float) -> np.ndarray:
    """Returns the colors at points of the plane.

    Args:
      u: (N,) meters along the plane.
      v: (N,) meters across (upwards on a panel).
      footprint: meters that a pixel covers there; finer detail fades, as if blurred.

    Returns:
      (N, 3) float32 RGB, 0 to 1.
    """
    share = self.noise_contrast * self._noise(u, v, footprint)
    if self.kind != "plain":
      fade = np.clip(self.period / (4 * footprint) - 0.5, 0, 1)
      share = share + self.contrast * fade * self._lines(u / self.period, v / self.period)
    return self.base_rgb + np.minimum(share, 1)[:, None] * (self.accent_rgb - self.base_rgb)

  def _noise(self, u, v, footprint) -> np.ndarray:
    """Returns two octaves of the blotches."""
    scale = np.float32(_NOISE_CELLS / self.noise_period)
    coarse = _look_up(self.noise, u * (scale / 8), v * (scale / 8))
    fine = _look_up(self.noise, u * scale, v * scale)
    weight = 0.5 * np.clip(0.5 / (footprint * scale), 0, 1)
    return coarse + weight * (fine - coarse)

  def _lines(self, u, v) -> np.ndarray:
    cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
    u, v = _fraction(u * cos + v * sin), v * cos - u * sin
    if self.kind == "planks":
      return u < 0.08
    if self.kind == "tiles":
      return (u < 0.06) | (_fraction(v) < 0.06)
    if self.kind == "bricks":
      return (_fraction(v * 2) < 0.12) | (_fraction(u + 0.5 * (np.mod(np.floor(v * 2), 2))) < 0.06)
    assert self.kind == "windows", self.kind
    v = _fraction(v)
    return (u > 0.25) & (u < 0.75) & (v > 0.25) & (v < 0.8)


@dataclasses.dataclass(frozen=True)
class UprightPanel:
  """An upright textured rectangle.

  Attributes:
    foot: (3,) the middle of its lower edge, meters.
    along: (3,) unit direction of that edge.
    width: meters.
    height: meters.
    texture: its surface.
  """

  foot: np.ndarray
  along: np.ndarray
  width: float
  height: float
  texture: Texture


@dataclasses.dataclass(frozen=True)
class Place:
  """Ground, panels and sky.

  Attributes:
    ground: texture of the plane y = 0.
    panels: upright rectangles around.
    sky_rgb: (2, 3) colors at the zenith and at the horizon.
    clouds: (cells, cells) blotches of the sky.
    blur: softness of the background, pixels at a picture height of 256.
  """

  ground: Texture
  panels: list[UprightPanel]
  sky_rgb: np.ndarray
  clouds: np.ndarray
  blur: float

  @classmethod
  def sample(
    cls, rng: np.random.Generator, camera_yaws: tuple[float, ...], clear_radius: float, behind: float, panels: int
  ) -> "Place":
    """Draws a place around the origin, furnished where cameras will see it.

    Args:
      rng: source of all draws.
      camera_yaws: azimuths in radians (0 is +z, pi/2 is +x) of the cameras, which look at the origin.
      clear_radius: meters around the origin that stay free of panels on the cameras' side.
      behind: meters that stay free on the sides without cameras.
      panels: the most panels.
    """
    ground = Texture.sample(rng, ("plain", "plain", "tiles", "planks", "bricks"), rng.uniform(0, np.pi))
    upright = [_sample_panel(rng, camera_yaws, clear_radius, behind) for _ in range(rng.integers(panels + 1))]
    blue, cloudy = rng.uniform(0.45, 1.0), rng.uniform(0.35, 1.0)
    sky_rgb = (
      blue * np.array([(1 - 0.4 * cloudy, 1 - 0.2 * cloudy, 1.0), (1, 1, 1)]) * np.exp(rng.normal(0, 0.05, (2, 3)))
    )
    return cls(
      ground,
      upright,
      sky_rgb.astype(np.float32),
      rng.random((16, 16), np.float32),
      rng.uniform(0.3, 2.2) if rng.random() < 0.5 else 0.0,
    )

  def paint(self, camera: Camera, sun_direction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paints the place as a camera sees it.

    Args:
      camera: the view.
      sun_direction: (3,) unit, world frame.

    Returns:
      (H, W, 3) float32 albedo 0 to 1; (H, W) float32 depth along the camera's axis, infinite for sky; (H, W) float32
      cosine between surface and sun, 0 or less where the sun does not reach it, 0 for sky.
    """
    x, y = camera.plane_xy()
    image, depth = self._paint_sky(camera, x, y), np.full(camera.image_hw, np.inf, np.float32)
    cosine, nearest = np.zeros_like(depth), np.full(depth.shape, -1, np.int8)
    planes = [
      _Plane(camera, panel, texture)
      for panel, texture in [(None, self.ground)] + [(panel, panel.texture) for panel in self.panels]
    ]
    for number, plane in enumerate(planes):
      plane.reach(x, y, depth, nearest, number)
    for number, plane in enumerate(planes):
      rows, columns = np.nonzero(nearest == number)
      if len(rows):
        image[rows, columns] = plane.albedo(x[columns], y[rows], depth[rows, columns])
        cosine[rows, columns] = plane.cosine(camera.rotation @ sun_direction)
    if self.blur:
      image = cv2.GaussianBlur(image, (0, 0), self.blur * camera.image_hw[0] / 256)
    return image, depth, cosine

  def _paint_sky(self, camera, x, y) -> np.ndarray:
    """Returns colors by the elevation of each ray, and clouds by its direction."""
    up = _affine(camera.rotation[:, 1], x, y) / np.sqrt(1 + (x * x)[None] + (y * y)[:, None])
    level = np.clip(up * 2, 0, 1)[..., None]
    right = _affine(camera.rotation[:, 0], x, y)
    clouds = _look_up(self.clouds, (right * 5).ravel(), (up * 9).ravel()).reshape(*up.shape, 1)
    return self.sky_rgb[1] + (level * 0.7 + clouds * 0.3) * (self.sky_rgb[0] - self.sky_rgb[1])


class _Plane:
  """A panel, or the endless ground (None), in a camera's frame."""

  def __init__(self, camera: Camera, panel: UprightPanel | None, texture: Texture):
    self._panel, self._texture, self._focal = panel, texture, camera.focal
    foot, along, up = (
      (np.zeros(3), np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]))
      if panel is None
      else (panel.foot, panel.along, np.array([0.0, 1.0, 0.0]))
    )
    self._origin, self._along, self._up = camera.to_camera(foot), camera.rotation @ along, camera.rotation @ up
    normal = np.cross(self._along, self._up)
    self._normal = normal * np.sign(normal @ self._origin)  # away from the camera
    self._distance = float(self._normal @ self._origin)

  def reach(self, x: np.ndarray, y: np.ndarray, depth: np.ndarray, nearest: np.ndarray, number: int) -> None:
    """Writes its depth into `depth`, and `number` into `nearest`, where it is nearer than their content."""
    rows, columns = slice(0, len(y)), slice(0, len(x))
    if self._panel is not None:
      corners = np.array(
        [
          self._origin + side * self._panel.width / 2 * self._along + level * self._panel.height * self._up
          for side in (-1, 1)
          for level in (0, 1)
        ]
      )
      if (corners[:, 2] < 0.1).all():
        return
      if (corners[:, 2] >= 0.1).all():
        place = corners[:, :2] / corners[:, 2:]
        (left, top), (right, bottom) = place.min(0), place.max(0)
        columns = slice(int(np.searchsorted(x, left)), int(np.searchsorted(x, right)))
        rows = slice(int(np.searchsorted(y, top)), int(np.searchsorted(y, bottom)))
        if columns.start >= columns.stop or rows.start >= rows.stop:
          return
    x, y, depth, nearest = x[columns], y[rows], depth[rows, columns], nearest[rows, columns]
    with np.errstate(divide="ignore"):
      reach = np.float32(self._distance) / _affine(self._normal, x, y)
    seen = (reach > 0.1) & (reach < np.minimum(depth, _FAR))
    if self._panel is not None:
      u = reach * _affine(self._along, x, y) - np.float32(self._along @ self._origin)
      v = reach * _affine(self._up, x, y) - np.float32(self._up @ self._origin)
      seen &= (np.abs(u) < self._panel.width / 2) & (v > 0) & (v < self._panel.height)
    np.copyto(depth, reach, where=seen)
    nearest[seen] = number

  def albedo(self, x: np.ndarray, y: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Returns the colors (N, 3) where the rays (x, y, 1) meet it at these depths."""
    u, v = (
      depth * (axis[0] * x + axis[1] * y + axis[2]) - np.float32(axis @ self._origin)
      for axis in (self._along.astype(np.float32), self._up.astype(np.float32))
    )
    # the longer side of a pixel's footprint; grazing rays stretch it
    footprint = depth * depth / np.float32(self._focal * self._distance)
    return self._texture.albedo(u, v, footprint)

  def cosine(self, direction: np.ndarray) -> float:
    """Returns the cosine between the normal of the visible side and a direction in the camera's frame."""
    return -float(self._normal @ direction)


def _affine(vector: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns vector . (x, y, 1) at every pixel: (h, w) float32."""
  a, b, c = vector.astype(np.float32)
  return (a * x + c)[None] + (b * y)[:, None]


def _fraction(x: np.ndarray) -> np.ndarray:
  return x - np.floor(x)


def _look_up(tile: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """Returns values (N,) of a tile that repeats over the plane, interpolated between its cells."""
  cells = len(tile)
  u, v = (np.float32(cells) * _fraction(place / np.float32(cells)) for place in (u, v))
  rows = -(-len(u) // 2048)  # remap needs a 2-D array with fewer than 32,768 columns
  padded = np.zeros((2, rows * 2048), np.float32)
  padded[0, : len(u)], padded[1, : len(u)] = u, v
  found = cv2.remap(tile, *padded.reshape(2, rows, 2048), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
  return found.ravel()[: len(u)]


def _sample_panel(rng, camera_yaws, clear_radius, behind) -> UprightPanel:
  """Draws a wall, house, sign, car, post or bush that faces the origin and lies beyond it for some camera."""
  azimuth = camera_yaws[rng.integers(len(camera_yaws))] + np.pi + np.deg2rad(rng.uniform(-60, 60))
  kind = rng.choice(["wall", "house", "sign", "car", "post", "bush"], p=[0.2, 0.25, 0.12, 0.15, 0.13, 0.15])
  width, height, kinds = {
    "wall": (rng.uniform(4, 16), rng.uniform(1, 4), ("plain", "bricks", "planks", "tiles")),
    "house": (rng.uniform(5, 16), rng.uniform(4, 14), ("windows", "windows", "plain", "bricks")),
    "sign": (rng.uniform(0.4, 2), rng.uniform(0.3, 1.2), ("plain", "planks", "windows")),
    "car": (rng.uniform(1.7, 4.4), rng.uniform(1.3, 1.7), ("plain", "windows")),
    "post": (rng.uniform(0.06, 0.3), rng.uniform(2, 5), ("plain", "planks")),
    "bush": (rng.uniform(0.5, 4), rng.uniform(0.5, 3.5), ("plain",)),
  }[str(kind)]
  from_camera = min(abs((azimuth - yaw + np.pi) % (2 * np.pi) - np.pi) for yaw in camera_yaws)
  nearest = behind if from_camera > np.deg2rad(110) else clear_radius + width / 2
  distance = nearest * np.exp(rng.uniform(0, np.log(max(1.5, 40 / nearest))))
  out = np.array([np.sin(azimuth), 0.0, np.cos(azimuth)])
  turn = azimuth + np.deg2rad(rng.uniform(-25, 25) * min(1.0, distance / (2 * width)))
  texture = Texture.sample(rng, kinds, chroma=0.4 if kind in ("sign", "car") else 0.14)
  if kind == "bush":
    texture = dataclasses.replace(texture, noise_contrast=rng.uniform(0.4, 1.0), noise_period=rng.uniform(2, 8))
  lift = rng.uniform(1.0, 2.6) if kind == "sign" else 0.0
  return UprightPanel(
    out * distance + (0, lift, 0), np.array([np.cos(turn), 0.0, -np.sin(turn)]), width, height, texture
  )


def _sample_rgb(rng: np.random.Generator, chroma: float) -> np.ndarray:
  return np.clip(rng.uniform(0.12, 0.9) * np.exp(rng.normal(0, chroma, 3)), 0.03, 0.97).astype(np.float32)
