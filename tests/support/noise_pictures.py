"""Pictures of noise, as files and as sources of nothing but names."""

import io

import cv2
import numpy as np
from PIL import Image

from input_pipeline.source import ImageSource


def noise(seed, hw=(256, 128)):
  """Something with the contrast and colors of a photo, and unlike that of any other seed."""
  cells = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8)
  return cv2.resize(cells, hw[::-1], interpolation=cv2.INTER_CUBIC)


def encoded(image, kind="JPEG", **options):
  buffer = io.BytesIO()
  (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
  return buffer.getvalue()


class Named(ImageSource):
  """Photos by name; whatever `failing` names raises something odd."""

  identity = {"source": "folder", "name": "named", "length": 0, "digest": "0"}

  def __init__(self, names, failing=()):
    self._names, self._failing = names, failing

  def __len__(self):
    return len(self._names)

  def read(self, i):
    if self._names[i] in self._failing:
      raise RuntimeError("the reader broke")
    return encoded(noise(i, (64, 32)))

  def name(self, i):
    return self._names[i]
