"""Planes beside an image: depth, masks and parts; one channel of integers each, never interpolated."""

import cv2
import numpy as np

# Millimeters. A median outside of this range is in another unit, or of no photo of people.
_PLAUSIBLE_MM = (100, 100_000)

# Of 16-bit depth: all that is farther, or unknown.
_BEYOND = 65535


class UnusablePlane(Exception):
  """A plane cannot be used; the message is a short reason, the same for every image."""


def decode_plane(data: bytes) -> np.ndarray:
  """Returns an encoded plane as (H, W) uint8 or uint16; raises UnusablePlane."""
  plane = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
  if plane is None:
    raise UnusablePlane("it cannot be decoded")
  if plane.ndim == 3:
    raise UnusablePlane(f"it has {plane.shape[2]} channels; expected one")
  return plane


def checked_depth(plane: np.ndarray, range_m: tuple[float, float] | None = None) -> np.ndarray:
  """Returns depth with 0 for unknown pixels.

  Args:
    plane: (H, W) uint16, millimeters; 65535, by which sensors mark unknown pixels, is unknown.
    range_m: nearest and farthest depth, meters, that counts as known; None: any.

  Returns:
    (H, W) uint16 millimeters; `plane` itself if nothing changes.

  Raises:
    UnusablePlane: it is not of 16 bits, or not in millimeters.
  """
  if plane.dtype != np.uint16:
    raise UnusablePlane(f"it has {plane.itemsize * 8} bits; depth in millimeters needs 16")
  near, far = (range_m[0] * 1000, range_m[1] * 1000) if range_m else (0, _BEYOND)
  unknown = (plane == _BEYOND) | (plane < near) | (plane > far)
  depth = np.where(unknown, np.uint16(0), plane) if unknown.any() else plane
  _check_unit(depth[depth > 0])
  return depth


def depth_in_mm(meters: np.ndarray) -> np.ndarray:
  """Returns depth (H, W) in meters, of any float type, as uint16 millimeters; 0 where it is not finite or not positive.

  Raises:
    UnusablePlane: it has another shape, or is not in meters.
  """
  meters = np.squeeze(meters)
  if meters.ndim != 2:
    raise UnusablePlane(f"it has the shape {meters.shape}; expected (height, width)")
  depth = np.where(np.isfinite(meters) & (meters > 0), meters, 0.0) * 1000.0
  _check_unit(depth[depth > 0])
  return np.clip(np.rint(depth), 0, _BEYOND).astype(np.uint16)


def _check_unit(known_mm: np.ndarray) -> None:
  """Raises UnusablePlane if the median of the known pixels is no depth of people in millimeters."""
  low, high = _PLAUSIBLE_MM
  median = np.median(known_mm) if known_mm.size else low
  if not low <= median <= high:
    raise UnusablePlane(
      f"half of it is {'nearer than' if median < low else 'farther than'} "
      f"{(low if median < low else high) / 1000:g} m: it is in another unit"
    )


def shifted_plane(plane: np.ndarray, scale: float, x: float, y: float, hw: tuple[int, int]) -> np.ndarray:
  """Returns a plane on another grid, by the nearest pixel; 0 outside of it.

  Args:
    plane: (H, W).
    scale: new size of a pixel / old size.
    x: the new position of its left edge, new pixels.
    y: the new position of its upper edge.
    hw: size of the new grid.

  Returns:
    (*hw) of the same type.
  """
  corner = lambda start: start + (scale - 1) / 2  # OpenCV measures from the center of the first pixel
  return cv2.warpAffine(
    plane, np.array([[scale, 0, corner(x)], [0, scale, corner(y)]]), hw[::-1], flags=cv2.INTER_NEAREST
  )


def resized_plane(plane: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
  """Returns a plane (H, W) of any type at another size in pixels, by the nearest pixel."""
  if plane.shape == tuple(hw):
    return plane
  if plane.dtype == bool:
    return resized_plane(plane.view(np.uint8), hw).view(bool)
  return cv2.resize(plane, hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
