"""Annotations in COCO format: persons, whole bodies, videos, faces, hands, animals; also panoptic, MPII and .odgt."""

import json
import os
import re
from collections.abc import Collection

from input_pipeline import storage
from input_pipeline.sources.annotated.crop_source import CropSource
from input_pipeline.sources.annotated.crops import DEFAULT_MARGIN, DEFAULT_MIN_SIDE, open_crops
from input_pipeline.sources.annotated.labeled_images import LabeledSource
from input_pipeline.sources.annotated.person import Annotations
from input_pipeline.sources.annotated.photos import Photos, existing
from input_pipeline.sources.datasets.coco_json import read_coco_json
from input_pipeline.sources.datasets.lists_json import read_crowdhuman, read_mpii, read_panoptic
from input_pipeline.sources.datasets.mpii_heads import read_mpii_heads

_LISTS = re.compile(r'"(images|annotations|categories)"\s*:\s*\[|"joints_vis"|"gtboxes"')
_HEAD_BYTES = 65536
_EXTENSIONS = (".json", ".odgt")
_SPLIT_FOLDERS = frozenset({"train", "val", "valid", "validation", "test", "trainval"})
_SAME_SPLIT = (frozenset({"val", "valid", "validation"}), frozenset({"train", "training"}))

# Files of these data sets without persons, by a part of their name.
_OTHER_FILES = re.compile(r"^(captions|stuff|image_info)_|detection|_det_", re.IGNORECASE)

# If several files belong to one split, the first that matches, as it has the most annotations.
_RANKS = (re.compile("person_keypoints"), re.compile("instances"), re.compile("^(?!.*panoptic)"))


def open_coco(
  path: str,
  split: str | None,
  cache_dir: str,
  setting: str,
  margin: float = DEFAULT_MARGIN,
  min_side: int = DEFAULT_MIN_SIDE,
  whole: bool = False,
  kind: str = "coco",
) -> CropSource | LabeledSource:
  """Opens the persons of annotations in COCO format, of any data set.

  Args:
    path: a .json or .odgt file; or a data set's folder with such files, in it or in its annotations*/, or in one
      folder per split (train/, valid/, test/); or a folder named after a split with one JSON per video. Photos are
      searched below the data set's folder, and below the folder above if it has none of them.
    split: a word in the name of the file or of its folder, e.g. val for person_keypoints_val2017.json; val, valid
      and validation are the same; None for train if there is one.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.
    margin: growth of a box on every side, as a fraction of its larger side.
    min_side: pixels; a person is left out if the shorter side of its box, inside the photo, is smaller.
    whole: whole photos with all persons, instead of crops.
    kind: kind of source, as in `data.source`.

  Raises:
    ValueError: no such file, another format, several possible files, or no usable person.
  """
  root, files, photo_root = annotation_files(path, split, setting)

  def read(photos: Photos) -> Annotations:
    annotated = Annotations()
    for file in files:
      _read(file, photos, annotated, setting)
    return annotated

  return open_crops(
    kind,
    root,
    photo_root,
    files,
    read,
    cache_dir=cache_dir,
    setting=setting,
    margin=margin,
    min_side=min_side,
    whole=whole,
    split=split,
    search_above=True,
  )


def annotation_files(path: str, split: str | None, setting: str) -> tuple[str, list[str], str]:
  """Finds the annotation files of a split and the folder of their photos; arguments and errors as in `open_coco`.

  Returns:
    The normalized path, the annotation files, and the folder to search for photos.
  """
  root = existing(path, setting, "a COCO JSON file or the folder of its data set")
  try:
    files = _files_of_split(root, split, f"{setting}={path}") if storage.is_folder(root) else [root]
  except OSError as error:
    raise ValueError(f"{setting}={path}: {error}") from error
  return root, files, _photo_root(root, files[0])


def may_hold_annotations(folder: str) -> bool:
  """Returns whether a folder below a data set's ("": the data set's own) may hold annotations."""
  first, *deeper = folder.lower().split("/")
  if first in _SPLIT_FOLDERS and deeper:
    return len(deeper) == 1 and deeper[0].startswith("annotation")
  return not folder or first in _SPLIT_FOLDERS or (first.startswith("annotation") and len(deeper) <= 1)


