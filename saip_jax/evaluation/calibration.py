"""Images that exports of reduced precision are calibrated and compared on."""

import contextlib
import dataclasses
from typing import Any

import numpy as np

from input_pipeline.sources.combined import SubsetSource
from saip_jax.evaluation.resize import resized_batches
from saip_jax.evaluation.splits import Data

MOST_IMAGES = 160
"""128 to calibrate on, and 32 to compare on."""
FEWEST_IMAGES = 10
DEFAULT = "people"
"""The data set if none is named: built-in people."""
_DEFAULT_PEOPLE = 256  # of all splits; 7 of 10 are in the first
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class CalibrationImages:
  """Images of a data set, spread over it, resized as for any encoder; the argument `images` of `export_weights`.

  Args:
    text: SOURCE:PATH, as for `--data`, or "people".
    cache_dir: folder for the caches of sources.

  Raises:
    ValueError: another form or an unknown source.
  """

  text: str
  cache_dir: str

  def __post_init__(self):
    self._data()

  def __call__(self, image_hw: tuple[int, int]) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns (n, H, W, 3) uint8 RGB images and the identity of the data set.

    Raises:
      ValueError: no such data set, or fewer than `FEWEST_IMAGES` that can be read.
    """
    source = self._data().open(None).source
    chosen = np.unique(np.linspace(0, len(source) - 1, min(MOST_IMAGES, len(source))).round().astype(np.int64))
    part, found = SubsetSource(source, chosen, f"{len(chosen)} of {len(source)}"), []
    with contextlib.closing(resized_batches(part, image_hw, _BATCH)) as batches:
      for batch in batches:
        found += [image for image, reason in zip(batch.images_u8, batch.reasons) if reason is None]
    if len(found) < FEWEST_IMAGES:
      raise ValueError(
        f"--calibration={self.text} has {len(found)} images that can be read: expected at least {FEWEST_IMAGES}"
      )
    return np.stack(found), part.identity | {"length": len(found)}

  def _data(self) -> Data:
    return Data.parse(self.text, "--calibration", cache_dir=self.cache_dir, people_count=_DEFAULT_PEOPLE)
