"""The cameras of a set: how they are mounted, what they see, and what they do to an image."""

import dataclasses

import cv2
import numpy as np

_STATION_STREAM = 4


@dataclasses.dataclass(frozen=True)
class Station:
  """One camera with properties that stay fixed through a set, as a street or shop camera.

  Attributes:
    pitch_degrees: (low, high) how steeply it looks down on people.
    focal: (low, high) focal length, in image heights.
    gain_rgb: (3,) exposure and white balance.
    gamma: tone curve.
    softness: blur of its lens, pixels at an image height of 256.
    noise: standard deviation of its noise, 0 to 1.
    detail: share of the pixels per side that it really resolves.
    jpeg_quality: (low, high) quality of its stored images.
  """

  pitch_degrees: tuple[float, float]
  focal: tuple[float, float]
  gain_rgb: np.ndarray
  gamma: float
  softness: float
  noise: float
  detail: float
  jpeg_quality: tuple[int, int]

  @classmethod
  def of(cls, seed: int, number: int) -> "Station":
    """Returns camera `number` of the set with this seed."""
    rng = np.random.default_rng((seed, _STATION_STREAM, number))
    pitch, focal, quality = rng.uniform(-3, 18), rng.uniform(1.2, 2.4), int(rng.integers(62, 86))
    return cls(
      pitch_degrees=(pitch, pitch + 10),
      focal=(focal, focal * 1.4),
      gain_rgb=(rng.uniform(0.8, 1.15) * np.exp(rng.normal(0, 0.06, 3))).astype(np.float32),
      gamma=rng.uniform(0.75, 1.15),
      softness=rng.uniform(0, 0.8),
      noise=rng.uniform(0.003, 0.018),
      detail=1.0 if rng.random() < 0.7 else rng.uniform(0.45, 0.8),
      jpeg_quality=(quality - 8, quality + 8),
    )

  def expose(self, rng: np.random.Generator) -> "Exposure":
    """Draws its state at a moment: exposure, focus, motion."""
    return Exposure(
      gain_rgb=self.gain_rgb * np.float32(rng.uniform(0.85, 1.15)),
      gamma=self.gamma * rng.uniform(0.92, 1.08),
      softness=self.softness + (rng.uniform(0, 0.9) if rng.random() < 0.3 else 0),
      motion=(rng.uniform(3, 9) if rng.random() < 0.12 else 0.0, rng.uniform(0, np.pi)),
      detail=self.detail * (rng.uniform(0.3, 0.7) if rng.random() < 0.15 else 1.0),
      noise=self.noise * rng.uniform(0.6, 1.6),
      jpeg_quality=int(rng.integers(*self.jpeg_quality)),
    )


@dataclasses.dataclass(frozen=True)
class Exposure:
  """The state of a camera for one image, or for one clip.

  Attributes:
    gain_rgb: (3,) exposure and white balance.
    gamma: tone curve.
    softness: blur, pixels at an image height of 256.
    motion: length in such pixels, and direction in radians, of the motion blur; length 0 none.
    detail: share of the pixels per side that are resolved.
    noise: standard deviation, 0 to 1.
    jpeg_quality: quality of the stored image.
  """

  gain_rgb: np.ndarray
  gamma: float
  softness: float
  motion: tuple[float, float]
  detail: float
  noise: float
  jpeg_quality: int

  def develop(self, rng: np.random.Generator, light_rgb: np.ndarray) -> np.ndarray:
    """Returns the image that the light at the camera gives.

    Args:
      rng: source of the noise.
      light_rgb: (H, W, 3) float32, 1 is white.

    Returns:
      (H, W, 3) uint8.
    """
    scale = light_rgb.shape[0] / 256
    image = np.clip(light_rgb * self.gain_rgb, 0, 1.2) ** np.float32(self.gamma)
    if self.softness * scale > 0.3:
      image = cv2.GaussianBlur(image, (0, 0), self.softness * scale)
    if self.motion[0]:
      image = _motion_blur(image, self.motion[0] * scale, self.motion[1])
    if self.detail < 1:
      small = cv2.resize(image, None, fx=self.detail, fy=self.detail, interpolation=cv2.INTER_AREA)
      image = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    image = image + np.float32(self.noise) * rng.standard_normal(image.shape, np.float32)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def _motion_blur(image: np.ndarray, length: float, angle: float) -> np.ndarray:
  """Averages along a line of `length` pixels."""
  reach = int(np.ceil(length / 2))
  if reach < 1:
    return image
  kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
  steps = np.linspace(-length / 2, length / 2, 8 * reach + 1)
  np.add.at(
    kernel, (np.rint(reach + steps * np.sin(angle)).astype(int), np.rint(reach + steps * np.cos(angle)).astype(int)), 1
  )
  return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
