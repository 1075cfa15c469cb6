"""Decodes the images of a batch, and replaces damaged ones."""

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from input_pipeline.damage import allowed_damage
from input_pipeline.decode import DamagedImage, decode_into, upright_hw
from input_pipeline.fields.base import AnnotatedImage, Field
from input_pipeline.pairs import Pairs
from input_pipeline.settings import DataConfig
from input_pipeline.source import ImageSource

# Pieces of a batch per thread: enough that threads end together, few enough that scheduling costs nothing.
_PIECES_PER_THREAD = 4


class BatchDecoder:
  """Reads and decodes the rows of a batch directly into its arrays, several rows at a time.

  The unit is a whole batch, and threads share the rows of one. So memory is bounded by the batches in flight, not by
  the number of threads. The decoder is pickled into worker processes, so it keeps no threads between batches.

  A damaged image is replaced by the next readable one of its data set (index + 1, + 2, ... around the end): a pure
  function of the data, so the replacement is the same on every machine. `index` in the batch is the image that was
  used. A pair is replaced as a whole.

  Args:
    source: the images.
    scene_source: the scenes; None: scenes are other images of `source`.
    settings: the sizes of the canvases, the number of threads, and `max_damaged_fraction`, which bounds the search for
      a replacement: past this share of damaged images the run ends anyway.
    fields: the readers of annotations of `source`.
    pairs: the partners of the images of `source`; None: there are none.
    has_scenes: whether a batch holds scenes.
  """

  def __init__(
    self,
    source: ImageSource,
    scene_source: ImageSource | None,
    settings: DataConfig,
    fields: Mapping[str, Field],
    pairs: Pairs | None,
    has_scenes: bool,
  ):
    self._source, self._scene_source = source, scene_source
    self._canvas_hw = tuple(settings.canvas_hw)
    self._scene_canvas_hw = tuple(settings.scene_canvas_hw) if has_scenes else None
    self._threads = settings.threads
    self._max_damaged_fraction = settings.max_damaged_fraction
    self._fields, self._pairs = list(fields.values()), pairs

  def __call__(self, positions: dict[str, np.ndarray]) -> dict:
    """Decodes one batch.

    Args:
      positions: `image` and, with scenes, `scene`, each (n,) indices; with pairs, `draw` (n,), see `Pairs.partner`.

    Returns:
      The batch of `TrainData.batches`, plus `damage`: a list of (role, index, reason), one for each damaged image met,
      and `unknown`: a list of (index, reason), one for each annotation that a field could not use. A row without any
      readable image is black; the damage then exceeds the allowed share.
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

    def decode_scene(i: int) -> int | None:
      data = self._decode(scene_source.read, i, batch, row, "scene", "scene")
      return i if data is None else None

    self._first_readable(scene_source, int(positions["scene"][row]), avoid, decode_scene)

  def _decode_image(self, batch: dict, row: int, draw: int, i: int) -> int | None:
    """Decodes image `i`, its partner and its fields into a row. Returns None, or the damaged image of the two."""
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
    """Fills the fields of a row; what cannot be read stays unknown. Args: data: the encoded image."""
    try:
      facts, files = self._source.annotations(i)
    except OSError as error:
      batch["damage"].append(("image", i, f"its annotations cannot be read: {error.strerror or error}"))
      return
    image = AnnotatedImage(i, facts, files, upright_hw(data), tuple(batch["image_hw"][row].tolist()))
    for field in self._fields:
      reason = field.read(image, {name: batch[name][row, ...] for name in field.arrays(self._canvas_hw)})
      if reason:
        batch["unknown"].append((i, reason))

  def _decode(self, read: Callable[[int], bytes], i: int, batch: dict, row: int, name: str, role: str) -> bytes | None:
    """Decodes image `i` into a row of canvas `name` and returns its bytes; None, and a note in `damage`, if damaged."""
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
    """Returns the first of images `start`, `start + 1`, ... around the end that can be decoded.

    Args:
      source: the images.
      start: the first index to try.
      avoid: an index to use only if no other can be read.
      decode: decodes an image; returns the index of the damaged image, or None if all went well.

    Returns:
      Its index; None: all images are damaged, or more than `max_damaged_fraction` allows.
    """
    most = allowed_damage(len(source), self._max_damaged_fraction) + 1
    damaged = set()
    for i in (i % len(source) for i in range(start, start + len(source)) if i % len(source) != avoid):
      culprit = decode(i)
      if culprit is None:
        return i
      damaged.add(culprit)
      if len(damaged) > most:
        break
    return avoid if avoid is not None and decode(avoid) is None else None
