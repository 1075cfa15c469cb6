"""Archives as ImageSources, read in place and in any order: tar shards (WebDataset) and zip."""

import array
import collections
import dataclasses
import itertools
import json
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tqdm

from input_pipeline import storage
from input_pipeline.source import ImageSource, bounded
from input_pipeline.sources.containers.archive_members import TAR, Contents, Member, annotations_from, samples_of
from input_pipeline.sources.containers.archive_paths import absolute, find_archives
from input_pipeline.sources.containers.tar_files import CompressedTar, scan_tar
from input_pipeline.sources.containers.zip_files import read_zip_member, scan_zip
from input_pipeline.sources.index import Index, cached_index, newest_trusted_ns

# Archives listed at once: in a bucket waiting is all there is to do, here Python is.
_SCANS_REMOTE, _SCANS_LOCAL, _STATS_AT_ONCE = 16, 1, 16

_NAME_ENDS = {"webdataset": re.compile(r"\.tar(\.(gz|bz2|xz|zst|lz4))?$|\.tgz$"), "zip": re.compile(r"\.zip$")}


def open_webdataset(path: str, split: str | None, cache_dir: str, setting: str) -> ImageSource:
  """Opens tar files; see `ArchiveSource`. They have no splits: name the shards of one in the path."""
  del split
  return ArchiveSource("webdataset", path, cache_dir, setting)


def open_zip(path: str, split: str | None, cache_dir: str, setting: str) -> ImageSource:
  """Opens zip files; see `ArchiveSource`. They have no splits."""
  del split
  return ArchiveSource("zip", path, cache_dir, setting)


class ArchiveSource(ImageSource):
  """Every image in some archives, which are read where they lie and never unpacked.

  Each archive is gone through once, a tar from header to header, a zip by the list at its end; the place of every
  image is remembered in `cache_dir`, so that reading one is reading its bytes. The list is used again while the
  archives are the same files with the same sizes and times. Images are taken by the extension of their name (jpg jpeg
  png webp bmp ppm), archives by name, images in the order of their archive. Nothing is ever unpickled.

  What lies beside an image is its annotations. In a tar by WebDataset's rule: members whose names agree up to the
  first dot are one sample, the picture with the plainest extension is its image (`0001.jpg` before `0001.depth.png`)
  and others are its files. In a zip: members whose names agree up to the last dot; each picture is an image.

  Args:
    kind: "webdataset" or "zip".
    path: an archive, a folder searched to its depth, or a pattern (`shard-{000..012}.tar`, `*.tar`); local or a URL.
    cache_dir: where the list is remembered; made if missing.
    setting: the name of the setting that gave `path`, for messages.

  Raises:
    ValueError: nothing there, no image that can be used, or archives that are compressed as a whole.
  """

  def __init__(self, kind: str, path: str, cache_dir: str, setting: str):
    self._kind, self._name = kind, os.path.basename(absolute(path))
    self._folder, names = find_archives(path, _NAME_ENDS[kind], setting)
    listing = _Listing(kind, self._folder, names, path, setting)
    self._index: Index = cached_index(cache_dir, kind, absolute(path), listing.is_current, listing.build)

  @property
  def identity(self) -> dict:
    """{source, name, length, digest}: the digest covers the names and sizes of all images."""
    return {"source": self._kind, "name": self._name, "length": len(self), "digest": self._index.header["digest"]}

  @property
  def left_out(self) -> list[tuple[str, str]]:
    """(name, reason) of what could not be used."""
    return [tuple(item) for item in self._index.header["left_out"]]

  def __len__(self) -> int:
    return len(self._index)

  def read(self, i: int) -> bytes:
    columns = self._index.columns
    return self._contents(i, Member(*columns["place"][i].tolist(), columns["size"][i].item()))

  def name(self, i: int) -> str:
    return f"{self._archive(i)}/{self._index.text('name', i).decode('utf-8', 'surrogateescape')}"

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    """What lies beside image `i`: the facts of `.json` and texts under their extension; other files under theirs."""
    others = json.loads(self._index.text("others", i) or b"[]")
    try:
      return annotations_from([(extension, self._contents(i, Member(*place))) for extension, *place in others])
    except ValueError as error:
      raise OSError(f"{self.name(i)}: {error}") from error

  def _archive(self, i: int) -> str:
    return self._index.header["archives"][int(self._index.columns["archive"][i])][0]

  def _contents(self, i: int, member: Member) -> bytes:
    path = f"{self._folder}/{self._archive(i)}"
    if member.method == TAR:
      return storage.read_range(path, member.start, member.span)
    return read_zip_member(path, member)


