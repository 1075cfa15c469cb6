"""Re-identification data sets: Market-1501, and sets with its file names, and MSMT17."""

import hashlib
import io
import os
import re
from collections.abc import Callable, Sequence

import numpy as np
import scipy  # imports scipy.io on first use

from input_pipeline import storage
from input_pipeline.source import ImageSource, bounded
from input_pipeline.sources.annotated.photos import NO_PHOTO, Photos, existing
from input_pipeline.sources.index import Index, cached_index, folders_unchanged

MARKET1501_SPLITS = {
  "train": "bounding_box_train",
  "val": "bounding_box_val",
  "query": "query",
  "gallery": "bounding_box_test",
}
"""Split -> its folder. Market-1501 has no val; sets written by `saip prepare people --export=market1501` have one."""

MSMT17_SPLITS = ("train", "val", "query", "gallery")

_MARKET_NAME = re.compile(r"(-?\d+)_c(\d+)", re.IGNORECASE)
_MSMT17_FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
# Values 1 to 4 of the attribute `age`.
_AGES = ("young", "teenager", "adult", "old")
_ATTRIBUTE_FILES = ("attribute/market_attribute.mat", "market_attribute.mat")


class ReidSource(ImageSource):
  """Crops of persons with identity and camera.

  Args:
    index: rows of names below `folder`, with columns identity and camera; its header has `attributes` per identity.
    identity: {source, name}; length and digest are added. The digest covers names, identities and cameras.
    folder: folder or URL of the files.
  """

  def __init__(self, index: Index, identity: dict, folder: str):
    self._index, self._folder = index, folder
    self.identity = identity | {"length": len(index), "digest": index.header["digest"]}
    self.left_out = [tuple(item) for item in index.header["left_out"]]
    self.legend = index.header["legend"] | ({"distractor": 0} if identity["source"] == "market1501" else {})

  def __len__(self) -> int:
    return len(self._index)

  def read(self, i: int) -> bytes:
    return storage.read_file(f"{self._folder}/{self.name(i)}")

  def name(self, i: int) -> str:
    return os.fsdecode(self._index.text("name", i))

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    """Returns {"people": [{"identity", "attributes" if known}], "camera"} of image `i`.

    `legend["distractor"]` is the identity of images that match no query.
    """
    identity = int(self._index.columns["identity"][i])
    attributes = self._index.header["attributes"].get(str(identity))
    person = {"identity": identity} | ({"attributes": attributes} if attributes else {})
    return {"people": [person], "camera": int(self._index.columns["camera"][i])}, {}


def open_market1501(path: str, split: str | None, cache_dir: str, setting: str) -> ReidSource:
  """Opens one split of Market-1501, or of a set with its layout and file names, e.g. 0002_c1s1_000451_03.jpg.

  Junk (identity -1) is left out; distractors (0000) stay in the gallery. If the set has attribute/market_attribute.mat,
  its attributes are given as 0 or 1, each of the four age groups as one attribute.

  Args:
    path: the folder of the set; a folder of image files, or its folder `train`, is the train split.
    split: a key of `MARKET1501_SPLITS`; None for train.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.

  Raises:
    ValueError: no such folder or split, or no image with such a name.
  """
  root, split = _checked_folder(path, setting), split or "train"
  folder = f"{root}/{MARKET1501_SPLITS[split]}" if split in MARKET1501_SPLITS else None
  if folder is None or not storage.is_folder(folder):
    if split != "train" or _has_any(root, MARKET1501_SPLITS.values()):
      found = [name for name, below in MARKET1501_SPLITS.items() if storage.is_folder(f"{root}/{below}")]
      raise ValueError(f"{setting}={path} has no split {split!r}; it has {', '.join(found) or 'train alone'}")
    folder = f"{root}/train" if storage.is_folder(f"{root}/train") else root
  whole = root.rpartition("/")[0] if os.path.basename(root) == "train" else root
  attribute_file = next(
    (file for file in (f"{whole}/{name}" for name in _ATTRIBUTE_FILES) if storage.exists(file)), None
  )

  def rows(photos: Photos) -> tuple[list, list]:
    used, left_out = [], []
    for name in photos.below(""):
      match = _MARKET_NAME.match(name.rpartition("/")[2])
      if match is None:
        left_out.append((name, "its name does not begin with a person and a camera, as 0002_c1 does"))
      elif int(match[1]) < 0:
        left_out.append((name, "junk: marked -1 by the data set"))
      elif int(match[2]) < 1:
        left_out.append((name, "its camera is 0; cameras are counted from 1"))
      else:
        used.append((name, int(match[1]), int(match[2]) - 1))
    return used, left_out

  return _open(
    "market1501",
    path,
    folder,
    os.path.basename(root),
    [attribute_file] if attribute_file else [],
    rows,
    lambda: _market_attributes(attribute_file) if attribute_file else ({}, [], ""),
    cache_dir,
    setting,
  )


