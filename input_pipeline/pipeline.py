"""The training data: which images make up update `step`, read, decoded and batched by Grain.

The order is a pure function of (seed, step). Grain shuffles and batches positions; only then does a host take its
share, so that hosts, threads and worker processes change nothing but the speed:

    range -> seed -> shuffle -> repeat -> + scene, draw -> batch -> [host::hosts][start_step:] -> read and decode

orders.py has the orders of the images.
"""

import pathlib
from collections.abc import Collection, Iterator, Mapping

import grain
import numpy as np
from absl import flags

from input_pipeline.batch_decoder import BatchDecoder
from input_pipeline.damage import DamageReport
from input_pipeline.fields.report import FieldReport
from input_pipeline.fields.table import FIELDS, open_fields
from input_pipeline.identities import number_identities
from input_pipeline.names import shown
from input_pipeline.orders import balanced, shuffled
from input_pipeline.pairs import PairRules, Pairs, open_pairs
from input_pipeline.scenes import open_scenes
from input_pipeline.source import ImageSource, count_left_out
from input_pipeline.sources.table import open_mixture, open_source, whole_photos

# Decoded batches that may wait, in this process or in each worker. One of the published size is 0.7 GB: never many.
_READY_BATCHES, _READY_BATCHES_PER_WORKER = 2, 1

# Keep the draws of scenes and of partners apart from the order of the images.
_SCENE_SEED_OFFSET, _PARTNER_SEED_OFFSET = 0x5CE7E, 0x9A127

# Names that every batch can hold; what else it does is read by `FIELDS`.
_PIXELS = ("image", "image_hw", "index", "scene", "scene_hw", "partner", "partner_hw", "pair_type")


