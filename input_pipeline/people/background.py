"""Where a built-in person stands: ground with a texture in perspective, sky or wall, and boxes for clutter."""

import cv2
import numpy as np

from input_pipeline.people.raycast import Camera


def smooth_noise(rng: np.random.Generator, hw: tuple[int, int], cells: int) -> np.ndarray:
  """Soft random blotches in 0 to 1: (H, W) float32; about `cells` of them along the longer side."""
  grid = [max(2, round(cells * n / max(hw))) + 2 for n in hw]
  return cv2.resize(rng.random(grid, np.float32), hw[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)


def paint_background(rng: np.random.Generator, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
  """A random place seen by a camera.

  Args:
    rng: source of all draws.
    camera: the view; its ground is the plane y = 0.

  Returns:
    (H, W, 3) float32 albedo-like RGB from 0 to 1, and (H, W, 3) world points of the ground, NaN above the horizon.
  """
  height, width = camera.image_hw
  x, y = camera.plane_xy(slice(0, height), slice(0, width))
  right, down, forward = camera.rotation.astype(np.float32)
  rays_world = x[None, :, None] * right + y[:, None, None] * down + forward  # H W 3
  with np.errstate(divide="ignore", invalid="ignore"):
    reach = np.where(rays_world[..., 1] < -1e-3, -camera.position[1] / rays_world[..., 1], np.nan)
  ground = (camera.position + reach[..., None] * rays_world).astype(np.float32)
  far_limit = rng.uniform(8, 50)  # a wall or the haze begins here
  is_ground = np.isfinite(reach) & (reach < far_limit)
  image = _paint_far(rng, (height, width))
  image[is_ground] = _paint_ground(rng, (height, width), ground)[is_ground]
  horizon_row = int(np.clip(np.argmax(is_ground.any(1)) if is_ground.any() else height, 0, height))
  _paint_boxes(rng, image, horizon_row)
  if rng.random() < .5:
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(.3, 2.2) * height / 256)
  return image, np.where(is_ground[..., None], ground, np.nan)


def _sample_rgb(rng: np.random.Generator, chroma: float) -> np.ndarray:
  return np.clip(rng.uniform(.15, .9) + rng.normal(0, chroma, 3), .03, .97).astype(np.float32)


def _paint_far(rng, hw) -> np.ndarray:
  top, bottom = _sample_rgb(rng, .07), _sample_rgb(rng, .07)
  ramp = np.linspace(0, 1, hw[0], dtype=np.float32)[:, None, None]
  image = (1 - ramp) * top + ramp * bottom + np.zeros((*hw, 1), np.float32)
  if rng.random() < .6:  # foliage, plaster, clouds
    blotches = smooth_noise(rng, hw, rng.integers(6, 60)) * .6 + smooth_noise(rng, hw, 12) * .4
    image += (blotches[..., None] - .5) * rng.uniform(.1, .6) * (_sample_rgb(rng, .15) + .2)
  return image


def _paint_ground(rng, hw, ground) -> np.ndarray:
  base, accent = _sample_rgb(rng, .06), _sample_rgb(rng, .06)
  share = smooth_noise(rng, hw, 30)[..., None] * rng.uniform(0, .35)
  kind = rng.choice(["plain", "tiles", "planks"])
  if kind != "plain":
    size, angle = rng.uniform(.3, 1.2), rng.uniform(0, np.pi)
    x = np.nan_to_num(ground[..., 0] * np.cos(angle) + ground[..., 2] * np.sin(angle)) / size
    z = np.nan_to_num(ground[..., 2] * np.cos(angle) - ground[..., 0] * np.sin(angle)) / size
    lines = (np.mod(x, 1) < .07) | ((np.mod(z, 1) < .07) if kind == "tiles" else False)
    share = share + lines[..., None] * rng.uniform(.2, .7)
  return base + np.clip(share, 0, 1) * (accent - base)


def _paint_boxes(rng, image, horizon_row) -> None:
  """Buildings, windows, signs, posts: rectangles that mostly stand on the horizon, farther ones first."""
  height, width = image.shape[:2]
  for _ in range(rng.integers(0, 9)):
    w, h = int(width * rng.uniform(.04, .6)) + 1, int(height * rng.uniform(.05, .55)) + 1
    bottom = min(height, horizon_row + int(height * rng.uniform(-.02, .06)))
    if rng.random() < .25:
      bottom = rng.integers(h // 2, height)
    top, left = max(0, bottom - h), rng.integers(-w // 2, width)
    box = image[top:bottom, max(0, left):max(0, left + w)]
    if box.size == 0:
      continue
    box[:] = _sample_rgb(rng, .09) * np.linspace(rng.uniform(.7, 1), 1, box.shape[1], dtype=np.float32)[None, :, None]
    if rng.random() < .4 and min(box.shape[:2]) > 12:
      step, color = rng.integers(5, 12), box * rng.uniform(.4, 1.) + _sample_rgb(rng, .05) * .3
      rows, columns = (np.arange(n) % step < step * .55 for n in box.shape[:2])
      box[np.ix_(rows, columns)] = color[np.ix_(rows, columns)]
