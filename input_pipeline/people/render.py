"""Rendering of a scene through a camera: the light of each pixel, and the solid that it shows."""

import dataclasses

import cv2
import numpy as np

from input_pipeline.people.light import Light, ShadowMap
from input_pipeline.people.raycast import Camera, Cast
from input_pipeline.people.scene import Scene

RENDERER_VERSION = 2
"""Increased by every change that alters images: prepared sets of different versions are not mixed."""

# Rays per side of a pixel, for smooth outlines.
_OVERSAMPLING = 2


@dataclasses.dataclass(frozen=True)
class View:
  """What a camera sees of a scene.

  Attributes:
    light_rgb: (H, W, 3) float32, 1 is white.
    depth: (H, W) float32 meters along the camera's axis, infinite for sky.
    solid: (H, W) int16, number of the visible solid; -1 for the place behind.
    boxes: (S, 4) left, top, right, bottom of every solid alone, pixels, not cut at the border; NaN behind the camera.
  """

  light_rgb: np.ndarray
  depth: np.ndarray
  solid: np.ndarray
  boxes: np.ndarray


def render(scene: Scene, camera: Camera) -> View:
  """Renders a scene.

  Solids are numbered in the order people, bystanders, props.
  """
  figures = [person.solids for person in scene.people + scene.bystanders] + scene.props
  solids = [solid for figure in figures for solid in figure]
  owner = np.repeat(np.arange(len(figures)), [len(figure) for figure in figures])
  shadows = [ShadowMap(figure, scene.light) for figure in figures]
  behind, behind_depth = _light_place(scene, camera, shadows)

  fine = camera.scaled(_OVERSAMPLING)
  cast = Cast(solids, fine)
  walls = behind_depth.repeat(_OVERSAMPLING, 0).repeat(_OVERSAMPLING, 1)
  hidden = cast.depth > walls
  cast.nearest[hidden] = -1
  np.copyto(cast.depth, walls, where=hidden)
  color = np.zeros((3, cast.nearest.size), np.float32)
  axes = fine.rotation.astype(np.float32)
  sun, up = axes @ scene.light.direction.astype(np.float32), axes[:, 1]
  for surface in cast.surfaces():
    solid = solids[surface.number]
    world = cast.frames[surface.number].T @ surface.points + solid.start[:, None].astype(np.float32)
    shade = _lit(scene.light, surface.normals, world, sun, up, shadows[owner[surface.number]])
    color[:, surface.pixels] = solid.cloth.albedo(surface.points) * shade
  cover = _averaged((cast.nearest >= 0).astype(np.float32))
  front = cv2.merge([_averaged(plane.reshape(fine.image_hw)) for plane in color])
  light_rgb = behind * (1 - cover[..., None]) + front
  depth, solid = _second_nearest(cast.depth, cast.nearest)
  return View(light_rgb, depth, solid, cast.boxes / _OVERSAMPLING)


def _lit(light: Light, normals, world, sun, up, shadow: ShadowMap) -> np.ndarray:
  """Returns the brightness of a solid's surface (3, N): sky from above, a little light from the viewer, the sun."""
  cosine = sun @ normals
  sunny = np.flatnonzero(cosine > 0)
  shaded = np.zeros(len(cosine), np.float32)
  shaded[sunny] = shadow.covers(world[:, sunny])
  ambient = (0.75 + 0.25 * (up @ normals)) * (0.62 + 0.38 * np.clip(-normals[2], 0, 1))
  return light.brightness(cosine, shaded, ambient)


def _light_place(scene: Scene, camera: Camera, shadows: list[ShadowMap]) -> tuple[np.ndarray, np.ndarray]:
  """Renders the place without people but with their shadows: light (H, W, 3) and depth (H, W)."""
  albedo, depth, cosine = scene.place.paint(camera, scene.light.direction)
  height, width = camera.image_hw
  x, y = camera.plane_xy()
  shadow = np.zeros((height, width), np.float32)
  for figure in shadows:
    corners = camera.to_camera(figure.footprint())
    rows, columns = slice(0, height), slice(0, width)
    if (corners[:, 2] > 0.1).all():
      place = camera.to_pixels(corners)
      (left, top), (right, bottom) = place.min(0).astype(int), place.max(0).astype(int) + 1
      rows, columns = slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))
    r, c = np.nonzero((cosine[rows, columns] > 0) & (shadow[rows, columns] < 1))
    r, c = r + rows.start, c + columns.start
    reach = depth[r, c]
    hits = np.stack([x[c] * reach, y[r] * reach, reach])
    world = camera.rotation.T.astype(np.float32) @ hits + camera.position[:, None].astype(np.float32)
    shadow[r, c] = figure.covers(world)
  shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.3, 0.9 * height / 256))
  light = cv2.merge(list(scene.light.brightness(cosine, shadow)))
  light[np.isinf(depth)] = scene.light.sun_rgb * 0.5 + scene.light.sky_rgb  # the sky emits light
  return albedo * light, depth


def _averaged(image: np.ndarray) -> np.ndarray:
  height, width = (n // _OVERSAMPLING for n in image.shape[:2])
  return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _second_nearest(depth: np.ndarray, nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the second nearest of each pixel's four samples: a pixel shows what covers at least half of it."""
  samples = [(i, j) for i in range(_OVERSAMPLING) for j in range(_OVERSAMPLING)]
  a, b, c, d = (depth[i::_OVERSAMPLING, j::_OVERSAMPLING] for i, j in samples)
  second = np.minimum(np.maximum(np.minimum(a, b), np.minimum(c, d)), np.minimum(np.maximum(a, b), np.maximum(c, d)))
  solid = np.full(second.shape, -1, np.int16)
  for i, j in reversed(samples):
    chosen = depth[i::_OVERSAMPLING, j::_OVERSAMPLING] == second
    np.copyto(solid, nearest[i::_OVERSAMPLING, j::_OVERSAMPLING], where=chosen)
  return second, solid
