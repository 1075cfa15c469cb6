"""Data sets in YOLO format: a text file per photo with boxes, polygons or poses in fractions of the upright photo."""

import concurrent.futures
import os
import posixpath

import yaml

from input_pipeline import storage
from input_pipeline.checks import is_number
from input_pipeline.sources.annotated.categories import is_person, key_of
from input_pipeline.sources.annotated.crop_source import CropSource
from input_pipeline.sources.annotated.crops import DEFAULT_MARGIN, DEFAULT_MIN_SIDE, open_crops
from input_pipeline.sources.annotated.labeled_images import LabeledSource
from input_pipeline.sources.annotated.person import AnnotatedPerson, Annotations, keypoints_of
from input_pipeline.sources.annotated.photos import Photos, existing

_THREADS = 16
_SPLITS = ("train", "val", "valid", "test")
_SEPARATED = "its line has commas or semicolons; expected numbers separated by spaces: 0 0.5 0.5 0.25 0.25"

# Larger coordinates are pixels, not fractions of the photo.
_LARGEST_FRACTION = 2.0


def open_yolo(
  path: str,
  split: str | None,
  cache_dir: str,
  setting: str,
  margin: float = DEFAULT_MARGIN,
  min_side: int = DEFAULT_MIN_SIDE,
  whole: bool = False,
) -> CropSource | LabeledSource:
  """Opens the persons of a data set in YOLO format.

  Persons are the classes that `names` in the .yaml calls person (people, ...), or all classes if there is none. The
  labels of .../images/x.jpg are in .../labels/x.txt, in labels/ beside the .yaml, or beside the photo; a photo without
  a label file has no persons. Coordinates are fractions of the photo with its orientation applied, measured from its
  edge.

  Args:
    path: the .yaml, or its folder.
    split: a key of the .yaml with photos; None for train.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.
    margin: growth of a box on every side, as a fraction of its larger side.
    min_side: pixels; a person is left out if the shorter side of its box, inside the photo, is smaller.
    whole: whole photos with all persons, instead of crops.

  Raises:
    ValueError: no usable .yaml, no such split, photos or labels are missing, or no usable person.
  """
  file, config = _config(path, setting)
  folder = file.rpartition("/")[0]
  wanted = split or "train"
  places = config.get(wanted)
  if not places:
    found = ", ".join(key for key in _SPLITS if config.get(key)) or "none"
    raise ValueError(f"{setting}={path} has no split {wanted!r}; {file} has {found}")
  root, below = _photo_place(places, folder, config, f"{setting}={path}: {file}")

  def read(photos: Photos) -> Annotations:
    found = [(name, "") for name in photos.below("")] if below is None else photos.find_all(below)
    names = list(dict.fromkeys(name for name, _ in found if name is not None))
    annotated = _read(photos, names, folder, config, f"{setting}={path}")
    annotated.left_out += [(name, reason) for name, (_, reason) in zip(below or (), found) if reason]
    return annotated

  return open_crops(
    "yolo",
    folder,
    root,
    [file],
    read,
    cache_dir=cache_dir,
    setting=setting,
    margin=margin,
    min_side=min_side,
    whole=whole,
    split=split,
  )


def _config(path: str, setting: str) -> tuple[str, dict]:
  """Returns the path of a data set's .yaml and its contents."""
  root = existing(path, setting, "the .yaml of a data set or its folder")
  try:
    if not storage.is_folder(root):
      return root, _parsed(root, setting)
    if storage.is_remote(root):
      names = [name for name, _ in storage.list_files(root)]
    else:
      names = [*os.listdir(root)]
      names += [
        f"{name}/{child}" for name in names if os.path.isdir(f"{root}/{name}") for child in os.listdir(f"{root}/{name}")
      ]
  except OSError as error:
    raise ValueError(f"{setting}={path} cannot be read: {error}") from error
  found = sorted(
    (name for name in names if name.lower().endswith((".yaml", ".yml")) and name.count("/") < 2),
    key=lambda name: (name.count("/"), name),
  )
  usable = {}
  for name in found:
    if not usable or name.count("/") == next(iter(usable)).count("/"):  # those in the folder itself come first
      config = _parsed(f"{root}/{name}", setting)
      usable |= {name: config} if "names" in config else {}
  if len(usable) != 1:
    what = f"several: {', '.join(usable)}; give one of them as the path" if usable else "none"
    raise ValueError(f"{setting}={path}: expected one .yaml with the `names` of the classes; found {what}")
  [(name, config)] = usable.items()
  return f"{root}/{name}", config