def _children(folder: str) -> list[tuple[str, bool]]:
  """Returns (name, is a folder) of the entries of a folder, sorted; raises OSError."""
  if storage.is_remote(folder):
    parts = [name.split("/") for name, _ in storage.list_files(folder)]
    return sorted({(name[0], len(name) > 1) for name in parts})
  with os.scandir(folder) as entries:
    return sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))


def _groups(folder: str) -> dict[str, list[str]]:
  """Returns the candidates in one folder: name -> annotation files that belong together."""
  files, folders = {}, {}
  for name, is_folder in _children(folder):
    if _is_annotation_file(name, is_folder):
      files[name] = [f"{folder}/{name}"]
    elif is_folder and name.lower() in _SPLIT_FOLDERS:
      folders |= {name: inside} if (inside := _files_of_folder(f"{folder}/{name}")) else {}
  if files and folders:  # other JSON files, such as settings, may lie beside the folders of the splits
    files = {name: [file] for name, [file] in files.items() if holds_annotations(_head(file))}
  return files or folders


def holds_annotations(text: str) -> bool:
  """Returns whether the beginning of a JSON file is that of annotations, not of settings or results."""
  return bool(_LISTS.search(text))


def _head(file: str) -> str:
  with storage.open_binary(file) as opened:
    return storage.text_of(opened.read(_HEAD_BYTES), "replace")


def _groups_of_set(root: str) -> dict[str, list[str]]:
  """Returns `_groups` of the first folder that has any: annotations*/, then the data set's own."""
  inside = [
    f"{root}/{name}" for name, is_folder in _children(root) if is_folder and name.lower().startswith("annotation")
  ]
  return next(filter(None, map(_groups, [*inside, root])), {})


def unread_files(path: str, read: Collection[str]) -> list[str]:
  """Returns the annotation files below a data set's folder that were not read; [] if `path` is a file."""
  root = storage.normalized(path)
  if not read or not storage.is_folder(root):
    return []
  files = sum(_groups_of_set(root).values(), [])
  return [file.removeprefix(f"{root}/") for file in files if file not in read]


def _files_of_folder(folder: str) -> list[str]:
  """Returns the annotation files in the folder of a split, or else in its annotations*/."""
  children = _children(folder)
  files = [f"{folder}/{name}" for name, is_folder in children if _is_annotation_file(name, is_folder)]
  return files or [
    file
    for name, is_folder in children
    if is_folder and name.lower().startswith("annotation")
    for file in _files_of_folder(f"{folder}/{name}")
  ]


def _is_annotation_file(name: str, is_folder: bool) -> bool:
  return not is_folder and name.lower().endswith(_EXTENSIONS) and not _OTHER_FILES.search(name)


def _files_of_split(root: str, split: str | None, given: str) -> list[str]:
  """Returns the annotation files of one split, below the folder of a data set or in a folder of annotations."""
  groups = _groups_of_set(root)
  files = sum(groups.values(), [])
  if len(files) > 1 and os.path.basename(root).lower() in _SPLIT_FOLDERS and {*map(os.path.dirname, files)} == {root}:
    return sorted(files)  # one for each video
  wanted = (split or "train").lower()
  alike = next((words for words in _SAME_SPLIT if wanted in words), {wanted})
  named = {name: files for name, files in groups.items() if wanted in _words(name)} or {
    name: files for name, files in groups.items() if alike & _words(name)
  }
  if not named and split is None:
    named = groups
  if not named:
    raise ValueError(
      f"{given} has no annotation file {f'of split {split!r}' if groups else '(.json, .odgt)'}{_listed(groups)}"
    )
  rank = lambda name: next((k for k, pattern in enumerate(_RANKS) if pattern.search(name.lower())), len(_RANKS))
  best = [name for name in named if rank(name) == min(map(rank, named))]
  if len(best) > 1:
    raise ValueError(f"{given} has several possible annotation files; give one of them as the path{_listed(best)}")
  return named[best[0]]


