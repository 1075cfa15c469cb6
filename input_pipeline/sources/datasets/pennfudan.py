"""Penn-Fudan: pedestrians in PASCAL's first text format, with one PNG of masks per photo."""

import os
import re

from input_pipeline import storage
from input_pipeline.sources.annotated.crop_source import CropSource
from input_pipeline.sources.annotated.crops import DEFAULT_MARGIN, DEFAULT_MIN_SIDE, open_crops
from input_pipeline.sources.annotated.labeled_images import LabeledSource
from input_pipeline.sources.annotated.person import AnnotatedPerson, Annotations
from input_pipeline.sources.annotated.photos import Photos, existing

_FOLDER = "Annotation"
_PHOTO = re.compile(r'^Image filename\s*:\s*"(.+)"', re.MULTILINE)
_SIZE = re.compile(r"^Image size.*:\s*(\d+)\s*x\s*(\d+)", re.MULTILINE)
_BOX = re.compile(r"^Bounding box for object (\d+).*:\s*\((\d+),\s*(\d+)\)\s*-\s*\((\d+),\s*(\d+)\)", re.MULTILINE)
_MASK = re.compile(r'^Pixel mask for object (\d+).*:\s*"(.+)"', re.MULTILINE)


def open_pennfudan(
  path: str,
  split: str | None,
  cache_dir: str,
  setting: str,
  margin: float = DEFAULT_MARGIN,
  min_side: int = DEFAULT_MIN_SIDE,
  whole: bool = False,
) -> CropSource | LabeledSource:
  """Opens the pedestrians of Penn-Fudan, with their masks.

  Args:
    path: the folder with PNGImages/, Annotation/ and PedMasks/, or the folder above it.
    split: unused; the data set has no splits.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.
    margin: growth of a box on every side, as a fraction of its larger side.
    min_side: pixels; a person is left out if the shorter side of its box, inside the photo, is smaller.
    whole: whole photos with all persons, instead of crops.

  Raises:
    ValueError: no such folder, or no usable person.
  """
  del split
  given = existing(path, setting, "the folder of Penn-Fudan")
  root = next((place for place in (given, f"{given}/PennFudanPed") if storage.is_folder(f"{place}/{_FOLDER}")), None)
  if root is None:
    raise ValueError(f"{setting}={path} is not Penn-Fudan; expected a folder with PNGImages/, Annotation/, PedMasks/")
  return open_crops(
    "pennfudan",
    root,
    root,
    [f"{root}/{_FOLDER}"] * (not storage.is_remote(root)),
    _read,
    cache_dir=cache_dir,
    setting=setting,
    margin=margin,
    min_side=min_side,
    whole=whole,
  )


def _read(photos: Photos) -> Annotations:
  annotated, folder = Annotations(), f"{photos.root}/{_FOLDER}"
  if storage.is_remote(folder):
    names = [name for name, _ in storage.list_files(folder)]
  else:
    names = sorted(os.listdir(folder))
  for name in names:
    if not name.endswith(".txt"):
      continue
    text = storage.text_of(storage.read_file(f"{folder}/{name}"))
    named, size = _PHOTO.search(text), _SIZE.search(text)
    photo, reason = photos.find(named[1]) if named else (None, "it names no photo")
    boxes = _BOX.findall(text)
    if reason or not boxes:
      annotated.left_out.append((f"{_FOLDER}/{name}", reason or "it has no box"))
      continue
    masks = {number: photos.find(mask)[0] for number, mask in _MASK.findall(text)}
    for number, *corners in boxes:
      xmin, ymin, xmax, ymax = map(int, corners)  # pixel indices from 1, the last one included
      mask = {"png": masks[number], "value": int(number)} if masks.get(number) else None
      annotated.persons.append(
        AnnotatedPerson(
          photo,
          number,
          (xmin - 1, ymin - 1, xmax, ymax),
          {},
          mask=mask,
          size=(int(size[1]), int(size[2])) if size else None,
        )
      )
  return annotated