def _parsed(file: str, setting: str) -> dict:
  try:
    config = yaml.safe_load(storage.read_file(file))
  except (OSError, ValueError, yaml.YAMLError) as error:
    raise ValueError(f"{setting}: {file} cannot be read as YAML: {' '.join(str(error).split())}") from error
  if not isinstance(config, dict):
    raise ValueError(f"{setting}: {file} is not a mapping; expected `names` and `train`")
  return config


def _photo_place(places, folder: str, config: dict, where: str) -> tuple[str, list[str] | None]:
  """Returns the folder of the photos, and their paths below it if they are listed one by one (otherwise None)."""
  places = places if isinstance(places, list) else [places]
  base = _joined(folder, str(config.get("path") or "."))
  found = []
  for place in map(str, places):
    place = place.replace("\\", "/")
    # Some exporters write ../ for their own folder; some data sets share the photos of the folder above.
    tries = [
      _joined(base, place),
      *(_joined(folder, other) for other in (place, place.removeprefix("../"), f"../{place}", *_tails(place))),
    ]
    there = next((candidate for candidate in tries if storage.exists(candidate)), None)
    if there is None:
      raise ValueError(f"{where} names {place}, which does not exist; expected a folder of photos")
    found.append(there)
  if len(found) == 1 and storage.is_folder(found[0]):
    return found[0], None
  root = base if storage.is_folder(base) else folder
  names = []
  for place in found:
    if storage.is_folder(place):
      names += [os.path.relpath(f"{place}/{name}", root) for name in Photos(place).below("")]
    else:
      lines = map(str.strip, storage.lines_of(storage.read_file(place)))
      names += [os.path.relpath(os.path.join(root, line), root) for line in lines if line]
  return root, names


def _tails(place: str) -> list[str]:
  """Returns what an absolute path of another machine may mean: C:/a/images/val gives a/images/val, images/val, val."""
  start, *parts = place.split("/")
  return ["/".join(parts[k:]) for k in range(len(parts)) if parts[k]] if start == "" or start.endswith(":") else []


def _joined(folder: str, place: str) -> str:
  """Returns a path relative to a folder, without `..`; links stay, as labels are found by the paths of the photos."""
  if storage.is_remote(place) or place.startswith("/"):
    return place.rstrip("/")
  scheme, found, below = folder.rpartition("://")
  return scheme + found + posixpath.normpath(f"{below}/{place}")


