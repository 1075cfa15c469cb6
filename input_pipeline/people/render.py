"""One picture of a built-in person: identity from its number, everything else drawn per picture."""

import dataclasses

import cv2
import numpy as np

from input_pipeline.people.appearance import Outfit
from input_pipeline.people.background import paint_background
from input_pipeline.people.figure import Solid, build_figure
from input_pipeline.people.raycast import Camera, cast
from input_pipeline.people.skeleton import Body, place_joints, sample_pose

RENDERER_VERSION = 1
"""Raised with every change that alters pictures: prepared sets of another version are not mixed with new ones."""

# Pixels per side cast for each pixel of the result: what smooths the outlines.
_OVERSAMPLING = 2

_IDENTITY_STREAM, _PICTURE_STREAM = 1, 2


@dataclasses.dataclass(frozen=True)
class RenderedPerson:
  """A picture and what is known of it.

  Attributes:
    image_u8: (H, W, 3) RGB.
    identity: who it shows, 0 to identities - 1.
  """

  image_u8: np.ndarray
  identity: int


def render_person(seed: int, index: int, image_hw: tuple[int, int], identities: int) -> RenderedPerson:
  """Renders picture `index` of the endless set that `seed` stands for.

  The identity fixes body and clothes; pose, camera, light and place are drawn from (seed, index), so that any process
  renders the same picture.

  Args:
    seed: which set.
    index: which picture of it; its identity is index modulo `identities`.
    image_hw: size in pixels, upright (about twice as high as wide).
    identities: the number of different persons in the set.

  Returns:
    The picture.
  """
  identity = index % identities
  body, outfit = sample_identity(seed, identity)
  rng = np.random.default_rng((seed, _PICTURE_STREAM, index))
  solids = build_figure(body, outfit, *place_joints(body, sample_pose(rng)))
  camera = _sample_camera(rng, body, solids, image_hw)
  light = _sample_light(rng)
  background, ground = paint_background(rng, camera)
  background = background * light.on_ground(_shadow(ground, solids, light))[..., None]
  color, cover = _shade(solids, camera.scaled(_OVERSAMPLING), light)
  image = background * (1 - cover[..., None]) + color * cover[..., None]
  return RenderedPerson(_expose(rng, image), identity)


def sample_identity(seed: int, identity: int) -> tuple[Body, Outfit]:
  """Body and clothes of one person of a set."""
  rng = np.random.default_rng((seed, _IDENTITY_STREAM, identity))
  return Body.sample(rng), Outfit.sample(rng)


@dataclasses.dataclass(frozen=True)
class Light:
  """Sun and sky.

  Attributes:
    direction: (3,) towards the sun, world frame, unit length.
    sun: strength of what comes from there.
    sky: strength of what comes from everywhere.
  """

  direction: np.ndarray
  sun: float
  sky: float

  def on_ground(self, shadow: np.ndarray) -> np.ndarray:
    """Brightness of level ground whose share `shadow` is in shadow."""
    return self.sky + self.sun * self.direction[1] * (1 - shadow)


def _sample_light(rng: np.random.Generator) -> Light:
  height, turn, sun = np.deg2rad(rng.uniform(25, 75)), rng.uniform(0, 2 * np.pi), rng.uniform(.15, .95)
  direction = np.array([np.cos(height) * np.sin(turn), np.sin(height), np.cos(height) * np.cos(turn)])
  return Light(direction, sun, sky=1.05 - .75 * sun)


def _sample_camera(rng: np.random.Generator, body: Body, solids: list[Solid], image_hw: tuple[int, int]) -> Camera:
  """A camera around the person, at street or surveillance height, that frames the body as detectors do."""
  height, width = image_hw
  focal, yaw = height * rng.uniform(1.2, 3.), rng.uniform(0, 2 * np.pi)
  share = rng.uniform(.74, .95)
  distance = focal * body.stature / (share * height)
  pitch = np.deg2rad(rng.uniform(-4, 28))
  ends = np.array([end for solid in solids for end in (solid.start, solid.end)])
  middle = (ends.min(0) + ends.max(0)) / 2
  position = middle + distance * np.array([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)])
  position[1] = max(position[1], .4)
  center_xy = width * (.5 + rng.normal(0, .04)), height * (.5 + rng.normal(0, .015))
  return Camera.looking_at(position, middle, rng.normal(0, .02), focal, center_xy, image_hw)


def _shadow(ground: np.ndarray, solids: list[Solid], light: Light) -> np.ndarray:
  """The share of shadow on each ground pixel: seen from the sun, solids and ground points lie in one plane."""
  side = np.cross(light.direction, (0., 0., 1.))
  side /= np.linalg.norm(side)
  plane = np.stack([side, np.cross(light.direction, side)], 1).astype(np.float32)
  shadow = np.zeros(ground.shape[:2], np.float32)
  rows, columns = np.nonzero(np.isfinite(ground[..., 0]))
  x, y = (ground[rows, columns] @ plane).T.copy()
  inside = np.zeros(len(x), bool)
  for solid in solids:
    (x0, y0), (axis_x, axis_y) = solid.start @ plane, (solid.end - solid.start) @ plane
    reach = max(solid.radii)
    near = np.nonzero((np.abs(x - (x0 + axis_x / 2)) < abs(axis_x) / 2 + reach) &
                      (np.abs(y - (y0 + axis_y / 2)) < abs(axis_y) / 2 + reach))[0]
    dx, dy = x[near] - x0, y[near] - y0
    share = np.clip((dx * axis_x + dy * axis_y) / (axis_x ** 2 + axis_y ** 2 + 1e-9), 0, 1)
    radius = solid.radii[0] + share * (solid.radii[1] - solid.radii[0])
    inside[near] |= (dx - share * axis_x) ** 2 + (dy - share * axis_y) ** 2 < radius ** 2
  shadow[rows, columns] = inside
  return cv2.GaussianBlur(shadow, (0, 0), ground.shape[0] / 256)


def _shade(solids: list[Solid], camera: Camera, light: Light) -> tuple[np.ndarray, np.ndarray]:
  """Colours (H, W, 3) and coverage (H, W) of the figure, averaged over each `_OVERSAMPLING` squared pixels."""
  sun, up = (camera.rotation @ np.stack([light.direction, (0, 1, 0)], 1)).astype(np.float32).T
  color = np.zeros((*camera.image_hw, 3), np.float32)
  depth, surfaces = cast(solids, camera)
  for surface in surfaces:
    normals = surface.normals
    direct = np.maximum(normals @ sun, 0) * light.sun
    ambient = light.sky * (.75 + .25 * (normals @ up)) * (.6 + .4 * np.clip(-normals[:, 2], 0, 1))
    color[surface.rows, surface.columns] = surface.solid.cloth.albedo(surface.points) * (direct + ambient)[:, None]
  cover = _averaged(np.isfinite(depth).astype(np.float32))
  return _averaged(color) / np.maximum(cover, 1e-6)[..., None], cover


def _averaged(image: np.ndarray) -> np.ndarray:
  height, width = (n // _OVERSAMPLING for n in image.shape[:2])
  return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _expose(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """The camera's own doing: exposure, white balance, tone, softness, noise."""
  image = image * (rng.uniform(.75, 1.2) * rng.normal(1, .04, 3)).astype(np.float32)
  image = np.clip(image, 0, 1.2) ** np.float32(rng.uniform(.75, 1.1))
  if rng.random() < .35:
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(.3, 1.) * image.shape[0] / 256)
  image = image + rng.normal(0, rng.uniform(.003, .03), image.shape).astype(np.float32)
  return np.clip(image * 255 + .5, 0, 255).astype(np.uint8)
