"""Leeds Sports Pose (LSP) and its extended training set (LSPET): joints.mat and numbered photos."""

import io
import os
import re

import numpy as np
import scipy  # imports scipy.io on first use

from input_pipeline import storage
from input_pipeline.sources.annotated.crop_source import CropSource
from input_pipeline.sources.annotated.crops import DEFAULT_MARGIN, DEFAULT_MIN_SIDE, open_crops
from input_pipeline.sources.annotated.labeled_images import LabeledSource
from input_pipeline.sources.annotated.person import AnnotatedPerson, Annotations, box_around, keypoints_of
from input_pipeline.sources.annotated.photos import NO_PHOTO, Photos, existing

_FILE = "joints.mat"
_LSP_TRAIN = 1000  # the first photos of LSP are its training set
_NUMBER = re.compile(r"(\d+)\.\w+$")

# The joints in the order of the file, which does not name them.
_JOINTS = (
  "right_ankle",
  "right_knee",
  "right_hip",
  "left_hip",
  "left_knee",
  "left_ankle",
  "right_wrist",
  "right_elbow",
  "right_shoulder",
  "left_shoulder",
  "left_elbow",
  "left_wrist",
  "neck",
  "head_top",
)


def open_lsp(
  path: str,
  split: str | None,
  cache_dir: str,
  setting: str,
  margin: float = DEFAULT_MARGIN,
  min_side: int = DEFAULT_MIN_SIDE,
  whole: bool = False,
) -> CropSource | LabeledSource:
  """Opens the persons of LSP or LSPET; the box of a person is made from its joints (see `box_around`).

  Args:
    path: the folder with joints.mat and images/, or joints.mat itself.
    split: "train" or "test": as usual, the first thousand photos of LSP and the others; all of LSPET is "train".
      None for all persons.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.
    margin: growth of a box on every side, as a fraction of its larger side.
    min_side: pixels; a person is left out if the shorter side of its box, inside the photo, is smaller.
    whole: whole photos with all persons, instead of crops.

  Raises:
    ValueError: no such file or split, another format, or no usable person.
  """
  given = existing(path, setting, "the folder of LSP or LSPET")
  file = given if given.endswith(".mat") else f"{given}/{_FILE}"
  if not storage.exists(file):
    raise ValueError(f"{setting}={path} is not LSP; expected a folder with {_FILE} and images/")
  root = file.rpartition("/")[0]
  return open_crops(
    "lsp",
    root,
    root,
    [file],
    lambda photos: _read(photos, file, split, setting),
    cache_dir=cache_dir,
    setting=setting,
    margin=margin,
    min_side=min_side,
    whole=whole,
    split=split,
  )


def _read(photos: Photos, file: str, split: str | None, setting: str) -> Annotations:
  joints, visible, extended = _joints(file, setting)
  if extended and split == "test":
    raise ValueError(
      f"{setting}: {file} is LSPET, which is a training set and has no split 'test'; choose LSP, or --hold-out "
      "of `saip evaluate`"
    )
  by_number = {int(match[1]): name for name in photos.below("") if (match := _NUMBER.search(name))}
  annotated = Annotations()
  for index, (points, flags) in enumerate(zip(joints.tolist(), visible.tolist())):
    number = index + 1
    if split and not extended and (number <= _LSP_TRAIN) != (split == "train"):
      continue
    photo = by_number.get(number)
    keypoints = keypoints_of([(x, y, v) for (x, y), v in zip(points, flags)], -0.5)  # pixels from 1
    box = box_around(keypoints)
    if photo is None or box is None:
      reason = NO_PHOTO if photo is None else "fewer than two of its joints are known"
      annotated.left_out.append((photo or f"image {number}", reason))
      continue
    facts = {"keypoints": keypoints, "joints": annotated.joint_list("person", _JOINTS, len(keypoints))}
    annotated.persons.append(AnnotatedPerson(photo, str(number), box, facts))
  return annotated


def _joints(file: str, setting: str) -> tuple[np.ndarray, np.ndarray, bool]:
  """Returns joints (photos, joints, 2) in pixels from 1, v (photos, joints), and whether the file is LSPET's.

  In LSPET the axes are (joints, 3, photos) and the flag is 1 for a visible joint, 0 for an unknown one. In LSP the
  axes are (3, joints, photos) and the flag is 1 for a hidden joint.
  """
  try:
    joints = np.asarray(scipy.io.loadmat(io.BytesIO(storage.read_file(file)))["joints"], np.float64)
  except Exception as error:  # scipy raises many types on other files
    raise ValueError(f"{setting}: {file} cannot be read as MATLAB's joints (before version 7.3): {error}") from error
  joints = joints[..., None] if joints.ndim == 2 else joints
  if joints.ndim != 3 or 3 not in joints.shape[:2]:
    raise ValueError(
      f"{setting}: {os.path.basename(file)} has joints of shape {joints.shape}; expected (14, 3, "
      "photos) or (3, 14, photos)"
    )
  if joints.shape[1] == 3:
    joints = joints.transpose(2, 0, 1)
    return joints[..., :2], np.where(joints[..., 2] > 0, 2, 0), True
  joints = joints.transpose(2, 1, 0)
  return joints[..., :2], np.where(joints[..., 2] > 0, 1, 2), False