def _read(photos: Photos, names: list[str], folder: str, config: dict, given: str) -> Annotations:
  """Reads the persons in the label files of these photos."""
  annotated = Annotations()
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    labels = [*pool.map(lambda name: _labels(f"{photos.root}/{name}", folder), names, chunksize=16)]
  labeled = [(name, file, lines) for name, (file, lines) in zip(names, labels) if file]
  if not labeled:
    looked = ", ".join(_label_files(f"{photos.root}/{names[0]}", folder)) if names else "no photo"
    raise ValueError(f"{given}: none of {len(names):,} photos in {photos.root} has a label file; looked for {looked}")
  annotated.read_from |= {file.rpartition("/")[0] for _, file, _ in labeled if not storage.is_remote(file)}
  classes = config["names"] if isinstance(config.get("names"), dict) else dict(enumerate(config.get("names") or ()))
  classes = {str(key): str(name) for key, name in classes.items()}
  persons = {key for key, name in classes.items() if is_person(name)} or set(classes)
  annotated.photos |= {name: {} for name, _, _ in labeled}
  photos.measure(name for name, _, lines in labeled if any(lines))
  for name, _, lines in labeled:
    for number, line in enumerate(lines, 1):
      words = line.split()
      if not words:
        continue
      if "," in line or ";" in line:
        annotated.left_out.append((f"{name}#{number}", _SEPARATED))
        continue
      if (key := key_of(words[0])) not in classes:
        annotated.left_out.append((f"{name}#{number}", f"its class {words[0][:20]!r} is not in `names`"))
        continue
      annotated.count_category(classes[key], key in persons)
      if key not in persons:
        continue
      header = photos.header(name)
      person, reason = None, header
      if not isinstance(header, str):
        person, reason = _person(name, str(number), words, header, config, classes, annotated)
      if reason:
        annotated.left_out.append((f"{name}#{number}", reason))
      else:
        annotated.persons.append(person)
  return annotated


def _label_files(photo: str, folder: str) -> list[str]:
  """Returns the possible paths of the labels of a photo."""
  stem = os.path.splitext(photo)[0]
  before, found, after = stem.rpartition("/images/")
  beside = [f"{before}/labels/{after}.txt", f"{folder}/labels/{after}.txt"] if found else []
  return [*dict.fromkeys(beside), f"{stem}.txt"]


def _labels(photo: str, folder: str) -> tuple[str | None, list[str]]:
  """Returns (label file, its lines) of a photo; (None, []) if there is none."""
  for file in _label_files(photo, folder):
    try:
      return file, storage.lines_of(storage.read_file(file))
    except FileNotFoundError:
      continue
  return None, []


def _person(
  photo: str,
  name: str,
  words: list[str],
  header: tuple[int, int, int],
  config: dict,
  classes: dict,
  annotated: Annotations,
) -> tuple:
  """Returns (person, "") for one line, or (None, reason)."""
  try:
    values = [float(word) for word in words[1:]]
  except ValueError:
    return None, "its line has a word that is not a number"
  shape = config.get("kpt_shape")
  joints, numbers_each = shape if isinstance(shape, (list, tuple)) and len(shape) == 2 else (0, 0)
  pose = joints and len(values) == 4 + joints * numbers_each
  if not all(map(is_number, values)) or max(map(abs, values[:4] if pose else values), default=9) > _LARGEST_FRACTION:
    return None, "its coordinates are not fractions of the photo; expected 0 to 1"
  width, height = header[:2] if header[2] < 5 else header[1::-1]
  size, facts, mask = (width, height), {}, None
  if pose or len(values) in (4, 5):
    x, y, w, h = (value * side for value, side in zip(values, size * 2))
    box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    if len(values) == 5 and not pose:
      facts["score"] = values[4]
  elif len(values) >= 6 and len(values) % 2 == 0:
    points = [value * size[k % 2] for k, value in enumerate(values)]
    mask = {"polygons": [[round(point, 3) for point in points]]}
    box = (min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2]))
  else:
    return None, f"its line has {len(values)} numbers; expected a box (4), a polygon (6, 8, ...)" + (
      f" or a box and {joints} keypoints ({4 + joints * numbers_each})" if joints else ""
    )
  if pose:
    points = [
      (values[k] * width, values[k + 1] * height, values[k + 2] if numbers_each == 3 else 2 * any(values[k : k + 2]))
      for k in range(4, len(values), numbers_each)
    ]
    kind = classes[key_of(words[0])]
    names = config.get("kpt_names")
    names = next(iter(names.values()), ()) if isinstance(names, dict) else names or ()
    facts |= {"keypoints": keypoints_of(points, 0.0), "joints": annotated.joint_list(kind, list(names), joints)}
  return AnnotatedPerson(photo, name, box, facts, mask=mask, upright=True), ""