class TrainData:
  """Endless batches of one data set for one run; see `build_train_data`.

  Attributes:
    identity: JSON-able facts that make the data what it is, for the fingerprint of a run.
    damage: the damaged images met so far.
    unknown: what the images met so far hold and batches say is unknown, with the reasons.
    classes: field -> what its labels stand for, of those that are classes.
  """

  def __init__(
    self,
    source: ImageSource,
    scene_source: ImageSource | None,
    *,
    canvas_hw: tuple[int, int],
    scene_canvas_hw: tuple[int, int] | None,
    batch_size: int,
    seed: int,
    workers: int,
    threads: int,
    max_damaged_fraction: float,
    fields: Collection[str] = (),
    pairs: Pairs | None = None,
    pictures_per_identity: int = 0,
  ):
    self._source, self._scene_source = source, scene_source
    self._batch_size, self._seed, self._workers, self._threads = batch_size, seed, workers, threads
    self._canvas_hw, self._scene_canvas_hw = canvas_hw, scene_canvas_hw
    scenes = scene_source.identity if scene_source else "other images" if scene_canvas_hw else "none"
    self.identity = dict(source.identity) | {"scenes": scenes} | ({"pairs": pairs.identity} if pairs else {})
    self.damage = DamageReport({"image": source, "scene": scene_source or source}, max_damaged_fraction)
    self.unknown = FieldReport(source)
    self._fields, self._pairs = open_fields(fields, source), pairs
    self._of_person = None
    if pictures_per_identity:
      read = self._fields.get("identity")  # which has read the annotations of all images already
      self._of_person = (read.numbers if read else number_identities(source)[0], pictures_per_identity)
      self.identity["pictures_per_identity"] = pictures_per_identity
    self.classes = {name: field.classes for name, field in self._fields.items() if field.classes}
    self._decoder = BatchDecoder(
      source, scene_source, canvas_hw, scene_canvas_hw, threads, max_damaged_fraction, self._fields, pairs
    )

  def __len__(self) -> int:
    """Images per epoch."""
    return len(self._source)

  def summary(self) -> list[str]:
    """What is read and how, in lines for a person."""
    identity = self._source.identity
    scenes = self._scene_source.identity if self._scene_source else None
    left_out = [item for source in (self._source, self._scene_source) if source for item in source.left_out]
    return [
      f"images   {len(self):,} from {identity['source']} '{shown(identity['name'])}' (digest {identity['digest']})",
      f"scenes   {scenes['length']:,} from {scenes['source']} '{shown(scenes['name'])}' (digest {scenes['digest']})"
      if scenes
      else f"scenes   {'other images of the same data set' if self._scene_canvas_hw else 'none'}",
      f"canvas   {self._canvas_hw[0]}x{self._canvas_hw[1]}"
      + (f", scenes {self._scene_canvas_hw[0]}x{self._scene_canvas_hw[1]}" if self._scene_canvas_hw else ""),
      *[f"pairs    {line}" for line in (self._pairs.summary if self._pairs else ())],
      *[f"fields   {line}" for field in self._fields.values() for line in field.summary],
      f"decoding {self._workers or 'no'} extra processes, {self._threads} threads each",
    ] + [f"left out {count_left_out(left_out):,}, the first: {shown(name)}: {reason}" for name, reason in left_out[:1]]

  def batches(self, start_step: int = 0, host: int = 0, hosts: int = 1) -> Iterator[dict[str, np.ndarray]]:
    """Batches of updates `start_step`, `start_step + 1`, ... without end.

    Args:
      start_step: the first update wanted; nothing before it is read.
      host: this process among `hosts`; it gets rows [host * n, (host + 1) * n) of each global batch.
      hosts: the number of processes that share a global batch.

    Returns:
      An iterator of dicts with n = batch_size / hosts rows: `image` (n, Hc, Wc, 3) uint8, `image_hw` (n, 2) int32,
      `index` (n,) uint32, the image in fact used; where scenes are wanted, `scene` (n, Sh, Sw, 3) uint8 and `scene_hw`
      (n, 2) int32; where partners are, `partner` (n, Hc, Wc, 3) uint8, `partner_hw` (n, 2) int32 and `pair_type` (n,)
      int32, a place in `pairs.KINDS`; and the arrays of every wanted field, see fields/table.py. Its `close()` stops
      threads and processes.

    Raises:
      ValueError: batch_size is no multiple of `hosts`; while iterating: too many damaged images.
    """
    if self._batch_size % hosts:
      raise ValueError(f"batch_size={self._batch_size} cannot be shared by {hosts} hosts; expected a multiple")
    positions = self._positions().batch(self._batch_size // hosts)[host::hosts][start_step:]
    ready = _READY_BATCHES_PER_WORKER if self._workers else _READY_BATCHES
    # One reading thread: the threads that decode share the rows of one batch (see BatchDecoder).
    batches = positions.map(self._decoder).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=ready))
    if self._workers:
      if not flags.FLAGS.is_parsed():  # Grain hands absl's flags to its workers; a plain script never parses them
        flags.FLAGS.mark_as_parsed()
      batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=1))
    return self._checked(iter(batches))

  def _positions(self) -> grain.MapDataset:
    """Position -> {image, scene, draw}: a sample's indices and what chooses its partner; those that are wanted."""
    images = self._images_and_scenes()
    return images.random_map(_with_draw, seed=self._seed + _PARTNER_SEED_OFFSET) if self._pairs else images

  def _images_and_scenes(self) -> grain.MapDataset:
    """Position -> {image, scene}, without end; no scene where none is wanted."""
    if self._of_person:
      images = balanced(*self._of_person, self._seed)
    else:
      images = shuffled(self._source, self._seed)
    if self._scene_canvas_hw is None:
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
  """Adds to an image a scene drawn from all other images of the set; the image itself only if there is no other."""

  def __init__(self, length: int):
    self._length = length

  def __call__(self, index: int, rng: np.random.Generator) -> dict[str, int]:
    others = self._length - 1
    return {"image": index, "scene": (index + 1 + int(rng.integers(others))) % self._length if others else index}


def _image_alone(index: int) -> dict[str, int]:
  return {"image": index}


def _named(pair: tuple[int, int]) -> dict[str, int]:
  return {"image": pair[0], "scene": pair[1]}


def _with_draw(sample: dict[str, int], rng: np.random.Generator) -> dict[str, int]:
  return sample | {"draw": int(rng.integers(2**62))}


