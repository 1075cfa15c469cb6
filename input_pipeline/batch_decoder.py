"""Positions of a batch to its decoded pixels, with damaged images replaced."""

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from input_pipeline.damage import allowed_damage
from input_pipeline.decode import DamagedImage, decode_into, upright_hw
from input_pipeline.fields.base import Field, Sample
from input_pipeline.pairs import Pairs
from input_pipeline.source import ImageSource

# Pieces of a batch per thread: enough that threads end together, few enough that handing them out costs nothing.
_PIECES_PER_THREAD = 4


class BatchDecoder:
  """Reads and decodes the rows of a batch straight into its arrays, several rows at a time.

  Whole batches are the unit, and threads share the rows of one, so memory is bounded by the batches in flight, not by
  the number of threads. It travels to worker processes, so it holds no threads of its own while pickled.

  A damaged image is replaced by the next readable one of its data set (index + 1, + 2, ... around the end): a pure
  function of the data, so that the replacement is the same on every machine. The batch says which was used. Where
  images come in pairs, one that cannot be read takes the other with it.

  Args:
    source: the images.
    scene_source: the scenes; None: scenes are other images of `source`.
    canvas_hw: canvas size of images.
    scene_canvas_hw: canvas size of scenes; None: there are none.
    threads: rows decoded at once.
    max_damaged_fraction: how far to look for a replacement: past this share of damaged images the run ends anyway.
    fields: what is read of the images of `source` beside their pixels.
    pairs: the partners of the images of `source`; None: they are not wanted.
  """

  def __init__(
    self,
    source: ImageSource,
    scene_source: ImageSource | None,
    canvas_hw: tuple[int, int],
    scene_canvas_hw: tuple[int, int] | None,
    threads: int,
    max_damaged_fraction: float,
    fields: Mapping[str, Field],
    pairs: Pairs | None,
  ):
    self._source, self._scene_source = source, scene_source
    self._canvas_hw, self._scene_canvas_hw = canvas_hw, scene_canvas_hw
    self._threads = threads
    self._max_damaged_fraction = max_damaged_fraction
    self._fields, self._pairs = list(fields.values()), pairs

  def __call__(self, positions: dict[str, np.ndarray]) -> dict:
    """Decodes one batch.

    Args:
      positions: `image` and, where there are scenes, `scene`, each (n,) indices; where there are pairs, `draw` (n,),
        see `Pairs.partner`.

    Returns:
      The batch of `TrainData.batches`, plus `damage`: a list of (role, index, reason), one for each damaged image
      met, and `unknown`: a list of (index, reason), one for each thing that a field left out. A row for which nothing
      readable was found is black; its damage then exceeds the allowed share.
    """
    rows = len(positions["image"])
    batch = {
      "image": np.zeros((rows, *self._canvas_hw, 3), np.uint8),
      "image_hw": np.ones((rows, 2), np.int32),
      "index": np.zeros(rows, np.uint32),
      "damage": [],
      "unknown": [],
    }
    if self._scene_canvas_hw:
      batch["scene"] = np.zeros((rows, *self._scene_canvas_hw, 3), np.uint8)
      batch["scene_hw"] = np.ones((rows, 2), np.int32)
    if self._pairs:
      batch["partner"] = np.zeros((rows, *self._canvas_hw, 3), np.uint8)
      batch["partner_hw"] = np.ones((rows, 2), np.int32)
      batch["pair_type"] = np.zeros(rows, np.int32)
    for field in self._fields:
      batch |= {name: np.zeros((rows, *shape), dtype) for name, (shape, dtype) in field.arrays(self._canvas_hw).items()}
    decode_row = functools.partial(self._decode_row, positions, batch)
    if self._threads == 1:
      for row in range(rows):
        decode_row(row)
    else:
      pieces = np.array_split(np.arange(rows), min(rows, self._threads * _PIECES_PER_THREAD))
      with ThreadPoolExecutor(self._threads) as pool:
        list(pool.map(lambda piece: [decode_row(row) for row in piece], pieces))
    batch["damage"].sort()
    batch["unknown"].sort()
    return batch

  def _decode_row(self, positions: dict[str, np.ndarray], batch: dict, row: int) -> None:
    start = int(positions["image"][row])
    decode = functools.partial(self._decode_image, batch, row, int(positions["draw"][row]) if self._pairs else 0)
    index = self._first_readable(self._source, start, None, decode)
    batch["index"][row] = start if index is None else index
    if not self._scene_canvas_hw:
      return
    scene_source, avoid = (self._source, index) if self._scene_source is None else (self._scene_source, None)
    decode = lambda i: i if self._decode(scene_source.read, i, batch, row, "scene", "scene") is None else None
    self._first_readable(scene_source, int(positions["scene"][row]), avoid, decode)

  def _decode_image(self, batch: dict, row: int, draw: int, i: int) -> int | None:
    """Decodes image `i`, its partner and its fields into a row; or says which image is damaged, and leaves no trace."""
    data = self._decode(self._source.read, i, batch, row, "image", "image")
    if data is None:
      return i
    if self._pairs:
      partner, kind = self._pairs.partner(i, draw)
      read = self._source.read if partner != i else self._read_own_partner
      if self._decode(read, partner, batch, row, "partner", "image") is None:
        batch["image"][row], batch["image_hw"][row] = 0, 1
        return partner
      batch["pair_type"][row] = kind
    if self._fields:
      self._read_fields(batch, row, i, data)
    return None

  def _read_own_partner(self, i: int) -> bytes:
    _, files = self._source.annotations(i)
    data = next((data for name, data in files.items() if name.startswith("partner.")), None)
    if data is None:
      raise DamagedImage("its record lacks its partner")
    return data

  def _read_fields(self, batch: dict, row: int, i: int, data: bytes) -> None:
    """Fills the fields of a row; where they cannot be read they stay unknown. Args: data: the encoded image."""
    try:
      facts, files = self._source.annotations(i)
    except OSError as error:
      batch["damage"].append(("image", i, f"its annotations cannot be read: {error.strerror or error}"))
      return
    sample = Sample(i, facts, files, upright_hw(data), tuple(batch["image_hw"][row].tolist()))
    for field in self._fields:
      reason = field.read(sample, {name: batch[name][row, ...] for name in field.arrays(self._canvas_hw)})
      if reason:
        batch["unknown"].append((i, reason))

  def _decode(self, read: Callable[[int], bytes], i: int, batch: dict, row: int, name: str, role: str) -> bytes | None:
    """Decodes image `i` onto a row of canvas `name`: its bytes; None, with a note of the damage, if it cannot be."""
    try:
      data = read(i)
      batch[f"{name}_hw"][row] = decode_into(data, batch[name][row])
      return data
    except DamagedImage as error:
      batch["damage"].append((role, i, str(error)))
    except OSError as error:
      batch["damage"].append((role, i, f"cannot be read: {error.strerror or error}"))
    return None

  def _first_readable(
    self, source: ImageSource, start: int, avoid: int | None, decode: Callable[[int], int | None]
  ) -> int | None:
    """The first of images `start`, `start + 1`, ... around the end that `decode` finds nothing wrong with.

    Args:
      source: the images.
      start: where to begin.
      avoid: this one only if no other can be read.
      decode: decodes an image; says which image is damaged where it cannot.

    Returns:
      Its index; None: more images are damaged than a run bears, or all.
    """
    most = allowed_damage(len(source), self._max_damaged_fraction) + 1
    damaged = set()
    for i in (i % len(source) for i in range(start, start + len(source)) if i % len(source) != avoid):
      wrong = decode(i)
      if wrong is None:
        return i
      damaged.add(wrong)
      if len(damaged) > most:
        break
    return avoid if avoid is not None and decode(avoid) is None else None
