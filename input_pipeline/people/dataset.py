"""A prepared set of built-in people as an ImageSource, and the default set that prepares itself."""

import hashlib
import json
import os
import pathlib
import sys

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from input_pipeline.people.prepare import prepare_people, unfinished
from input_pipeline.people.records import FORMAT, META, unpack_record

_DEFAULT_HW, _DEFAULT_SEED = (256, 128), 0


def open_people(path: str | None, count: int) -> "PeopleSource":
  """A prepared set; without a path the default one, which is rendered into the user's cache on first use.

  Args:
    path: folder of a prepared set (`data.path`); None: the default set of `count` pictures of 256x128, seed 0, in
      `$SAIP_CACHE` or `~/.cache/saip_jax`.
    count: size of the default set (`data.people_count`).

  Returns:
    The set.

  Raises:
    ValueError: no prepared set there.
  """
  if path is not None:
    return PeopleSource(path)
  if count < 1:
    raise ValueError(f"data.people_count={count}: expected 1 or more")
  cache = pathlib.Path(os.environ.get("SAIP_CACHE") or "~/.cache/saip_jax").expanduser()
  out = cache / f"people-{count}-{_DEFAULT_HW[0]}x{_DEFAULT_HW[1]}-seed{_DEFAULT_SEED}"
  if not (out / META).exists():
    print(f"preparing {count:,} built-in people in {out} (once; elsewhere: set SAIP_CACHE)", file=sys.stderr,
          flush=True)
  return PeopleSource(prepare_people(out, count, _DEFAULT_HW, _DEFAULT_SEED))


class PeopleSource:
  """Reads a set written by `prepare_people`.

  Args:
    path: its folder.

  Raises:
    ValueError: the folder is no prepared set, is unfinished, or has lost a shard.
  """

  def __init__(self, path: str | os.PathLike):
    self._path = pathlib.Path(path).expanduser().resolve()
    self._readers: dict[int, ArrayRecordReader] = {}
    if unfinished(self._path):
      raise ValueError(f"data.path={path} is an unfinished set of people; run the same `saip prepare people "
                       "--out=...` again, it goes on where it stopped")
    meta_path = self._path / META
    meta = json.loads(meta_path.read_text()) if meta_path.is_file() else {}
    if meta.get("format") != FORMAT:
      raise ValueError(f"data.path={path} is no prepared set of people (no {META} of one); make one with "
                       f"`saip prepare people --out={path}`")
    for name, shard in meta["shards"].items():
      if not (self._path / name).is_file() or (self._path / name).stat().st_size != shard["bytes"]:
        raise ValueError(f"data.path={path} lacks a whole {name}; delete that file and run the same `saip prepare "
                         "people --out=...` again")
    self._shards = list(meta["shards"])
    self._starts = np.cumsum([0] + [shard["records"] for shard in meta["shards"].values()])
    contents = "".join(shard["sha256"] for shard in meta["shards"].values())
    height, width = meta["image_hw"]
    self.identity = {"source": "people", "name": f"people-{meta['count']}-{height}x{width}-seed{meta['seed']}",
                     "length": len(self), "digest": hashlib.sha256(contents.encode()).hexdigest()[:16]}

  def __len__(self) -> int:
    return int(self._starts[-1])

  def read(self, i: int) -> bytes:
    """The JPEG bytes of picture `i`."""
    return self.record(i)[1]

  def record(self, i: int) -> tuple[dict, bytes]:
    """What is known of picture `i` (its `identity`, ...), and its JPEG bytes."""
    if not 0 <= i < len(self):
      raise IndexError(f"picture {i} of a set of {len(self)}")
    shard = int(np.searchsorted(self._starts, i, side="right")) - 1
    return unpack_record(self._reader(shard).read([i - int(self._starts[shard])])[0])

  def name(self, i: int) -> str:
    return f"{self.identity['name']}[{i}]"

  def _reader(self, shard: int) -> ArrayRecordReader:
    if shard not in self._readers:  # two threads may both open one: the later stays, both can read
      self._readers[shard] = ArrayRecordReader(str(self._path / self._shards[shard]), "readahead_buffer_size:0")
    return self._readers[shard]

  def __getstate__(self) -> dict:
    return self.__dict__ | {"_readers": {}}  # open files do not travel to other processes
