"""Text-to-image retrieval data sets with one JSON of captions: CUHK-PEDES, ICFG-PEDES, RSTPReid."""

import dataclasses
import os
import re

from input_pipeline import storage
from input_pipeline.sources.annotated.categories import key_of
from input_pipeline.sources.annotated.labeled_images import LabeledSource, Labels, open_labeled
from input_pipeline.sources.annotated.photos import Photos, existing
from input_pipeline.sources.datasets.coco import parsed_json


@dataclasses.dataclass(frozen=True)
class CaptionSet:
  """The layout of a caption data set.

  Attributes:
    files: possible names of its JSON, a list of {split, captions, id and the image's path}, in the data set's folder.
    image_key: the member with the image's path below imgs/.
  """

  files: tuple[str, ...]
  image_key: str


_WHOLE = re.compile(r"-?[0-9]{1,18}")

CAPTION_SETS = {
  "cuhkpedes": CaptionSet(("reid_raw.json", "caption_all.json"), "file_path"),
  "icfgpedes": CaptionSet(("ICFG-PEDES.json",), "file_path"),
  "rstpreid": CaptionSet(("data_captions.json",), "img_path"),
}
"""Key of `data.source` -> its layout."""


def open_captions(kind: str, path: str, split: str | None, cache_dir: str, setting: str) -> LabeledSource:
  """Opens one split of a caption data set: `people[0]` has `identity` and `captions`.

  Args:
    kind: a key of `CAPTION_SETS`.
    path: the folder with the JSON and imgs/, or the JSON itself.
    split: name in the JSON; None for train.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.

  Raises:
    ValueError: no such file or split, a JSON of another format, or no usable image.
  """
  layout, split = CAPTION_SETS[kind], split or "train"
  names = " or ".join(layout.files)
  given = existing(path, setting, f"a folder with {names} and imgs/")
  files = [f"{given}/{name}" for name in layout.files] if storage.is_folder(given) else [given]
  file = next(filter(storage.exists, files), None)
  if file is None:
    raise ValueError(f"{setting}={path} has no {names}; expected a folder with it and imgs/")
  root = file.rpartition("/")[0]
  return open_labeled(
    kind,
    root,
    root,
    [file],
    lambda: _read(file, layout, split, root, setting),
    cache_dir=cache_dir,
    setting=setting,
    protocol={"split": split},
  )


def _read(file: str, layout: CaptionSet, split: str, root: str, setting: str) -> Labels:
  records = parsed_json(file, setting)
  if not isinstance(records, list):
    raise ValueError(f"{setting}: {file} is a JSON of another format ({type(records).__name__}); expected a list")
  labels, splits = Labels(Photos(root)), set()
  for position, record in enumerate(records):
    name, reason = f"{os.path.basename(file)} record {position}", _fault(record, layout)
    if reason:
      labels.left_out.append((name, reason))
      continue
    splits.add(record["split"])
    if record["split"] == split:
      labels.add(
        f"imgs/{record[layout.image_key]}",
        {"people": [{"identity": int(key_of(record["id"])), "captions": record["captions"]}]},
      )
  if split not in splits and splits:
    raise ValueError(f"{setting}: {file} has no split {split!r}; it has {', '.join(sorted(splits))}")
  return labels


def _fault(record, layout: CaptionSet) -> str:
  """Returns why a record is unusable, or "" if it is usable."""
  if not isinstance(record, dict):
    return "it is not a JSON object"
  captions = record.get("captions")
  if not isinstance(captions, list) or not captions or not all(isinstance(text, str) and text for text in captions):
    return f"its captions are not a list of sentences: {str(captions)[:40]}"
  if isinstance(record.get("id"), bool) or not _WHOLE.fullmatch(key_of(record.get("id"))):
    return f"its id is not an integer: {str(record.get('id'))[:40]}"
  for key in ("split", layout.image_key):
    if not isinstance(record.get(key), str) or not record[key]:
      return f"it has no {key}"
  return ""
