"""Recognizes the kind of data set at a path from the names of its files and the beginnings of a few."""

import collections
import functools
import os
import re
import zipfile
from collections.abc import Callable

from input_pipeline import storage
from input_pipeline.prepared import META, read_meta
from input_pipeline.sources.containers.folder import EXTENSIONS
from input_pipeline.sources.datasets.captions import CAPTION_SETS
from input_pipeline.sources.datasets.coco import holds_annotations, may_hold_annotations
from input_pipeline.sources.kinds import SOURCE_KINDS

# Limits of the search: entries of a folder, and folders, nearest first. A million files are never listed.
_MOST_ENTRIES, _MOST_FOLDERS = 300, 60
_HEAD_BYTES = 65536
_MOST_JSON_FILES, _MOST_LABELS = 6, 20

_TAR = re.compile(r"\.(tar|tar\.\w{1,4}|tgz)$")
_ARRAY_RECORD = re.compile(r"\.array_record(-\d+-of-\d+)?$")
_WILDCARDS = re.compile(r"[{*?\[]")
# 0002_c1s1_000451_03.jpg, -1_c3s2_..., and sets named after it: identity, camera.
_MARKET_NAME = re.compile(r"-?\d+_c\d+(s\d+)?_")
_MARKET_FOLDERS = ("bounding_box_train", "bounding_box_test")
_YOLO_LINES = (re.compile(r"^names\s*:", re.MULTILINE), re.compile(r"^(train|val|path)\s*:", re.MULTILINE))
_YOLO_LABEL = re.compile(r"\d+(\.0+)?([\s,;]+-?[\d.]+(e[-+]?\d+)?){4}")  # a class and at least four numbers
# Names of frames: cam01_00017.jpg, cam01/00017.jpg, frame_00017.jpg. Numbers alone are not enough.
_CAMERA_FRAME = re.compile(r"(?:^|/)((?:cam|camera|view)[-_ ]?\d+)(?:/(?:[^/]*[^/\d])?|[-_. ])\d+\.\w+$")
_VIDEO_FRAME = re.compile(r"(?:^|/)(?:frame|frm)[-_. ]?\d+\.\w+$")
_MOST_NAMES = 0.9  # share of the images whose names must have the form
_TAR_MAGIC, _ZIP_MAGIC, _LMDB_MAGIC = b"ustar", b"PK\x03\x04", b"\xde\xc0\xef\xbe"


class _Sight:
  """The listing of a path: `names` of files below it (its own name if it is a file) and `folders`, both bounded."""

  def __init__(self, path: str):
    self.path = path
    self.is_folder = storage.is_folder(path)
    self.names, self.folders = [], set()
    if not self.is_folder:
      self.names = [path.rpartition("/")[2]]
    elif storage.is_remote(path):  # the source lists the bucket too
      self.names = [name for name, _ in storage.list_files(path)]
      self.folders = {name.rpartition("/")[0] for name in self.names}
    else:
      self._walk()

  def _walk(self) -> None:
    pending = collections.deque([""])
    for _ in range(_MOST_FOLDERS):
      if not pending:
        return
      below = pending.popleft()
      try:
        with os.scandir(os.path.join(self.path, below)) as entries:
          for entry, _ in zip(entries, range(_MOST_ENTRIES)):
            if entry.name.startswith("."):
              continue
            if entry.is_dir(follow_symlinks=not below):
              pending.append(f"{below}{entry.name}/")
              self.folders.add(f"{below}{entry.name}")
            else:
              self.names.append(f"{below}{entry.name}")
      except OSError:
        if not below:
          raise

  def has(self, *names: str) -> bool:
    """Whether all these exist below the folder."""
    return self.is_folder and all(storage.exists(f"{self.path}/{name}") for name in names)

  def ends(self, *endings: str) -> bool:
    """Whether it is one file with one of these endings."""
    return not self.is_folder and self.names[0].lower().endswith(endings)

  @functools.cached_property
  def head(self) -> bytes:
    """The first bytes of the file; empty for a folder."""
    return b"" if self.is_folder else self.head_of("")

  def head_of(self, name: str) -> bytes:
    """The first bytes of a file below the folder; empty where it cannot be read."""
    try:
      with storage.open_binary(f"{self.path}/{name}" if name else self.path) as file:
        return file.read(_HEAD_BYTES)
    except OSError:
      return b""

  def text_of(self, name: str) -> str:
    """The beginning of a text file below the folder, or of the file ("")."""
    return storage.text_of(self.head_of(name), "replace").strip()

  def count(self, matches: Callable[[str], object]) -> int:
    return sum(1 for name in self.names if matches(name.lower()))

  @property
  def images(self) -> int:
    return self.count(_is_image)

  @functools.cached_property
  def meta(self) -> dict:
    return read_meta(f"{self.path}/{META}") if self.is_folder else {}


