"""Positions of a batch to its decoded pixels, with damaged images replaced."""

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from input_pipeline.damage import allowed_damage
from input_pipeline.decode import DamagedImage, decode_into, upright_hw
from input_pipeline.keypoints import CocoKeypoints
from input_pipeline.sources.base import ImageSource

# Pieces of a batch per thread: enough that threads end together, few enough that handing them out costs nothing.
_PIECES_PER_THREAD = 4


class BatchDecoder:
  """Reads and decodes the rows of a batch straight into its arrays, several rows at a time.

  Whole batches are the unit, and threads share the rows of one, so memory is bounded by the batches in flight, not by
  the number of threads. It travels to worker processes, so it holds no threads of its own while pickled.

  A damaged image is replaced by the next readable one of its data set (index + 1, + 2, ... around the end): a pure
  function of the data, so that the replacement is the same on every machine. The batch says which was used.

  Args:
    source: the images.
    scene_source: the scenes; None: scenes are other images of `source`.
    canvas_hw: canvas size of images.
    scene_canvas_hw: canvas size of scenes; None: there are none.
    threads: rows decoded at once.
    max_damaged_fraction: how far to look for a replacement: past this share of damaged images the run ends anyway.
    keypoints: what reads those of `source`; None: they are not wanted.
  """

  def __init__(self, source: ImageSource, scene_source: ImageSource | None, canvas_hw: tuple[int, int],
               scene_canvas_hw: tuple[int, int] | None, threads: int, max_damaged_fraction: float,
               keypoints: CocoKeypoints | None = None):
    self._source, self._scene_source = source, scene_source
    self._canvas_hw, self._scene_canvas_hw = canvas_hw, scene_canvas_hw
    self._threads = threads
    self._max_damaged_fraction = max_damaged_fraction
    self._keypoints = keypoints

  def __call__(self, positions: dict[str, np.ndarray]) -> dict:
    """Decodes one batch.

    Args:
      positions: `image` and, where there are scenes, `scene`, each (n,) indices.

    Returns:
      The batch of `TrainData.batches`, plus `damage`: a list of (role, index, reason), one for each damaged image
      met, and `keypoints_left_out`, how many each row has that cannot be, where keypoints are wanted. A row for which
      nothing readable was found is black; its damage then exceeds the allowed share.
    """
    rows = len(positions["image"])
    batch = {
        "image": np.zeros((rows, *self._canvas_hw, 3), np.uint8),
        "image_hw": np.ones((rows, 2), np.int32),
        "index": np.zeros(rows, np.uint32),
        "damage": [],
    }
    if self._scene_canvas_hw:
      batch["scene"] = np.zeros((rows, *self._scene_canvas_hw, 3), np.uint8)
      batch["scene_hw"] = np.ones((rows, 2), np.int32)
    if self._keypoints:
      batch["keypoints"] = np.zeros((rows, 17, 3), np.float32)
      batch["keypoints_left_out"] = np.zeros(rows, np.int64)
    decode_row = functools.partial(self._decode_row, positions, batch)
    if self._threads == 1:
      for row in range(rows):
        decode_row(row)
    else:
      pieces = np.array_split(np.arange(rows), min(rows, self._threads * _PIECES_PER_THREAD))
      with ThreadPoolExecutor(self._threads) as pool:
        list(pool.map(lambda piece: [decode_row(row) for row in piece], pieces))
    batch["damage"].sort()
    return batch

  def _decode_row(self, positions: dict[str, np.ndarray], batch: dict, row: int) -> None:
    damage = batch["damage"]
    index, data, batch["image_hw"][row] = self._first_readable(
        self._source, int(positions["image"][row]), None, batch["image"][row], "image", damage)
    batch["index"][row] = index
    if self._keypoints and data:
      self._read_keypoints(batch, row, data)
    if not self._scene_canvas_hw:
      return
    scene_source, avoid = (self._source, index) if self._scene_source is None else (self._scene_source, None)
    _, _, batch["scene_hw"][row] = self._first_readable(
        scene_source, int(positions["scene"][row]), avoid, batch["scene"][row], "scene", damage)

  def _read_keypoints(self, batch: dict, row: int, data: bytes) -> None:
    """Fills the keypoints of a row; where they cannot be read they stay unknown. Args: data: the encoded image."""
    index = int(batch["index"][row])
    try:
      facts, _ = self._source.annotations(index)
    except OSError as error:
      batch["damage"].append(("image", index, f"its annotations cannot be read: {error.strerror or error}"))
      return
    if facts.get("people"):
      batch["keypoints"][row], batch["keypoints_left_out"][row] = self._keypoints.read(
          index, facts, upright_hw(data), batch["image_hw"][row])

  def _first_readable(self, source: ImageSource, start: int, avoid: int | None, canvas: np.ndarray, role: str,
                      damage: list) -> tuple[int, bytes, tuple[int, int]]:
    """Decodes image `start` or the first readable one after it; `avoid` only if no other can be read.

    Returns its index, its bytes, none if nothing was readable, and the size that it has on the canvas.
    """
    tries = min(allowed_damage(len(source), self._max_damaged_fraction) + 2, len(source))
    candidates = (i % len(source) for i in range(start, start + tries) if i % len(source) != avoid)
    for i in itertools.chain(candidates, () if avoid is None else (avoid,)):
      try:
        data = source.read(i)
        return i, data, decode_into(data, canvas)
      except DamagedImage as error:
        damage.append((role, i, str(error)))
      except OSError as error:
        damage.append((role, i, f"cannot be read: {error.strerror or error}"))
    return start, b"", (1, 1)
