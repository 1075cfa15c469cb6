"""Made-up data sets whose pictures are numbers, and an encoder that reads these and so can know anything."""

import io

import numpy as np
from PIL import Image

from input_pipeline.source import ImageSource
from saip_jax.evaluation.encoders import Encoder
from saip_jax.evaluation.splits import LabeledImages

HW, GRID = (64, 32), (8, 4)


class CodedPictures(ImageSource):
  """Pictures of one color, which is their number.

  Args:
    numbers: (n,) of the pictures.
    facts: number -> facts.
    legend: what they mean.
    planes: number -> {file name: (H, W) array}.
  """

  def __init__(self, numbers, facts, legend=None, planes=lambda number: {}):
    self._numbers, self._facts, self._planes = list(numbers), facts, planes
    self.legend, self.identity = legend or {}, {"source": "coded", "name": "coded", "length": len(self), "digest": "0"}

  def __len__(self):
    return len(self._numbers)

  def read(self, i):
    number = self._numbers[i]
    return as_png(np.full((*HW, 3), (number // 256, number % 256, 0), np.uint8))

  def name(self, i):
    return f"picture {self._numbers[i]}"

  def annotations(self, i):
    number = self._numbers[i]
    return self._facts(number), {name: as_png(plane) for name, plane in self._planes(number).items()}


class CodedData:
  """Stands in for `splits.Data`."""

  def __init__(self, train, test):
    self.parts = LabeledImages(train), LabeledImages(test)

  def train_and_test(self, whole=False):
    return self.parts

  query_and_gallery = train_and_test

  def test(self, whole=False):
    return self.parts[1]


def knowing_encoder(image=lambda number: [1.0], cells=lambda number: np.ones((*GRID, 1))) -> Encoder:
  """Returns an encoder whose features are functions of a picture's number."""

  def apply(images_u8):
    numbers = images_u8[:, 0, 0, 0].astype(int) * 256 + images_u8[:, 0, 0, 1]
    return (np.array([image(n) for n in numbers], np.float32), np.array([cells(n) for n in numbers], np.float32))

  return Encoder({"checkpoint": "knowing", "image_hw": list(HW)}, HW, apply)


def as_png(array):
  file = io.BytesIO()
  Image.fromarray(array).save(file, "PNG")
  return file.getvalue()