def recognize_source(path: str, setting: str = "PATH") -> str:
  """Returns the kind of data set at a path, a key of `SOURCE_KINDS`.

  Args:
    path: a folder, a file, a pattern of archives, or the URL of one.
    setting: the option that gave it, for messages.

  Raises:
    ValueError: nothing is there, or nothing that looks like a data set; one line that lists what was found.
  """
  try:
    root = storage.normalized(path)
    if not storage.exists(root):
      last = path.rpartition("/")[2].lower()
      if _WILDCARDS.search(path) and (".tar" in last or ".zip" in last):
        return "webdataset" if ".tar" in last else "zip"
      raise ValueError(f"{setting}={path} does not exist; expected a folder, an archive or an annotation file")
    sight = _Sight(root)
    kind = next((kind for kind, matches in LAYOUTS.items() if matches(sight)), None)
  except OSError as error:
    raise ValueError(
      f"{setting}={path} cannot be looked at ({error.strerror or error}); check its permissions"
    ) from error
  if kind is None:
    raise ValueError(
      f"{setting}={path} looks like no known kind of data set: found {_found(sight)}; name its kind "
      f"with --source=, one of {', '.join(sorted(SOURCE_KINDS))}"
    )
  return kind


def _found(sight: _Sight) -> str:
  if not sight.is_folder:
    image = " (one image; expected the folder it lies in)" if sight.images else ""
    return f"one file of {storage.stamp(sight.path)[0]:,} bytes{image}"
  kinds = collections.Counter(os.path.splitext(name)[1].lower() or "(no extension)" for name in sight.names)
  return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "nothing"


def _is_image(name: str) -> bool:
  return os.path.splitext(name)[1] in EXTENSIONS


def _is_people(sight: _Sight) -> bool:
  return str(sight.meta.get("format")).startswith("saip_jax built-in people") and not sight.meta.get("export")


def _is_tfds(sight: _Sight) -> bool:
  return any(
    name.endswith("dataset_info.json") and f"{name[: -len('dataset_info.json')]}features.json" in sight.names
    for name in sight.names
    if name.count("/") <= 2
  )


def _is_array_record(sight: _Sight) -> bool:
  prepared = str(sight.meta.get("format")).startswith("saip_jax") and not sight.meta.get("export")
  return prepared or any(_ARRAY_RECORD.search(name) for name in sight.names if "/" not in name)


def _is_lmdb(sight: _Sight) -> bool:
  return (
    sight.has("data.mdb")
    or sight.has("lmdb/data.mdb")
    or sight.ends(".mdb", ".lmdb")
    or sight.head[16:20] == _LMDB_MAGIC
  )


def _is_msmt17(sight: _Sight) -> bool:
  return sight.has("list_train.txt") and (sight.has("train") or sight.has("mask_train_v2"))


def _is_market1501(sight: _Sight) -> bool:
  if any(sight.has(folder) for folder in _MARKET_FOLDERS):
    return True
  # Flat, or in train/ and the like; nearly all names have that form.
  named = sight.count(
    lambda name: _is_image(name) and name.count("/") <= 1 and _MARKET_NAME.match(name.rpartition("/")[2])
  )
  return sight.is_folder and named > 0 and named >= _MOST_NAMES * sight.images


def _is_multiview(sight: _Sight) -> bool:
  names = [name.lower() for name in sight.names]
  found = [match[1] for name in names if _is_image(name) and (match := _CAMERA_FRAME.search(name))]
  return sight.is_folder and len(set(found)) > 1 and len(found) >= _MOST_NAMES * sight.images


def _is_video(sight: _Sight) -> bool:
  frames = sight.count(lambda name: _is_image(name) and _VIDEO_FRAME.search(name))
  return sight.is_folder and frames > 1 and frames >= _MOST_NAMES * sight.images


def _has(*names: str) -> Callable[[_Sight], bool]:
  """Returns a test: whether any of these names is in the folder."""
  return lambda sight: any(sight.has(name) for name in names)


def _is_joints3d(sight: _Sight) -> bool:
  # The names are read from the directory of the archive: arrays may be megabytes long.
  for name in [name for name in sight.names if name.lower().endswith(".npz") and "/" not in name][:_MOST_JSON_FILES]:
    try:
      with storage.open_binary(f"{sight.path}/{name}" if sight.is_folder else sight.path) as file:
        if "joints_xyz.npy" in zipfile.ZipFile(file).namelist():
          return True
    except (OSError, zipfile.BadZipFile):
      continue
  return False