def _words(name: str) -> set[str]:
  """Returns the words in a file's name, with and without their numbers: train2017, train."""
  words = re.split(r"[^a-z0-9]+", os.path.splitext(name)[0].lower())
  return {*words, *(word.rstrip("0123456789") for word in words)}


def _listed(names) -> str:
  names = list(names)
  return f": {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else ""


def _photo_root(root: str, file: str) -> str:
  """Returns the folder to search for photos: the data set's, or the parent of the folder of annotations."""
  if file != root:  # a folder was given
    parts = root.rsplit("/", 2)
    if parts[-1].lower().startswith("annotation"):
      return root.rsplit("/", 1)[0]
    return parts[0] if len(parts) == 3 and parts[1].lower().startswith("annotation") else root
  folder, above = file.rsplit("/", 1)[0], file.rsplit("/", 2)[0]
  if os.path.basename(folder).lower().startswith("annotation"):
    folder = above
  elif os.path.basename(above).lower().startswith("annotation"):
    folder = above.rsplit("/", 1)[0]
  return folder


def _read(file: str, photos: Photos, annotated: Annotations, setting: str) -> None:
  """Adds the persons of one file."""
  content = parsed_json(file, setting)
  below = file.removeprefix(f"{photos.root}/") if file.startswith(f"{photos.root}/") else os.path.basename(file)
  hint = os.path.splitext(below)[0]
  where = f"{setting}: {file}"
  if isinstance(content, dict) and isinstance(content.get("images"), list):
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
      raise ValueError(f"{where} has images but no list `annotations`; expected a file with annotations")
    panoptic = any(isinstance(a, dict) and "segments_info" in a for a in annotations[:1])
    (read_panoptic if panoptic else read_coco_json)(content, photos, annotated, hint)
    return
  first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
  if {"gtboxes", "ID"} <= first.keys():
    read_crowdhuman(content, photos, annotated, hint)
  elif {"image", "joints"} <= first.keys():
    beside, heads = read_mpii_heads(file, len(content), setting)
    annotated.read_from |= {beside} if beside else set()
    annotated.left_out += [
      (f"{os.path.basename(beside)}: head box of person {k}", "it has no size; the person is left out of PCKh")
      for k, head in enumerate(heads)
      if head is None
    ]
    read_mpii(content, photos, annotated, hint, heads)
  elif {"image_id", "score"} <= first.keys():
    raise ValueError(f"{where} holds detections (results of a model); expected annotations")
  else:
    found = (
      f"an object of {', '.join(map(str, list(content)[:4]))}"
      if isinstance(content, dict)
      else (f"a list of {len(content)}" if isinstance(content, list) else type(content).__name__)
    )
    raise ValueError(
      f"{where} is JSON of another kind ({found}); expected COCO's `images` and `annotations`, MPII's "
      "list or CrowdHuman's lines"
    )


def parsed_json(file: str, setting: str):
  """Parses a JSON file, or an .odgt file into the list of its lines; raises ValueError that names file and place."""
  try:
    data = storage.read_file(file)
  except OSError as error:
    raise ValueError(f"{setting}: {file} cannot be read: {error}") from error
  parsed, line = [], None
  try:
    if not file.lower().endswith(".odgt"):
      return json.loads(storage.text_of(data))
    for line, text in enumerate(storage.lines_of(data), 1):
      if text.strip():
        parsed.append(json.loads(text))
    return parsed
  except (ValueError, RecursionError) as error:  # not UTF-8 is a ValueError too
    at_end = isinstance(error, json.JSONDecodeError) and (
      error.msg.startswith("Unterminated") or error.pos >= len(error.doc.rstrip()) - 1
    )
    what = "is empty" if not data.strip() else "is truncated JSON" if at_end else "is not JSON"
    place = f"line {line} of {file}" if line else file
    raise ValueError(f"{setting}: {place} {what} ({error}); get the file again") from error
