"""The training data: the images of update `step`, read, decoded and batched by Grain.

The order is a pure function of (seed, step). Grain shuffles and batches positions; only then does a host take its
share, so that hosts, threads and worker processes change nothing but the speed:

    range -> seed -> shuffle -> repeat -> + scene, draw -> batch -> [host::hosts][start_step:] -> read and decode

orders.py has the orders of the images.
"""

import os
from collections.abc import Collection, Iterator

import grain
import numpy as np
from absl import flags

from input_pipeline.batch_decoder import BatchDecoder
from input_pipeline.checks import require
from input_pipeline.damage import DamageReport
from input_pipeline.fields.report import FieldReport
from input_pipeline.fields.table import FIELDS, open_fields
from input_pipeline.identities import number_identities
from input_pipeline.names import shown
from input_pipeline.orders import balanced, shuffled
from input_pipeline.pairs import Pairs, open_pairs
from input_pipeline.scenes import open_scenes
from input_pipeline.settings import DataConfig
from input_pipeline.source import ImageSource, count_left_out
from input_pipeline.sources.table import open_mixture, open_source, whole_photo_options

# Decoded batches that may wait, in this process or in each worker. One of the published size is 0.7 GB: never many.
_READY_BATCHES, _READY_BATCHES_PER_WORKER = 2, 1

# Keep the draws of scenes and of partners apart from the order of the images.
_SCENE_SEED_OFFSET, _PARTNER_SEED_OFFSET = 0x5CE7E, 0x9A127

# Entries of a batch that are read with the images; all others are in `FIELDS`.
_PIXELS = ("image", "image_hw", "index", "scene", "scene_hw", "partner", "partner_hw", "pair_type")


