"""Persons with joints in space, from a .npz of plain arrays, as 3DPW and Human3.6M are brought into.

The sets themselves come as pickles or as parameters of body models under a license of their own; whoever has them
writes, for n persons and J joints (np.savez, no objects):

    image       (n,) text: path of the photo below the folder of the file
    joints_xyz  (n, J, 3) meters in the camera's frame: x right, y down, z forward; nan where a joint is unknown
    joints      (J,) text: their names
    keypoints   (n, J, 3) x, y, v in pixels from the picture's edge, v as in records.py; optional where box is given
    box         (n, 4) x, y, width, height in pixels; optional: one around the keypoints is taken
    identity    (n,) whole numbers; optional
"""

import io
import zipfile

import numpy as np

from input_pipeline import storage
from input_pipeline.prepared import entries
from input_pipeline.sources.annotated.crops import DEFAULT_MARGIN, DEFAULT_MIN_SIDE, CropSource, open_crops
from input_pipeline.sources.annotated.matlab import refuse_pickle
from input_pipeline.sources.annotated.person import Annotated, Person, box_around, keypoints_of
from input_pipeline.sources.annotated.photos import Photos, existing
from input_pipeline.sources.annotated.whole import LabeledSource

_NEEDED = ("image", "joints_xyz", "joints")
_SHAPES = {"keypoints": (3,), "box": (4,), "identity": ()}

# Meters; nobody is wider, so numbers beyond are millimeters.
_WIDEST = 10.0


def open_joints_npz(
  path: str,
  split: str | None,
  cache_dir: str,
  setting: str,
  margin: float = DEFAULT_MARGIN,
  min_side: int = DEFAULT_MIN_SIDE,
  whole: bool = False,
) -> CropSource | LabeledSource:
  """The persons of a .npz with joints in space: `joints_xyz` in the order of `legend["joints"]`, null where unknown.

  Args:
    path: the .npz, or a folder of one for each split: train.npz, or 3dpw_train.npz and the like.
    split: the end of the file's name; None: train.
    cache_dir: where the list of persons is remembered.
    setting: the option that gave `path`, for messages.
    margin: what a box is grown by on every side, as a fraction of its larger side.
    min_side: pixels; a shorter side of the box inside the picture leaves a person out.
    whole: the photos with everybody in them instead of crops.

  Raises:
    ValueError: no such file, a pickle, arrays of another form, or no usable person.
  """
  refuse_pickle(path, setting, "a .npz of plain arrays (image, joints_xyz, joints, keypoints or box)")
  given = existing(path, setting, "a .npz of joints, or the folder of some")
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
  """The arrays of a file, checked against one another."""
  data = io.BytesIO(storage.read_file(file))
  if not zipfile.is_zipfile(data):  # numpy would take it for a pickle, and tell how to run it
    raise ValueError(f"{setting}: {file} is no .npz of plain arrays, or was cut off; get it again")
  try:
    with np.load(data, allow_pickle=False) as stored:
      arrays = {name: stored[name] for name in stored.files if name in _NEEDED or name in _SHAPES}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(f"{setting}: {file} is no .npz of plain arrays: {error}") from error
  missing = [name for name in _NEEDED if name not in arrays]
  if missing or not {"keypoints", "box"} & arrays.keys():
    raise ValueError(
      f"{setting}: {file} has no {' and no '.join(missing) or 'keypoints or box'}; it has "
      f"{', '.join(arrays) or 'none of the arrays of this form'}"
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
  if spread is not np.ma.masked and spread > _WIDEST:
    raise ValueError(
      f"{setting}: {file} has joints_xyz {spread:,.0f} from their middle; expected meters, not millimeters"
    )
  return arrays


def _read(file: str, photos: Photos, setting: str) -> Annotated:
  arrays, annotated = _arrays(file, setting), Annotated()
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
    annotated.persons.append(Person(photo, str(number), box, facts))
  return annotated
