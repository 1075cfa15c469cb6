"""Archives as ImageSources with random access and without unpacking: tar shards (WebDataset) and zip."""

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

# Number of archives listed at once: listing waits for the network in a bucket, and for Python on a local disk.
_SCANS_REMOTE, _SCANS_LOCAL, _STATS_AT_ONCE = 16, 1, 16

_NAME_ENDS = {"webdataset": re.compile(r"\.tar(\.(gz|bz2|xz|zst|lz4))?$|\.tgz$"), "zip": re.compile(r"\.zip$")}


def open_webdataset(path: str, split: str | None, cache_dir: str, setting: str) -> ImageSource:
  """Opens tar files; see `ArchiveSource`. They have no splits: `path` names the shards of a split."""
  del split
  return ArchiveSource("webdataset", path, cache_dir, setting)


def open_zip(path: str, split: str | None, cache_dir: str, setting: str) -> ImageSource:
  """Opens zip files; see `ArchiveSource`. They have no splits."""
  del split
  return ArchiveSource("zip", path, cache_dir, setting)


class ArchiveSource(ImageSource):
  """Every image in one or more archives, read in place and never unpacked.

  Each archive is scanned once: a tar from header to header, a zip by its central directory. The positions of all
  images are stored in an index in `cache_dir`, so that an image is one read. The index is reused while names, sizes
  and times of the archives are unchanged. Images are recognized by their extension (jpg jpeg png webp bmp ppm).
  Archives are sorted by name; images keep the order of their archive. Nothing is ever unpickled.

  The other members of an image's sample are its annotations. In a tar, by WebDataset's rule, members with the same
  name up to the first dot are one sample; the image file with the shortest extension is its image (`0001.jpg` before
  `0001.depth.png`). In a zip, members with the same name up to the last dot belong together, and each image file is an
  image.

  Args:
    kind: "webdataset" or "zip".
    path: an archive, a folder searched recursively, or a pattern (`shard-{000..012}.tar`, `*.tar`); local or a URL.
    cache_dir: folder of the remembered index; made if missing.
    setting: the option or setting that gave `path`, named in messages.

  Raises:
    ValueError: nothing is found, there is no usable image, or an archive is compressed as a whole.
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
    """(name, reason) of what is unusable."""
    return [tuple(item) for item in self._index.header["left_out"]]

  def __len__(self) -> int:
    return len(self._index)

  def read(self, i: int) -> bytes:
    columns = self._index.columns
    return self._contents(i, Member(*columns["place"][i].tolist(), columns["size"][i].item()))

  def name(self, i: int) -> str:
    return f"{self._archive(i)}/{self._index.text('name', i).decode('utf-8', 'surrogateescape')}"

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    """Returns the other members of image `i`'s sample as facts (JSON and texts) and files, see `annotations_from`."""
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
  """Builds the index of the images of some archives, and checks whether an old one is up to date."""

  kind: str
  folder: str
  names: list[str]
  path: str
  setting: str

  def archives(self) -> list[list]:
    """Returns [name, size, time or version] of every archive."""
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
    """Returns header, texts and columns of the index."""
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
          f"{self.setting}={self.path} has no usable image: found {others or 'nothing'} in "
          f"{len(archives)} archive(s); expected members named jpg jpeg png webp bmp ppm"
          + f". Left out: {reasons}"
          * bool(reasons)
        ).replace("\n", " ")
      )  # names may contain anything
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
        f"{self.setting}={self.path}: {name} is compressed ({error.method}), which rules out random access; "
        f"decompress it: {error.command} '{path}' > '{whole}.plain.tar'"
      ) from error
    except OSError as error:
      raise ValueError(f"{self.setting}={self.path}: {name} cannot be read: {error.strerror or error}") from error
    progress.show(name, size)
    return contents


class _Rows:
  """The growing columns of an index, in compact arrays, as there may be ten million images."""

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
  """Sums the progress of several scans."""

  def __init__(self, bar: tqdm.tqdm):
    self._bar, self._done, self._lock = bar, {}, threading.Lock()

  def show(self, name: str, done: int) -> None:
    """Sets the number of bytes of an archive that are scanned."""
    with self._lock:
      self._bar.update(done - self._done.get(name, 0))
      self._done[name] = done
