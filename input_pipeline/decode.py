"""Decodes images onto a canvas of a fixed size: the only image work of the host."""

import dataclasses
import io
import re
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from input_pipeline.jpeg import JpegHeader, read_jpeg_header
from input_pipeline.orientation import orientation_of

# The pipeline decodes many images at once; threads of OpenCV would compete for the same cores.
cv2.setNumThreads(0)

MAX_PIXELS = 2 * 89_478_485
"""Images that declare more pixels are damaged: Pillow's limit against decompression bombs."""

_REDUCED = {
  1: cv2.IMREAD_COLOR,
  2: cv2.IMREAD_REDUCED_COLOR_2,
  4: cv2.IMREAD_REDUCED_COLOR_4,
  8: cv2.IMREAD_REDUCED_COLOR_8,
}

_HEAD_BYTES = 65536

READABLE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")
"""Pillow's names of the formats that are opened, whatever the file name. Others are refused: EPS runs a program."""

# The header of uncompressed pixels, as `encode_ppm` writes it.
_PPM = re.compile(rb"P6\s(\d+)\s(\d+)\s255\s")

# Orientation -> the turn that makes an image (H, W, 3) upright; see orientation.py.
_UPRIGHT = {
  1: lambda image: image,
  2: lambda image: image[:, ::-1],
  3: lambda image: image[::-1, ::-1],
  4: lambda image: image[::-1],
  5: lambda image: image.transpose(1, 0, 2),
  6: lambda image: image.transpose(1, 0, 2)[:, ::-1],
  7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
  8: lambda image: image.transpose(1, 0, 2)[::-1],
}


class DamagedImage(Exception):
  """The bytes are no usable image; the message is a short reason."""


