"""Images as data URIs, embedded in a page."""

import base64
import io
import pathlib

import numpy as np
from PIL import Image

_PANEL_WIDTH = 1100  # pixels; captions of 7 points are readable
_JPEG_QUALITY = 82


def jpeg_uri(image_u8: np.ndarray) -> str:
  """Returns (H, W, 3) uint8 as a data URI of a JPEG."""
  return _uri(Image.fromarray(image_u8), "JPEG", quality=_JPEG_QUALITY)


def png_uri(image_u8: np.ndarray) -> str:
  """Returns a small image (H, W, 3) uint8 as a data URI of a PNG."""
  return _uri(Image.fromarray(image_u8), "PNG")


def panel_uri(path: pathlib.Path) -> str:
  """Returns the file of a panel, scaled down to the width of the page, as a data URI of a JPEG.

  Raises:
    OSError: the file is not an image.
  """
  with Image.open(path) as image:
    image = image.convert("RGB")
  if image.width > _PANEL_WIDTH:
    size = _PANEL_WIDTH, max(1, round(image.height * _PANEL_WIDTH / image.width))
    image = image.resize(size, Image.Resampling.LANCZOS)
  return _uri(image, "JPEG", quality=_JPEG_QUALITY)


def _uri(image: Image.Image, kind: str, **options) -> str:
  file = io.BytesIO()
  image.save(file, kind, optimize=True, **options)
  return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