def build_train_data(
  *,
  source: str,
  path: str | None,
  scene_path: str | None,
  cache_dir: str | pathlib.Path,
  canvas_hw: tuple[int, int],
  scene_canvas_hw: tuple[int, int] | None,
  batch_size: int,
  seed: int,
  workers: int,
  threads: int,
  max_damaged_fraction: float,
  people_count: int,
  split: str | None = None,
  subset: str | None = None,
  mixture: Mapping[str, Mapping] | None = None,
  people_composition: str = "crops",
  whole: bool = False,
  fields: Collection[str] = (),
  pairs: Mapping | None = None,
  pictures_per_identity: int = 0,
) -> TrainData:
  """Opens a data set for pre-training.

  Args:
    source: kind of data set, a key of `table.SOURCES`, or "mixture" (`data.source`).
    path: where it lies (`data.path`); None where the source has a default.
    scene_path: scenes (`data.scene_path`), see `open_scenes`; None: other images of the same data set.
    cache_dir: the run's folder, for the index of a folder.
    canvas_hw: size of the canvas that holds an image, pixels.
    scene_canvas_hw: size of the canvas that holds a scene, pixels; None: no scenes, whatever `scene_path` says.
    batch_size: images per update over all hosts.
    seed: fixes the order; any integer of 0 or more.
    workers: extra decoding processes; 0: threads of this process.
    threads: decoding threads, of each process.
    max_damaged_fraction: the share of damaged images past which a run refuses, 0 to 1.
    people_count: size of the default set of built-in people.
    split: which part of the data set (`data.split`).
    subset: a file of names (`data.subset`).
    mixture: the parts of a mixture (`data.mixture`), see `open_mixture`.
    people_composition: what the default set of built-in people shows, see `open_people`.
    whole: photos with everybody in them, not persons cut out of photos (`data.whole_photos`); instead of
      `people_composition`, scenes; not in a mixture.
    fields: the names of all that a batch must hold, the method's `batch_spec`; beside images and scenes, `partner` and
      the keys of `FIELDS` cost reading and are left away where they are not named.
    pairs: what makes a pair, where there are partners (`data.pairs`), see `PairRules`; None: the usual rules.
    pictures_per_identity: images of one person that a batch holds side by side (`data.pictures_per_identity`), see
      `orders.balanced`; 0: whatever comes.

  Returns:
    The data; with partners, the images that have one.

  Raises:
    ValueError: one line that names the setting to change.
  """
  _check("batch_size", batch_size, batch_size >= 1, "1 or more")
  _check("seed", seed, seed >= 0, "0 or more")
  _check("data.workers", workers, workers >= 0, "0 (no extra processes) or more")
  _check("data.threads", threads, threads >= 1, "1 or more")
  _check("data.max_damaged_fraction", max_damaged_fraction, 0 <= max_damaged_fraction <= 1, "a share from 0 to 1")
  _check("data.canvas_hw", canvas_hw, len(canvas_hw) == 2 and min(canvas_hw) >= 1, "(height, width) in pixels")
  if scene_canvas_hw is not None:
    _check(
      "data.scene_canvas_hw",
      scene_canvas_hw,
      len(scene_canvas_hw) == 2 and min(scene_canvas_hw) >= 1,
      "(height, width) in pixels",
    )
    scene_canvas_hw = tuple(scene_canvas_hw)
  nobodys = [name for name in fields if name not in _PIXELS and name.removeprefix("has_") not in FIELDS]
  if nobodys:
    raise ValueError(f"no batch can hold {', '.join(nobodys)}; expected {', '.join([*_PIXELS, *FIELDS])}")
  shown = whole_photos(source) if whole else {"people_composition": people_composition}
  images = (
    open_mixture(mixture, cache_dir)
    if source == "mixture"
    else open_source(source, path, split=split, subset=subset, cache_dir=cache_dir, people_count=people_count, **shown)
  )
  partners = None
  if "partner" in fields:
    images, partners = open_pairs(images, PairRules(**(pairs or {})), cache_dir)
  wanted = scene_path is not None and scene_canvas_hw is not None
  scenes = open_scenes(scene_path, scene_canvas_hw, cache_dir) if wanted else None
  return TrainData(
    images,
    scenes,
    canvas_hw=tuple(canvas_hw),
    scene_canvas_hw=scene_canvas_hw,
    batch_size=batch_size,
    seed=seed,
    workers=workers,
    threads=threads,
    max_damaged_fraction=max_damaged_fraction,
    fields=fields,
    pairs=partners,
    pictures_per_identity=pictures_per_identity,
  )


def _check(setting: str, value, ok: bool, expected: str) -> None:
  if not ok:
    raise ValueError(f"{setting}={value!r} is out of range; expected {expected}")