class TrainData:
  """Endless batches of one data set for one run; made by `build_train_data`.

  Args:
    source: the images.
    scenes: the scenes of their own, see `open_scenes`; None: other images of `source`.
    settings: how images are decoded and ordered; where they lie is not read here.
    fields: the entries wanted in a batch; there are scenes only where "scene" is among them.
    batch_size: images per update over all hosts.
    seed: fixes the order.
    pairs: the partners of the images; None: a batch has none.

  Attributes:
    identity: JSON-able facts that make the data what it is, for the fingerprint of a run.
    damage: the damaged images met so far.
    unknown: annotations met so far that could not be used, with the reasons.
    classes: field -> the names of its classes, for fields that have classes.
  """

  def __init__(
    self,
    source: ImageSource,
    scenes: ImageSource | None,
    settings: DataConfig,
    *,
    fields: Collection[str],
    batch_size: int,
    seed: int,
    pairs: Pairs | None = None,
  ):
    self._source, self._scene_source, self._settings, self._pairs = source, scenes, settings, pairs
    self._batch_size, self._seed = batch_size, seed
    self._has_scenes = "scene" in fields
    identity_of_scenes = scenes.identity if scenes else "other images" if self._has_scenes else "none"
    self.identity = (
      dict(source.identity) | {"scenes": identity_of_scenes} | ({"pairs": pairs.identity} if pairs else {})
    )
    self.damage = DamageReport({"image": source, "scene": scenes or source}, settings.max_damaged_fraction)
    self.unknown = FieldReport(source)
    self._fields = open_fields(fields, source)
    self._balance = None
    if settings.pictures_per_identity:
      identity = self._fields.get("identity")  # this field has read the annotations of all images already
      numbers = identity.numbers if identity else number_identities(source)[0]
      self._balance = (numbers, settings.pictures_per_identity)
      self.identity["pictures_per_identity"] = settings.pictures_per_identity
    self.classes = {name: field.classes for name, field in self._fields.items() if field.classes}
    self._decoder = BatchDecoder(source, scenes, settings, self._fields, pairs, self._has_scenes)

  def __len__(self) -> int:
    """Images per epoch."""
    return len(self._source)

  def summary(self) -> list[str]:
    """Returns lines for people: the images, the scenes and how they are read."""
    identity, settings = self._source.identity, self._settings
    scenes = self._scene_source.identity if self._scene_source else None
    left_out = [item for source in (self._source, self._scene_source) if source for item in source.left_out]
    return [
      f"images   {len(self):,} from {identity['source']} '{shown(identity['name'])}' (digest {identity['digest']})",
      f"scenes   {scenes['length']:,} from {scenes['source']} '{shown(scenes['name'])}' (digest {scenes['digest']})"
      if scenes
      else f"scenes   {'other images of the same data set' if self._has_scenes else 'none'}",
      f"canvas   {_size(settings.canvas_hw)}"
      + (f", scenes {_size(settings.scene_canvas_hw)}" if self._has_scenes else ""),
      *[f"pairs    {line}" for line in (self._pairs.summary if self._pairs else ())],
      *[f"fields   {line}" for field in self._fields.values() for line in field.summary],
      f"decoding {settings.workers or 'no'} extra processes, {settings.threads} threads each",
    ] + [f"left out {count_left_out(left_out):,}, the first: {shown(name)}: {reason}" for name, reason in left_out[:1]]

  def batches(self, start_step: int = 0, host: int = 0, hosts: int = 1) -> Iterator[dict[str, np.ndarray]]:
    """Returns the batches of updates `start_step`, `start_step + 1`, ... without end.

    Args:
      start_step: the first update; nothing before it is read.
      host: the number of this process among `hosts`; it gets rows [host * n, (host + 1) * n) of each global batch.
      hosts: the number of processes that share a global batch.

    Returns:
      An iterator of dicts with n = batch_size / hosts rows: `image` (n, Hc, Wc, 3) uint8, `image_hw` (n, 2) int32,
      `index` (n,) uint32, the image that was used; with scenes, `scene` (n, Sh, Sw, 3) uint8 and `scene_hw` (n, 2)
      int32; with partners, `partner` (n, Hc, Wc, 3) uint8, `partner_hw` (n, 2) int32 and `pair_type` (n,) int32, a
      place in `PAIR_KINDS`; and the arrays of each field, see fields/table.py. Its `close()` stops threads and
      processes.

    Raises:
      ValueError: batch_size is no multiple of `hosts`; while iterating: too many damaged images.
    """
    if self._batch_size % hosts:
      raise ValueError(f"batch_size={self._batch_size} cannot be shared by {hosts} hosts; expected a multiple")
    positions = self._positions().batch(self._batch_size // hosts)[host::hosts][start_step:]
    workers = self._settings.workers
    ready = _READY_BATCHES_PER_WORKER if workers else _READY_BATCHES
    # One reading thread: the threads that decode share the rows of one batch (see BatchDecoder).
    batches = positions.map(self._decoder).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=ready))
    if workers:
      if not flags.FLAGS.is_parsed():  # Grain hands absl's flags to its workers; a plain script never parses them
        flags.FLAGS.mark_as_parsed()
      batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1))
    return self._checked(iter(batches))

  def _positions(self) -> grain.MapDataset:
    """Returns position -> {image, scene, draw}: the indices of a sample and, with pairs, the draw of its partner."""
    images = self._images_and_scenes()
    return images.random_map(_with_draw, seed=self._seed + _PARTNER_SEED_OFFSET) if self._pairs else images

  def _images_and_scenes(self) -> grain.MapDataset:
    """Returns position -> {image, scene}, without end; without scenes, {image}."""
    images = balanced(*self._balance, self._seed) if self._balance else shuffled(self._source, self._seed)
    if not self._has_scenes:
      return images.map(_image_alone)
    if self._scene_source is None:
      return images.random_map(_OtherImage(len(self._source)), seed=self._seed + _SCENE_SEED_OFFSET)
    scenes = shuffled(self._scene_source, self._seed + _SCENE_SEED_OFFSET)
    return grain.experimental.ZipMapDataset([images, scenes]).map(_named)

  def _checked(self, batches) -> Iterator[dict[str, np.ndarray]]:
    try:
      for batch in batches:
        for role, index, reason in batch.pop("damage"):
          self.damage.record(role, index, reason)
        self.damage.check()
        for index, reason in batch.pop("unknown"):
          self.unknown.record(index, reason)
        yield batch
    finally:
      batches.close()


