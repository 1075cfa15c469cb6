"""Decoding and resizing of images into uint8 batches: the host's part of computing features."""

import collections
import dataclasses
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from PIL import Image

from input_pipeline.decode import DamagedImage, decode_into
from input_pipeline.sources.table import ImageSource

# Longer sides are averaged down to this before the resize: bounds the memory of a thread to 48 MiB.
_LONGEST_SIDE = 4096
_BATCHES_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class ResizedBatch:
  """A batch of images of one size.

  Attributes:
    start: position of the first image in its source.
    images_u8: (B, H, W, 3) RGB; damaged images and rows after the end of the source are black.
    reasons: why each image of the source cannot be used; None if it can. Rows after its end have no entry.
  """

  start: int
  images_u8: np.ndarray
  reasons: list[str | None]


def resized_batches(source: ImageSource, image_hw: tuple[int, int], batch_size: int) -> Iterator[ResizedBatch]:
  """Yields all images of a source in order; threads decode ahead of the consumer.

  Every image is resized to `image_hw` regardless of its aspect ratio, with Pillow's antialiased bicubic filter, as timm
  does with an exported model (`crop_mode` squash, `crop_pct` 1). Decoding follows `decode_into`: the orientation is
  applied, and transparent pixels are blended with white. Memory is bounded by three batches and one canvas per thread.

  Args:
    source: the images.
    image_hw: size of the results in pixels.
    batch_size: rows of every batch, including the last one.
  """
  local = threading.local()

  def make_canvas() -> None:
    local.canvas = np.zeros((_LONGEST_SIDE, _LONGEST_SIDE, 3), np.uint8)

  def fill(i: int, row_u8: np.ndarray) -> str | None:
    try:
      resize_into(source.read(i), local.canvas, row_u8)
    except DamagedImage as error:
      return " ".join(str(error).split())
    except OSError as error:
      return f"cannot be read: {error.strerror or error}"
    return None

  pool = ThreadPoolExecutor(os.cpu_count(), "resize", make_canvas)
  ahead: collections.deque[tuple[int, np.ndarray, list[Future]]] = collections.deque()
  try:
    for start in range(0, len(source), batch_size):
      images_u8 = np.zeros((batch_size, *image_hw, 3), np.uint8)
      rows = zip(range(start, len(source)), images_u8)
      ahead.append((start, images_u8, [pool.submit(fill, i, row_u8) for i, row_u8 in rows]))
      if len(ahead) > _BATCHES_AHEAD:
        yield _finished(*ahead.popleft())
    while ahead:
      yield _finished(*ahead.popleft())
  finally:
    pool.shutdown(cancel_futures=True)


def _finished(start: int, images_u8: np.ndarray, jobs: list[Future]) -> ResizedBatch:
  return ResizedBatch(start, images_u8, [job.result() for job in jobs])


def resize_into(data: bytes, canvas: np.ndarray, out_u8: np.ndarray) -> None:
  """Decodes one image and resizes it.

  Args:
    data: an encoded image.
    canvas: (Hc, Wc, 3) uint8 zeros, again zeros afterwards; larger images are averaged down to fit first.
    out_u8: (H, W, 3) uint8, overwritten.

  Raises:
    DamagedImage: as `decode_into`.
  """
  h, w = decode_into(data, canvas)
  image = Image.fromarray(canvas[:h, :w])
  canvas[:h, :w] = 0
  out_u8[:] = image.resize((out_u8.shape[1], out_u8.shape[0]), Image.Resampling.BICUBIC)