def fit_hw(image_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> tuple[int, int]:
  """Returns the size of an image on a canvas: its own if it fits, else shrunk at the same aspect; at least 1 pixel."""
  height, width = image_hw
  scale = min(1.0, canvas_hw[0] / height, canvas_hw[1] / width)
  return max(1, min(round(height * scale), canvas_hw[0])), max(1, min(round(width * scale), canvas_hw[1]))


def decode_into(data: bytes, canvas: np.ndarray) -> tuple[int, int]:
  """Decodes an image onto the top left of a canvas that is all zero.

  The image keeps its size; it is shrunk by area averaging only if it does not fit. The accelerator does all other
  resizing. The orientation is applied (see orientation.py). Gray, palette, CMYK, 16-bit and transparent images become
  8-bit RGB: of 16 bits the high byte, transparency over white. The format is read from the bytes, not from the file
  name.

  Args:
    data: an encoded image (JPEG, PNG, WebP, BMP, PPM).
    canvas: (Hc, Wc, 3) uint8 of zeros, written in place: RGB.

  Returns:
    (height, width) of the valid part.

  Raises:
    DamagedImage: empty, truncated, not an image, or more than `MAX_PIXELS`; the canvas is still all zero.
  """
  if not data:
    raise DamagedImage("empty file (zero bytes)")
  ppm, jpeg = _PPM.match(data), read_jpeg_header(data)
  if ppm:
    image_rgb = _pixels(data, ppm)
    hw = fit_hw(image_rgb.shape[:2], canvas.shape[:2])
    canvas[: hw[0], : hw[1]] = _shrunk(image_rgb, hw)
  elif jpeg is not None and jpeg.plain:
    image_bgr, hw = _decode_jpeg(data, jpeg, canvas.shape[:2])
    cv2.cvtColor(_shrunk(image_bgr, hw), cv2.COLOR_BGR2RGB, dst=canvas[: hw[0], : hw[1]])
  else:
    image_rgb = _decode_any(data)
    hw = fit_hw(image_rgb.shape[:2], canvas.shape[:2])
    canvas[: hw[0], : hw[1]] = _shrunk(image_rgb, hw)
  return hw


def decode_image(data: bytes, canvas_hw: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
  """Decodes into a new canvas; returns (canvas (Hc, Wc, 3) uint8 RGB, (height, width) of the valid part)."""
  canvas = np.zeros((*canvas_hw, 3), np.uint8)
  return canvas, decode_into(data, canvas)


def decode_photo(data: bytes, upright: bool = True) -> np.ndarray:
  """Decodes a photo at its own size, to cut crops out of it.

  Args:
    data: an encoded image (JPEG, PNG, WebP, BMP, PPM).
    upright: apply the orientation; False: the pixels as stored, which most annotations refer to.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    DamagedImage: as `decode_into`.
  """
  if not data:
    raise DamagedImage("empty file (zero bytes)")
  jpeg = read_jpeg_header(data)
  if jpeg is None or not jpeg.plain:
    return _decode_any(data, upright)
  if not upright:
    jpeg = dataclasses.replace(jpeg, orientation=1)
  image_bgr, _ = _decode_jpeg(data, jpeg, (max(jpeg.hw), max(jpeg.hw)))
  return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)


def upright_hw(data: bytes) -> tuple[int, int]:
  """Returns (height, width) in pixels of an upright image, from its header; it must be decodable."""
  hw, orientation = photo_header(io.BytesIO(data))
  return hw[::-1] if orientation >= 5 else hw


def photo_header(file: BinaryIO) -> tuple[tuple[int, int], int]:
  """Reads the header of a photo; most of the file is not read.

  Args:
    file: an encoded image (JPEG, PNG, WebP, BMP, PPM), at its start.

  Returns:
    (height, width) in pixels as stored, and the orientation, 1 to 8 (see orientation.py).

  Raises:
    PIL.UnidentifiedImageError: it is no image; other errors of Pillow for damaged headers.
  """
  head = file.read(_HEAD_BYTES)
  jpeg = read_jpeg_header(head)
  if jpeg is None and head[:2] == b"\xff\xd8":  # thumbnails and profiles may fill many segments
    jpeg = read_jpeg_header(head + file.read())
  if jpeg is not None:
    return jpeg.hw, jpeg.orientation
  file.seek(0)
  with Image.open(file, formats=READABLE_FORMATS) as image:
    hw = image.height, image.width
  file.seek(0)
  return hw, orientation_of(file)


def encode_ppm(image_u8: np.ndarray) -> bytes:
  """Returns an image (H, W, 3) uint8 RGB as binary PPM: large, and needs no decoding."""
  return b"P6 %d %d 255\n" % (image_u8.shape[1], image_u8.shape[0]) + image_u8.tobytes()


def _pixels(data: bytes, header: re.Match) -> np.ndarray:
  width, height = int(header[1]), int(header[2])
  _check_size(height, width)
  if not height * width:
    raise DamagedImage(f"damaged PPM: {width} x {height} pixels")
  if len(data) - header.end() < height * width * 3:
    raise DamagedImage("truncated PPM: the end is missing")
  return np.frombuffer(data, np.uint8, height * width * 3, header.end()).reshape(height, width, 3)


def _shrunk(image: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
  return image if image.shape[:2] == hw else cv2.resize(image, hw[::-1], interpolation=cv2.INTER_AREA)


def _check_size(height: int, width: int) -> None:
  if height * width > MAX_PIXELS:
    raise DamagedImage(f"too large: {width} x {height} pixels, the limit is {MAX_PIXELS // 10**6} million")


def _decode_jpeg(data: bytes, header: JpegHeader, canvas_hw: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
  """Returns an upright BGR image, at least of its size on the canvas, and that size.

  JPEG is decoded at 1/2, 1/4 or 1/8 at a fraction of the cost, as far as the canvas allows.
  """
  _check_size(*header.hw)
  if header.truncated:
    raise DamagedImage("truncated JPEG: the end is missing")
  turned = header.orientation >= 5
  whole_hw = header.hw[::-1] if turned else header.hw
  hw = fit_hw(whole_hw, canvas_hw)
  shrink = min(whole_hw[0] / hw[0], whole_hw[1] / hw[1])
  flags = _REDUCED[max(k for k in _REDUCED if k == 1 or k <= shrink)] | cv2.IMREAD_IGNORE_ORIENTATION
  image_bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
  if image_bgr is None:
    raise DamagedImage("damaged JPEG: its contents cannot be decoded")
  if header.orientation != 1:
    image_bgr = _UPRIGHT[header.orientation](_shrunk(image_bgr, hw[::-1] if turned else hw))
  return np.ascontiguousarray(image_bgr), hw


def _decode_any(data: bytes, upright: bool = True) -> np.ndarray:
  """Decodes any other format by Pillow, which is slower: (H, W, 3) RGB."""
  try:
    with Image.open(io.BytesIO(data), formats=READABLE_FORMATS) as image:
      _check_size(image.height, image.width)
      image.load()
      image_rgb = np.asarray(_as_rgb(image))
    return np.ascontiguousarray(_UPRIGHT[photo_header(io.BytesIO(data))[1]](image_rgb)) if upright else image_rgb
  except DamagedImage:
    raise
  except Image.UnidentifiedImageError:
    raise DamagedImage("not an image that can be read (JPEG, PNG, WebP, BMP or PPM)") from None
  except Image.DecompressionBombError:
    raise DamagedImage(f"too large: more than {MAX_PIXELS // 10**6} million pixels") from None
  except Exception as error:  # Pillow raises nearly every type (OSError, SyntaxError, struct.error, ...) on bad bytes
    raise DamagedImage(f"damaged image: {error}") from error


def _as_rgb(image: Image.Image) -> Image.Image:
  if image.mode.startswith(("I", "F")):  # 16-bit gray; convert("RGB") would clip it to white
    high_byte = np.clip(np.asarray(image, np.int64) >> 8, 0, 255).astype(np.uint8)
    return Image.fromarray(high_byte).convert("RGB")
  if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
  return image.convert("RGB")