@dataclasses.dataclass(frozen=True)
class _Listing:
  """Makes the list of images of some archives, and knows whether an old one still holds."""

  kind: str
  folder: str
  names: list[str]
  path: str
  setting: str

  def archives(self) -> list[list]:
    """[name, size, time or version] of every archive."""
    stamp = lambda name: [name, *storage.stamp(f"{self.folder}/{name}")]
    try:
      with ThreadPoolExecutor(_STATS_AT_ONCE) as pool:
        return list(pool.map(stamp, self.names))
    except OSError as error:
      raise ValueError(f"{self.setting}={self.path} cannot be read: {error}") from error

  def is_current(self, header: dict) -> bool:
    archives = self.archives()
    newest_ns = newest_trusted_ns(header["scanned_at"])
    return archives == header["archives"] and (
      storage.is_remote(self.folder) or all(mtime_ns <= newest_ns for _, _, mtime_ns in archives)
    )

  def build(self) -> tuple[dict, dict, dict]:
    """Header, texts and columns of the list."""
    scanned_at, archives = time.time(), self.archives()
    rows, left_out, found, pickles = _Rows(), [], collections.Counter(), []
    at_once = _SCANS_REMOTE if storage.is_remote(self.folder) else _SCANS_LOCAL
    with (
      tqdm.tqdm(
        total=sum(archive[1] for archive in archives),
        unit="B",
        unit_scale=True,
        disable=None,
        desc=f"listing {self.kind}",
      ) as bar,
      ThreadPoolExecutor(at_once) as pool,
    ):
      progress = _Progress(bar)
      for number, contents in enumerate(pool.map(lambda archive: self._scan(*archive[:2], progress), archives)):
        name = archives[number][0]
        samples, others, ignored = samples_of(contents, dotted=self.kind == "webdataset")
        rows.add(number, samples)
        left_out += [(inside if inside == name else f"{name}/{inside}", why) for inside, why in contents.left_out]
        found += others
        pickles += [f"{name}/{inside}" for inside in ignored]
    if pickles:
      left_out.append((pickles[0], f"a pickle, which is never loaded; {len(pickles):,} such members are ignored"))
    if not rows.names:
      others = ", ".join(f"{count} {extension or '(no extension)'}" for extension, count in found.most_common(5))
      reasons = "; ".join(f"{name}: {why}" for name, why in left_out[:3])
      raise ValueError(
        (
          f"{self.setting}={self.path} holds no images that can be used: found {others or 'nothing'} in "
          f"{len(archives)} archive(s); expected members named jpg jpeg png webp bmp ppm"
          + f". Left out: {reasons}"
          * bool(reasons)
        ).replace("\n", " ")
      )  # names may have anything
    header = {"scanned_at": scanned_at, "archives": archives, "left_out": bounded(left_out)}
    return header, {"name": rows.names, "others": rows.others}, rows.columns()

  def _scan(self, name: str, size: int, progress: "_Progress") -> Contents:
    path = f"{self.folder}/{name}"
    try:
      with storage.open_binary(path) as file:
        if self.kind == "zip":
          contents = scan_zip(file, size, name)
        else:
          contents = scan_tar(file, size, name, lambda done: progress.show(name, done))
    except CompressedTar as error:
      whole = re.sub(r"(\.tar)?\.(gz|bz2|xz|zst|lz4|tgz)$|\.tar$", "", path)
      raise ValueError(
        f"{self.setting}={self.path}: {name} is compressed ({error.method}), so nothing in it can be "
        f"read at random; decompress it: {error.command} '{path}' > '{whole}.plain.tar'"
      ) from error
    except OSError as error:
      raise ValueError(f"{self.setting}={self.path}: {name} cannot be read: {error.strerror or error}") from error
    progress.show(name, size)
    return contents


class _Rows:
  """The columns of a list of images while it grows: numbers, not objects, as there may be ten million."""

  def __init__(self):
    self.names, self.others = [], []
    self._archive, self._size, self._place = array.array("i"), array.array("q"), array.array("q")

  def add(self, archive: int, samples: list) -> None:
    self.names += [sample.name.encode("utf-8", "surrogateescape") for sample in samples]
    self.others += [
      json.dumps([[extension, *place] for extension, place in sample.others], separators=(",", ":")).encode()
      if sample.others
      else b""
      for sample in samples
    ]
    self._archive.extend(itertools.repeat(archive, len(samples)))
    self._size.extend(sample.image.size for sample in samples)
    self._place.extend(itertools.chain.from_iterable(sample.image[:4] for sample in samples))

  def columns(self) -> dict[str, np.ndarray]:
    return {
      "archive": np.array(self._archive, np.int32),
      "size": np.array(self._size, np.int64),
      "place": np.array(self._place, np.int64).reshape(-1, 4),
    }


class _Progress:
  """Adds up how far several scans are."""

  def __init__(self, bar: tqdm.tqdm):
    self._bar, self._done, self._lock = bar, {}, threading.Lock()

  def show(self, name: str, done: int) -> None:
    """Notes that `done` bytes of an archive are behind."""
    with self._lock:
      self._bar.update(done - self._done.get(name, 0))
      self._done[name] = done