def _is_pennfudan(sight: _Sight) -> bool:
  return any(sight.has(f"{folder}PNGImages", f"{folder}PedMasks") for folder in ("", "PennFudanPed/"))


def _is_lsp(sight: _Sight) -> bool:
  return sight.has("joints.mat") or sight.ends("joints.mat")


def _annotation_files(sight: _Sight, ending: str) -> list[str]:
  """Returns the files with this ending in folders of annotations; "" for a path that is one itself."""
  if not sight.is_folder:
    return [""] * sight.ends(ending)
  return [
    name for name in sight.names if name.lower().endswith(ending) and may_hold_annotations(name.rpartition("/")[0])
  ]


def _is_coco(sight: _Sight) -> bool:
  if not sight.is_folder:
    return sight.ends(".json") and sight.text_of("")[:1] in ("{", "[")
  return any(holds_annotations(sight.text_of(name)) for name in _annotation_files(sight, ".json")[:_MOST_JSON_FILES])


def _is_fashionpedia(sight: _Sight) -> bool:
  files = _annotation_files(sight, ".json") if sight.is_folder else sight.names
  return any(name.rpartition("/")[2].startswith("instances_attributes_") for name in files)


def _is_yolo(sight: _Sight) -> bool:
  is_config = lambda name: all(line.search(sight.text_of(name)) for line in _YOLO_LINES)
  if not sight.is_folder:
    return sight.ends(".yaml", ".yml") and is_config("")
  configs = [name for name in sight.names if "/" not in name and name.lower().endswith((".yaml", ".yml"))]
  return any(map(is_config, configs)) or (sight.has("labels", "images") and _are_yolo_labels(sight))


def _are_yolo_labels(sight: _Sight) -> bool:
  """Whether labels/ holds texts of numbers, empty for photos without persons. Parsing sets have PNGs there."""
  labels = [name for name in sight.names if name.startswith("labels/")]
  texts = [sight.text_of(name) for name in [name for name in labels if name.lower().endswith(".txt")][:_MOST_LABELS]]
  written = list(filter(None, texts))
  return any(map(_YOLO_LABEL.match, written)) or (bool(texts) and not written and not any(map(_is_image, labels)))


def _is_webdataset(sight: _Sight) -> bool:
  tars = sight.count(_TAR.search)
  return tars > sight.images if sight.is_folder else tars > 0 or sight.head[257:262] == _TAR_MAGIC


def _is_zip(sight: _Sight) -> bool:
  zips = sight.count(lambda name: name.endswith(".zip"))
  if sight.is_folder:
    return zips > sight.images
  return zips > 0 or (sight.head.startswith(_ZIP_MAGIC) and not sight.ends(".npz", ".pt", ".pth"))


LAYOUTS: dict[str, Callable[[_Sight], bool]] = {
  "people": _is_people,
  "tfds": _is_tfds,
  "arrayrecord": _is_array_record,
  "lmdb": _is_lmdb,
  "msmt17": _is_msmt17,
  "market1501": _is_market1501,
  **{kind: _has(*layout.files) for kind, layout in CAPTION_SETS.items()},
  "peta": _has("PETA.mat"),
  "rap": _has("RAP_annotation/RAP_annotation.mat", "RAP_annotation.mat"),
  "pa100k": _has("annotation.mat", "annotation/annotation.mat"),
  "cihp": _has(
    *(
      f"{above}{folder}/Category_ids"
      for folder in ("Training", "Validation")
      for above in ("", "instance-level_human_parsing/", 2 * "instance-level_human_parsing/")
    )
  ),
  "lip": _has("train_segmentations", "val_segmentations", "TrainVal_parsing_annotations"),
  "atr": _has("SegmentationClassAug"),
  "ccp": _has("label_list.mat"),
  "joints3d": _is_joints3d,
  "crowdhuman": lambda sight: bool(_annotation_files(sight, ".odgt")),
  "fashionpedia": _is_fashionpedia,
  "pennfudan": _is_pennfudan,
  "lsp": _is_lsp,
  "coco": _is_coco,
  "yolo": _is_yolo,
  "webdataset": _is_webdataset,
  "zip": _is_zip,
  "multiview": _is_multiview,
  "video": _is_video,
  "folder": lambda sight: sight.is_folder and sight.images > 0,
}
"""Key of `SOURCE_KINDS` -> whether a path has its layout. The first match wins: special kinds come first."""
