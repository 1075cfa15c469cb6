"""Persons with 3D joints, from a .npz of plain arrays, to which 3DPW and Human3.6M are converted.

These data sets come as pickles, or as parameters of body models with their own license, and are not read directly.
The .npz has, for n persons and J joints (np.savez, no objects):

    image       (n,) text: path of the photo below the folder of the file
    joints_xyz  (n, J, 3) meters in the camera's frame: x right, y down, z forward; nan if a joint is unknown
    joints      (J,) text: names of the joints
    keypoints   (n, J, 3) x, y, v in pixels from the photo's edge, v as in records.py; optional if there is `box`
    box         (n, 4) x, y, width, height in pixels; optional: made from the keypoints
    identity    (n,) integers; optional
"""

import io
import zipfile

import numpy as np

from input_pipeline import storage
from input_pipeline.prepared import entries
from input_pipeline.sources.annotated.crop_source import CropSource
from input_pipeline.sources.annotated.crops import DEFAULT_MARGIN, DEFAULT_MIN_SIDE, open_crops
from input_pipeline.sources.annotated.labeled_images import LabeledSource
from input_pipeline.sources.annotated.matlab import refuse_pickle
from input_pipeline.sources.annotated.person import AnnotatedPerson, Annotations, box_around, keypoints_of
from input_pipeline.sources.annotated.photos import Photos, existing

_NEEDED = ("image", "joints_xyz", "joints")
_SHAPES = {"keypoints": (3,), "box": (4,), "identity": ()}

# Meters; persons are smaller, so larger values are millimeters.
_MAX_SPREAD = 10.0


def open_joints_npz(
  path: str,
  split: str | None,
  cache_dir: str,
  setting: str,
  margin: float = DEFAULT_MARGIN,
  min_side: int = DEFAULT_MIN_SIDE,
  whole: bool = False,
) -> CropSource | LabeledSource:
  """Opens the persons of a .npz with 3D joints: `joints_xyz` in the order of `legend["joints"]`, None if unknown.

  Args:
    path: the .npz, or a folder with one .npz per split, e.g. train.npz or 3dpw_train.npz.
    split: the end of the file's name; None for train.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.
    margin: growth of a box on every side, as a fraction of its larger side.
    min_side: pixels; a person is left out if the shorter side of its box, inside the photo, is smaller.
    whole: whole photos with all persons, instead of crops.

  Raises:
    ValueError: no such file, a pickle, missing or malformed arrays, or no usable person.
  """
  refuse_pickle(path, setting, "a .npz of plain arrays (image, joints_xyz, joints, keypoints or box)")
  given = existing(path, setting, "a .npz of joints, or a folder of them")
  file = given if not storage.is_folder(given) else _file_of_split(given, split or "train", f"{setting}={path}")
  root = file.rpartition("/")[0]
  return open_crops(
    "joints3d",
    given,
    root,
    [file],
    lambda photos: _read(file, photos, setting),
    cache_dir=cache_dir,
    setting=setting,
    margin=margin,
    min_side=min_side,
    whole=whole,
    split=split,
  )


def _file_of_split(folder: str, split: str, given: str) -> str:
  names = sorted(name for name in entries(folder) if name.endswith(".npz") and "/" not in name)
  found = [name for name in names if name == f"{split}.npz" or name.endswith(f"_{split}.npz")]
  if len(found) != 1:
    raise ValueError(
      f"{given} has {len(found)} files {split}.npz or *_{split}.npz; expected one. It has "
      f"{', '.join(names) or 'no .npz'}"
    )
  return f"{folder}/{found[0]}"


def _arrays(file: str, setting: str) -> dict[str, np.ndarray]:
  """Reads the arrays of a file and checks them against each other."""
  data = io.BytesIO(storage.read_file(file))
  if not zipfile.is_zipfile(data):  # numpy would read it as a pickle
    raise ValueError(f"{setting}: {file} is not a .npz of plain arrays, or truncated; get it again")
  try:
    with np.load(data, allow_pickle=False) as stored:
      arrays = {name: stored[name] for name in stored.files if name in _NEEDED or name in _SHAPES}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(f"{setting}: {file} is not a .npz of plain arrays: {error}") from error
  missing = [name for name in _NEEDED if name not in arrays]
  if missing or not {"keypoints", "box"} & arrays.keys():
    raise ValueError(
      f"{setting}: {file} has no {' and no '.join(missing) or 'keypoints or box'}; it has "
      f"{', '.join(arrays) or 'none of the expected arrays'}"
    )
  count, joints = len(arrays["image"]), len(arrays["joints"])
  shapes = {
    name: (count, joints, *shape) if name == "keypoints" else (count, *shape) for name, shape in _SHAPES.items()
  } | {"joints_xyz": (count, joints, 3)}
  for name, shape in shapes.items():
    if name in arrays and arrays[name].shape != shape:
      raise ValueError(
        f"{setting}: {file} has {name} of shape {arrays[name].shape}; expected {shape} for {count} "
        f"images and {joints} joints"
      )
  places = np.ma.masked_invalid(arrays["joints_xyz"].astype(np.float64))
  spread = np.ma.median(np.abs(places - places.mean(1, keepdims=True)))
  if spread is not np.ma.masked and spread > _MAX_SPREAD:
    raise ValueError(
      f"{setting}: {file} has joints_xyz {spread:,.0f} from their mean; expected meters, not millimeters"
    )
  return arrays


def _read(file: str, photos: Photos, setting: str) -> Annotations:
  arrays, annotated = _arrays(file, setting), Annotations()
  names = [str(name) for name in arrays["joints"]]
  for number, image in enumerate(map(str, arrays["image"])):
    photo, reason = photos.find(image, base_is_enough=False)
    places = arrays["joints_xyz"][number].tolist()
    facts = {
      "joints": annotated.joint_list("person", names, len(names)),
      "joints_xyz": [place if all(map(np.isfinite, place)) else None for place in places],
    }
    if "identity" in arrays:
      facts["identity"] = int(arrays["identity"][number])
    if "keypoints" in arrays:
      facts["keypoints"] = keypoints_of(arrays["keypoints"][number].tolist(), 0.0)
    x, y, width, height = arrays["box"][number].tolist() if "box" in arrays else [0.0] * 4
    box = (x, y, x + width, y + height) if "box" in arrays else box_around(facts["keypoints"])
    if not any(facts["joints_xyz"]):
      reason = reason or "none of its joints is known"
    if reason or not box or not all(map(np.isfinite, box)):
      annotated.left_out.append((f"{image}#{number}", reason or "it has no box, and no keypoints to make one from"))
      continue
    annotated.persons.append(AnnotatedPerson(photo, str(number), box, facts))
  return annotated
