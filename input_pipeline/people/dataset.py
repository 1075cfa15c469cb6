"""A prepared set of built-in people as an ImageSource, and the default set that prepares itself."""

import hashlib
import os
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from input_pipeline.people.spec import SPLITS, SetSpec, split_of_picture
from input_pipeline.people.description import FORMAT, META, read_meta, spec_of_meta
from input_pipeline.people.picture import Picture
from input_pipeline.people.prepare import prepare_people, unfinished, usual_identities
from input_pipeline.people.records import decode_image, decode_picture, decode_record, open_shard
from input_pipeline.people.render import RENDERER_VERSION

_DEFAULT_HW, _DEFAULT_SEED = (256, 128), 0


def open_people(path: str | None, count: int) -> "PeopleSource":
  """The train split of a prepared set; without a path of the default one, rendered into the user's cache on first use.

  Args:
    path: folder of a prepared set (`data.path`); None: the default set of `count` crops of 256x128, seed 0, in
      `$SAIP_CACHE` or `~/.cache/saip_jax`.
    count: size of the default set, all its splits together (`data.people_count`).

  Returns:
    The pictures of its train split: those of the other identities stay unseen.

  Raises:
    ValueError: no prepared set there, or none that can be prepared.
  """
  if path is not None:
    return PeopleSource(path, "train")
  if count < 1:
    raise ValueError(f"data.people_count={count}: expected 1 or more")
  cache = pathlib.Path(os.environ.get("SAIP_CACHE") or "~/.cache/saip_jax").expanduser()
  height, width = _DEFAULT_HW
  out = cache / f"people{RENDERER_VERSION}-crops-{count}-{height}x{width}-seed{_DEFAULT_SEED}"
  if not (out / META).exists():
    print(f"preparing {count:,} built-in people in {out} (once; elsewhere: set SAIP_CACHE)", file=sys.stderr,
          flush=True)
  spec = SetSpec("crops", _DEFAULT_HW, _DEFAULT_SEED, usual_identities("crops", count))
  try:
    prepare_people(out, spec, count)
  except ValueError as error:
    raise ValueError("the default set of people cannot be kept in the cache (set SAIP_CACHE to another folder, or "
                     f"data.path to a prepared set): {error}") from error
  return PeopleSource(out, "train")


class PeopleSource:
  """Reads a set written by `prepare_people`.

  Args:
    path: its folder.
    split: a name in `SPLITS`: its pictures alone, in the order of the set; None: all pictures.

  Raises:
    ValueError: the folder is no prepared set, is unfinished, or has lost a shard, or the split is empty.
  """

  def __init__(self, path: str | os.PathLike, split: str | None = None):
    if split is not None and split not in SPLITS:
      raise ValueError(f"split={split!r} is unknown; choose one of: {', '.join(SPLITS)}")
    self._path = pathlib.Path(path).expanduser().resolve()
    self._readers: dict[int, ArrayRecordReader] = {}
    meta = _checked_meta(self._path, path)
    self._shards = list(meta["shards"])
    self._starts = np.cumsum([0] + [shard["records"] for shard in meta["shards"].values()])
    self._spec, self._split = spec_of_meta(meta), split
    self._numbers = self._numbers_of_split()
    if not len(self):
      raise ValueError(f"data.path={path} has no picture of a {split} identity; make a set of more pictures")
    height, width = self._spec.image_hw
    self._name = f"people-{self._spec.composition}-{meta['count']}-{height}x{width}-seed{self._spec.seed}"
    contents = "".join(shard["sha256"] for shard in meta["shards"].values())
    self.identity = {"source": "people", "name": self._name + (f"/{split}" if split else ""), "length": len(self),
                     "digest": hashlib.sha256(contents.encode()).hexdigest()[:16]}

  def __len__(self) -> int:
    return len(self._numbers)

  def read(self, i: int) -> bytes:
    """The JPEG bytes of picture `i`."""
    return decode_image(self.record_bytes(i))

  def record(self, i: int) -> tuple[dict, dict[str, bytes]]:
    """The facts of picture `i` and its files, name -> encoded bytes; records.py says what they mean."""
    return decode_record(self.record_bytes(i))

  def picture(self, i: int) -> Picture:
    """Picture `i` with all its labels, decoded."""
    return decode_picture(self.record_bytes(i))

  def record_bytes(self, i: int) -> bytes:
    """The record of picture `i` as it is stored."""
    if not 0 <= i < len(self):
      raise IndexError(f"picture {i} of a set of {len(self)}")
    number = self._numbers[i]
    shard = int(np.searchsorted(self._starts, number, side="right")) - 1
    return self._reader(shard).read([int(number - self._starts[shard])])[0]

  def name(self, i: int) -> str:
    return f"{self._name}[{self._numbers[i]}]"

  def _reader(self, shard: int) -> ArrayRecordReader:
    if shard not in self._readers:  # two threads may both open one: the later stays, both can read
      self._readers[shard] = open_shard(self._path / self._shards[shard])
    return self._readers[shard]

  def _numbers_of_split(self) -> Sequence[int]:
    """Place in this source -> number in the set."""
    numbers = range(int(self._starts[-1]))
    if self._split is None:
      return numbers
    return np.array([number for number in numbers if split_of_picture(self._spec, number) == self._split], np.int64)

  def __getstate__(self) -> dict:
    return self.__dict__ | {"_readers": {}, "_numbers": None}  # open files and long lists do not travel

  def __setstate__(self, state: dict) -> None:
    self.__dict__.update(state)
    self._numbers = self._numbers_of_split()


def _checked_meta(folder: pathlib.Path, path: str | os.PathLike) -> dict:
  if unfinished(folder):
    raise ValueError(f"data.path={path} is an unfinished set of people; run the same `saip prepare people "
                     "--out=...` again, it goes on where it stopped")
  meta = read_meta(folder / META)
  if meta.get("format") != FORMAT:
    raise ValueError(f"data.path={path} is no prepared set of people that this version reads (format "
                     f"{meta.get('format')!r} in its {META}, expected {FORMAT!r}); make one with `saip prepare people "
                     "--out=...`")
  if meta["export"]:
    raise ValueError(f"data.path={path} is a set of people for other tools (--export={meta['export']}); make one "
                     "without --export")
  for name, shard in meta["shards"].items():
    if not (folder / name).is_file() or (folder / name).stat().st_size != shard["bytes"]:
      raise ValueError(f"data.path={path} lacks a whole {name}; delete that file and run the same `saip prepare "
                       "people --out=...` again")
  return meta
