"""Reads and decodes the images of a data set, all or a sample, and collects the findings in arrays."""

import dataclasses
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from input_pipeline.decode import DamagedImage, decode_image
from input_pipeline.doctor.inspect_image import CANVAS_HW, TRAITS, NotAPhoto, inspect_image
from input_pipeline.source import ImageSource

_PIECE = 64
# The speed of one thread is measured over at most this time and number of images.
_TIMED_S, _TIMED_IMAGES = 3.0, 2000


@dataclasses.dataclass
class Findings:
  """The findings in n examined images of a source; rows of unreadable images are zero.

  Attributes:
    positions: (n,) int64, ascending positions of the examined images.
    hw: (n, 2) int32, upright size in pixels.
    digests: (n, 2) uint64, digests of the bytes.
    outlines: (n,) uint64, dHash.
    thumbnails: (n, 64) uint8, gray levels.
    traits: (n,) uint16, bit k is set for the k-th of `TRAITS`.
    unreadable: row -> reason.
    not_photos: row -> name of the format, for unreadable files of other formats.
    timed_images: number of images that one thread read and decoded in random order to measure its speed.
    timed_s: time for these images, seconds.
  """

  positions: np.ndarray
  hw: np.ndarray
  digests: np.ndarray
  outlines: np.ndarray
  thumbnails: np.ndarray
  traits: np.ndarray
  unreadable: dict[int, str] = dataclasses.field(default_factory=dict)
  not_photos: dict[int, str] = dataclasses.field(default_factory=dict)
  timed_images: int = 0
  timed_s: float = 0.0

  def __len__(self) -> int:
    return len(self.positions)

  @property
  def readable(self) -> np.ndarray:
    """Ascending rows of the decoded images."""
    return np.flatnonzero(self.hw[:, 0])

  def rows_with(self, trait: str) -> np.ndarray:
    """Returns the ascending rows of the images with a trait of `TRAITS`."""
    return np.flatnonzero(self.traits >> list(TRAITS).index(trait) & 1)


def examine_images(source: ImageSource, *, limit: int | None, seed: int, threads: int, progress: bool) -> Findings:
  """Reads and decodes images as training does.

  Args:
    source: the data set.
    limit: maximum number to examine, as a random sample; None for all.
    seed: seed of the sample.
    threads: number of images decoded at once.
    progress: show a progress bar on a terminal.

  Returns:
    The findings. A faulty image never raises.
  """
  count = len(source)
  rng = random.Random(seed)  # the same sample with any version of numpy
  chosen = range(count) if limit is None or limit >= count else sorted(rng.sample(range(count), limit))
  findings = _nothing_found(np.fromiter(chosen, np.int64, len(chosen)))
  _time_one_thread(source, findings, rng)
  lock = threading.Lock()
  pieces = [range(start, min(start + _PIECE, len(findings))) for start in range(0, len(findings), _PIECE)]
  bar = tqdm(total=len(findings), unit=" images", desc="examining", disable=None if progress else True)
  pool = ThreadPoolExecutor(threads)
  try:
    for done in pool.map(lambda rows: _examine_piece(source, findings, rows, lock), pieces):
      bar.update(done)
  finally:
    pool.shutdown(cancel_futures=True)  # do not finish all images after an interrupt
    bar.close()
  return findings


def _nothing_found(positions: np.ndarray) -> Findings:
  n = len(positions)
  return Findings(
    positions,
    np.zeros((n, 2), np.int32),
    np.zeros((n, 2), np.uint64),
    np.zeros(n, np.uint64),
    np.zeros((n, 64), np.uint8),
    np.zeros(n, np.uint16),
  )


def _examine_piece(source: ImageSource, findings: Findings, rows: range, lock: threading.Lock) -> int:
  bits = {trait: 1 << k for k, trait in enumerate(TRAITS)}
  for row in rows:
    position = int(findings.positions[row])
    try:
      image = inspect_image(source.read(position), source.name(position))
    except Exception as error:  # OSError and DamagedImage are expected; others are reported as well
      with lock:
        findings.unreadable[row] = _reason(error)
        if isinstance(error, NotAPhoto):
          findings.not_photos[row] = error.format
      continue
    findings.hw[row], findings.digests[row] = image.hw, image.digest
    findings.outlines[row], findings.thumbnails[row] = image.outline, image.thumbnail
    findings.traits[row] = sum(bits[trait] for trait in image.traits)
  return len(rows)


def _reason(error: Exception) -> str:
  if isinstance(error, DamagedImage):
    return str(error)
  if isinstance(error, OSError):
    return f"cannot be read: {error.strerror or error}"
  return f"damaged image: {type(error).__name__}: {error}"


def _time_one_thread(source: ImageSource, findings: Findings, rng: random.Random) -> None:
  """Measures reading and decoding in random order, as in training, before files are in the system's cache."""
  order = rng.sample(range(len(findings)), min(len(findings), _TIMED_IMAGES))
  start = time.perf_counter()
  for row in order:
    try:
      decode_image(source.read(int(findings.positions[row])), CANVAS_HW)
      findings.timed_images += 1
    except Exception:  # reported later, when the image is examined
      pass
    findings.timed_s = time.perf_counter() - start
    if findings.timed_s > _TIMED_S:
      break