def open_msmt17(path: str, split: str | None, cache_dir: str, setting: str) -> ReidSource:
  """Opens one split of MSMT17, version 1 or 2, from its list.

  Args:
    path: the folder of the set, or the folder above it.
    split: one of `MSMT17_SPLITS`; None for train. train and val are parts of its training persons.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.

  Raises:
    ValueError: not MSMT17, or no image of the split's list is there.
  """
  root, split = _checked_folder(path, setting), split or "train"
  root = next(
    (below for below in (root, *(f"{root}/MSMT17{end}" for end in ("_V1", "_V2", ""))) if msmt17_version(below)), root
  )
  version, list_file = msmt17_version(root), f"{root}/list_{split}.txt"
  if version is None or split not in MSMT17_SPLITS or not storage.exists(list_file):
    raise ValueError(
      f"{setting}={path} is not MSMT17 with a split {split!r}; expected list_{split}.txt beside train/ "
      "and test/ (version 1) or mask_train_v2/ and mask_test_v2/ (version 2)"
    )
  folder = f"{root}/{_MSMT17_FOLDERS[version][split in ('query', 'gallery')]}"

  def rows(photos: Photos) -> tuple[list, list]:
    return _msmt17_rows(storage.lines_of(storage.read_file(list_file)), photos)

  return _open(
    "msmt17",
    f"{root} {split}",
    folder,
    f"MSMT17_{version}",
    [list_file],
    rows,
    lambda: ({}, [], ""),
    cache_dir,
    setting,
  )


def msmt17_version(root: str) -> str | None:
  """Returns "V1" or "V2" (with masked faces) by the folders of an MSMT17; None if it is not MSMT17."""
  for version in ("V2", "V1"):
    if _has_any(root, _MSMT17_FOLDERS[version]) and any(
      storage.exists(f"{root}/list_{split}.txt") for split in MSMT17_SPLITS
    ):
      return version
  return None


def _msmt17_rows(lines: Sequence[str], photos: Photos) -> tuple[list, list]:
  """Parses lines `0000/0000_000_01_0303morning_0008_0.jpg 0`: file, whose name has the camera third, and identity."""
  used, left_out, seen = [], [], set()
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    name, label = line.rsplit(maxsplit=1) if len(line.split()) > 1 else (line.strip(), "")
    name = name.strip().replace("\\", "/")
    fields = name.rpartition("/")[2].split("_")
    photo, reason = photos.find(name, base_is_enough=False)
    if name.startswith("/") or ".." in name.split("/") or ":" in name:
      left_out.append((name, "refused: its name leads out of the data set"))
    elif not name or not label.isdecimal() or len(fields) < 3 or not fields[2].isdecimal() or int(fields[2]) < 1:
      left_out.append((f"line {number}", f"expected a file, its camera as third part, and a person: {line[:60]!r}"))
    elif photo is None:
      left_out.append((name, "no such file" if reason == NO_PHOTO else reason))
    elif photo in seen:
      left_out.append((name, "listed twice"))
    else:
      seen.add(photo)
      used.append((photo, int(label), int(fields[2]) - 1))
  return used, left_out


