"""A prepared set of built-in people as an ImageSource, and the default set, which is rendered on first use."""

import os
import sys
from collections.abc import Sequence

import numpy as np

from input_pipeline import storage
from input_pipeline.body import COCO_JOINTS
from input_pipeline.people.attributes import ATTRIBUTES
from input_pipeline.people.description import PEOPLE_FORMAT, spec_of_meta
from input_pipeline.people.landmarks import LANDMARKS
from input_pipeline.people.parts import LIP_PARTS
from input_pipeline.people.picture import Picture
from input_pipeline.people.prepare import default_identities, prepare_people
from input_pipeline.people.records import IMAGE, decode_picture
from input_pipeline.people.render import RENDERER_VERSION
from input_pipeline.people.spec import SPLITS, SetSpec, group_size, split_of_picture
from input_pipeline.prepared import META, is_unfinished, open_shards, read_meta, set_digest
from input_pipeline.records import decode_record, image_of_record
from input_pipeline.source import ImageSource

_DEFAULT_HW, _DEFAULT_SEED = (256, 128), 0


def open_people(path: str | None, count: int, split: str | None = None, composition: str = "crops") -> "PeopleSource":
  """Opens one split of a prepared set, or of the default set, which is rendered into the user's cache on first use.

  Args:
    path: folder of a prepared set (`data.path`); None: the default set of `count` images of 256x128, seed 0, in
      `$SAIP_CACHE` or `~/.cache/saip_jax`.
    count: size of the default set, all its splits together (`data.people_count`).
    split: a name in `SPLITS`; None: train.
    composition: of the default set (`data.people_composition`): crops, views or clips, see `SetSpec`.

  Returns:
    The images of that split; those of other identities are left out.

  Raises:
    ValueError: the folder holds no prepared set, or the default set cannot be prepared.
  """
  if path is not None:
    return PeopleSource(path, split or "train")
  if count < 1:
    raise ValueError(f"data.people_count={count}: expected 1 or more")
  group = group_size(composition)
  if count % group:
    raise ValueError(
      f"data.people_count={count}: {composition} come in groups of {group} images; expected a multiple of {group}"
    )
  height, width = _DEFAULT_HW
  out = os.path.join(
    storage.cache_folder(), f"people{RENDERER_VERSION}-{composition}-{count}-{height}x{width}-seed{_DEFAULT_SEED}"
  )
  if not os.path.exists(os.path.join(out, META)):
    print(
      f"preparing {count:,} built-in people, {composition}, in {out} (once; set SAIP_CACHE for another folder)",
      file=sys.stderr,
      flush=True,
    )
  spec = SetSpec(composition, _DEFAULT_HW, _DEFAULT_SEED, default_identities(composition, count))
  try:
    prepare_people(out, spec, count)
  except ValueError as error:
    raise ValueError(
      "the default set of people cannot be written to the cache (set SAIP_CACHE to another folder, or "
      f"data.path to a prepared set): {error}"
    ) from error
  return PeopleSource(out, split or "train")


class PeopleSource(ImageSource):
  """Reads a set written by `prepare_people`.

  >>> import tempfile
  >>> from input_pipeline.people.prepare import prepare_people, usual_spec
  >>> folder = tempfile.TemporaryDirectory()
  >>> path = prepare_people(folder.name, usual_spec(24, image_hw=(64, 32)), 24)
  >>> people = PeopleSource(path, "train")
  >>> people.picture(0).image_u8.shape, people.picture(0).depth.shape
  ((64, 32, 3), (64, 32))

  Args:
    path: its folder.
    split: a name in `SPLITS`: only its images, in the order of the set; None: all images.

  Raises:
    ValueError: the folder holds no prepared set, an unfinished one, or one that lacks a shard; or the split is empty.
  """

  legend = {
    "joints": list(COCO_JOINTS),
    "landmarks": list(LANDMARKS),
    "parts": list(LIP_PARTS),
    "attributes": list(ATTRIBUTES),
  }

  def __init__(self, path: str | os.PathLike, split: str | None = None):
    if split is not None and split not in SPLITS:
      raise ValueError(f"split={split!r} is unknown; choose one of: {', '.join(SPLITS)}")
    meta = _checked_meta(storage.normalized(path), path)
    self._shards = open_shards(storage.normalized(path), meta, "data.path", "saip prepare people")
    self._spec, self._split = spec_of_meta(meta), split
    self._numbers = self._numbers_of_split()
    if not len(self):
      raise ValueError(f"data.path={path} has no image of a {split} identity; prepare a set of more images")
    height, width = self._spec.image_hw
    self._name = f"people-{self._spec.composition}-{meta['count']}-{height}x{width}-seed{self._spec.seed}"
    self.identity = {
      "source": "people",
      "name": self._name + (f"/{split}" if split else ""),
      "length": len(self),
      "digest": set_digest(meta),
    }

  def __len__(self) -> int:
    return len(self._numbers)

  def read(self, i: int) -> bytes:
    """Returns the JPEG bytes of image `i`."""
    return image_of_record(self.record_bytes(i))

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    """Returns the annotations of image `i`, and its other files, name -> encoded bytes; see people/records.py."""
    annotations, files = decode_record(self.record_bytes(i))
    del files[IMAGE]
    return annotations, files

  def picture(self, i: int) -> Picture:
    """Returns image `i` with all its labels, decoded."""
    return decode_picture(self.record_bytes(i))

  def record_bytes(self, i: int) -> bytes:
    """Returns the record of image `i` as it is stored."""
    if not 0 <= i < len(self):
      raise IndexError(f"image {i} of a set of {len(self)}")
    return self._shards.read(int(self._numbers[i]))

  def name(self, i: int) -> str:
    return f"{self._name}[{self._numbers[i]}]"

  def _numbers_of_split(self) -> Sequence[int]:
    """Returns, for each position in this source, the number in the set."""
    numbers = range(len(self._shards))
    if self._split is None:
      return numbers
    return np.array([number for number in numbers if split_of_picture(self._spec, number) == self._split], np.int64)

  def __getstate__(self) -> dict:
    return self.__dict__ | {"_numbers": None}  # too long to pickle; computed again on arrival

  def __setstate__(self, state: dict) -> None:
    self.__dict__.update(state)
    self._numbers = self._numbers_of_split()


def _checked_meta(folder: str, path: str | os.PathLike) -> dict:
  if is_unfinished(folder):
    raise ValueError(
      f"data.path={path} is an unfinished set of people; run the same `saip prepare people "
      "--out=...` again, it continues where it stopped"
    )
  meta = read_meta(f"{folder}/{META}")
  if meta.get("format") != PEOPLE_FORMAT:
    raise ValueError(
      f"data.path={path} is no prepared set of people that this version reads (format "
      f"{meta.get('format')!r} in its {META}, expected {PEOPLE_FORMAT!r}); make one with `saip prepare people "
      "--out=...`"
    )
  if meta["export"]:
    raise ValueError(
      f"data.path={path} is a set of people for other tools (--export={meta['export']}); make one without --export"
    )
  return meta