class _OtherImage:
  """Adds to an image a scene drawn from all other images of the set; the image itself if it is the only one."""

  def __init__(self, length: int):
    self._length = length

  def __call__(self, index: int, rng: np.random.Generator) -> dict[str, int]:
    others = self._length - 1
    return {"image": index, "scene": (index + 1 + int(rng.integers(others))) % self._length if others else index}


def _size(hw: tuple[int, int]) -> str:
  return f"{hw[0]}x{hw[1]}"


def _image_alone(index: int) -> dict[str, int]:
  return {"image": index}


def _named(pair: tuple[int, int]) -> dict[str, int]:
  return {"image": pair[0], "scene": pair[1]}


def _with_draw(sample: dict[str, int], rng: np.random.Generator) -> dict[str, int]:
  return sample | {"draw": int(rng.integers(2**62))}


def build_train_data(
  settings: DataConfig, *, fields: Collection[str], batch_size: int, seed: int, cache_dir: str | os.PathLike
) -> TrainData:
  """Opens a data set for pre-training.

  >>> import pathlib, tempfile
  >>> from PIL import Image
  >>> folder = tempfile.TemporaryDirectory()
  >>> root = pathlib.Path(folder.name)
  >>> (root / "photos").mkdir()
  >>> for i in range(6):
  ...   Image.new("RGB", (64, 128), (40 * i, 0, 0)).save(root / "photos" / f"{i}.png")
  >>> settings = DataConfig(source="folder", path=str(root / "photos"), canvas_hw=(128, 64))
  >>> data = build_train_data(settings, fields=("image", "index"), batch_size=4, seed=0, cache_dir=root / "run")
  >>> batches = data.batches(start_step=10)
  >>> next(batches)["image"].shape
  (4, 128, 64, 3)
  >>> batches.close()
  >>> folder.cleanup()

  Args:
    settings: which data set and how it is read, `config.data`.
    fields: the names of the entries of a batch, a method's `batch_spec`. Scenes are opened only for "scene", partners
      only for "partner", and annotations are read only for the keys of `FIELDS` named here.
    batch_size: images per update over all hosts.
    seed: fixes the order; 0 or more.
    cache_dir: a folder for the indexes of the data, that of the run.

  Returns:
    The data; with partners, only the images that have one.

  Raises:
    ValueError: one line that names the setting to change.
  """
  require(batch_size >= 1, f"batch_size={batch_size!r} is out of range; expected 1 or more")
  require(seed >= 0, f"seed={seed!r} is out of range; expected 0 or more")
  unknown_fields = [name for name in fields if name not in _PIXELS and name.removeprefix("has_") not in FIELDS]
  if unknown_fields:
    raise ValueError(f"no batch can hold {', '.join(unknown_fields)}; expected {', '.join([*_PIXELS, *FIELDS])}")
  images, pairs = _open_images(settings, cache_dir), None
  if "partner" in fields:
    images, pairs = open_pairs(images, settings.pairs, cache_dir)
  scenes = None
  if "scene" in fields and settings.scene_path is not None:
    scenes = open_scenes(settings.scene_path, settings.scene_canvas_hw, cache_dir)
  return TrainData(images, scenes, settings, fields=fields, batch_size=batch_size, seed=seed, pairs=pairs)


def _open_images(settings: DataConfig, cache_dir: str | os.PathLike) -> ImageSource:
  if settings.source == "mixture":
    return open_mixture(settings.mixture, cache_dir)
  if settings.whole_photos:
    options = whole_photo_options(settings.source)
  else:
    options = {"people_composition": settings.people_composition}
  return open_source(
    settings.source,
    settings.path,
    split=settings.split,
    subset=settings.subset,
    hold_out=settings.hold_out,
    cache_dir=cache_dir,
    people_count=settings.people_count,
    **options,
  )