def _open(
  kind: str,
  key: str,
  folder: str,
  name: str,
  files: Sequence[str],
  rows: Callable[[Photos], tuple[list[tuple[str, int, int]], list[tuple[str, str]]]],
  read_attributes: Callable[[], tuple[dict, list[str], str]],
  cache_dir: str,
  setting: str,
) -> ReidSource:
  """Opens a source of (name, identity, camera) rows; its index is reused while the folder and `files` are unchanged."""

  def is_current(header: dict) -> bool:
    return (
      header["files"] == {file: storage.stamp(file) for file in files}
      and not storage.is_remote(folder)
      and (folders_unchanged(folder, header["folders"], header["listed_at"]))
    )

  def build() -> tuple[dict, dict, dict]:
    try:
      stamps = {file: storage.stamp(file) for file in files}
      photos = Photos(folder)
      used, left_out = rows(photos)
      attributes, attribute_names, reason = read_attributes()
      left_out += [(file, reason) for file in files if reason]
    except OSError as error:
      raise ValueError(f"{setting}={key} cannot be read: {error}") from error
    if not used:
      reason = f"; the first: {left_out[0][0]}: {left_out[0][1]}" if left_out else "; nothing is listed"
      raise ValueError(
        f"{setting}={key} has no usable image: {len(photos):,} images in {folder}, {len(left_out):,} left out{reason}"
      )
    used.sort(key=lambda row: os.fsencode(row[0]))
    digest = hashlib.sha256(repr(used).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    header = {
      "files": stamps,
      "folders": photos.folders,
      "listed_at": photos.listed_at,
      "digest": digest,
      "left_out": bounded(left_out),
      "attributes": attributes,
      "legend": {"attributes": attribute_names} if attributes else {},
    }
    columns = {column: np.array([row[k] for row in used], np.int64) for k, column in ((1, "identity"), (2, "camera"))}
    return header, {"name": [os.fsencode(row[0]) for row in used]}, columns

  index = cached_index(cache_dir, kind, folder + "".join(f" {file}" for file in files), is_current, build)
  return ReidSource(index, {"source": kind, "name": name}, folder)


def _market_attributes(file: str) -> tuple[dict[str, list[int]], list[str], str]:
  """Returns identity as text -> attributes, their names, and "", or ({}, [], reason): the images need no attributes."""
  data = storage.read_file(file)
  try:
    sets = scipy.io.loadmat(io.BytesIO(data), squeeze_me=True)["market_attribute"]
    parts = [sets[part].item() for part in ("train", "test")]
    names = sorted(name for name in parts[0].dtype.names if name not in ("image_index", "age"))
    attributes = {}
    for part in parts:
      yes = np.stack([np.atleast_1d(part[name].item()) for name in names], 1) == 2  # 1 for no
      ages = np.atleast_1d(part["age"].item())[:, None] == np.arange(1, len(_AGES) + 1)
      values = np.concatenate([ages, yes], 1).astype(int).tolist()
      for identity, row in zip(np.atleast_1d(part["image_index"].item()), values):
        attributes[str(int(identity))] = row
  except Exception as error:  # scipy raises many types on other files
    return {}, [], f"its attributes cannot be read: {' '.join(str(error).split())}"
  return attributes, [*_AGES, *names], ""


def _checked_folder(path: str, setting: str) -> str:
  root = existing(path, setting, "the folder of a re-identification set")
  if not storage.is_folder(root):
    raise ValueError(f"{setting}={path} is a file; expected the folder of a re-identification set")
  return root


def _has_any(root: str, folders) -> bool:
  return any(storage.is_folder(f"{root}/{folder}") for folder in folders)
