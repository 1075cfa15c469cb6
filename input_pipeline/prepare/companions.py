"""Files that lie beside the images of a source: depth, masks, keypoints, and lists of pairs."""

import dataclasses
import io
import json
import os

import cv2
import numpy as np

from input_pipeline import storage
from input_pipeline.people.landmarks import COCO_JOINTS
from input_pipeline.records import image_format
from input_pipeline.sources.base import ImageSource


@dataclasses.dataclass(frozen=True)
class Companions:
  """Where the companions of an image lie.

  A place is a folder with the same tree of names, or a pattern in which `{name}` stands for the image's path without
  its extension and `{stem}` for the last part of that. An image without a companion goes without.

  Attributes:
    depth: .png of 16 bits in millimetres, or .npy of floats in metres; 0: nothing is known.
    instances: masks, .png or .jpg of one channel: 0 nobody, k the k-th person; or 0 and 255 (a JPEG is cut at 127).
    keypoints: .npy (no pickles) or .json of [[x, y, v], ...] for each person, or .json as OpenPose writes it; x and y
      in pixels from the image's edge.
    pairs: a text file with a line for each pair: the names of two images and, if it has one, its kind, separated by
      tabs. The set then holds the pairs: the first image with the second as its partner.
    joints: what the keypoints are, in their order: names with commas between, or "coco" for its 17.
  """

  depth: str | None = None
  instances: str | None = None
  keypoints: str | None = None
  pairs: str | None = None
  joints: str | None = None

  def __post_init__(self):
    if self.joints is not None and self.keypoints is None:
      raise ValueError(f"--joints={self.joints} names keypoints: it goes with --keypoints")


def with_companions(source: ImageSource, companions: Companions) -> ImageSource:
  """The source with its companions among the annotations; raises ValueError for places that do not exist."""
  for flag in ("depth", "instances", "keypoints", "pairs"):
    place = getattr(companions, flag)
    if place is not None and "{" not in place and not storage.exists(storage.normalized(place)):
      raise ValueError(f"--{flag}={place} does not exist")
  beside = dataclasses.replace(companions, pairs=None)
  if beside != Companions():
    source = _WithFilesBeside(source, beside)
  return source if companions.pairs is None else _Pairs(source, companions.pairs)


class _Wrapped(ImageSource):
  """A source that says the same as another."""

  def __init__(self, source: ImageSource):
    self._source = source
    self.identity, self.left_out, self.legend = source.identity, source.left_out, source.legend

  def __len__(self) -> int:
    return len(self._source)

  def read(self, i: int) -> bytes:
    return self._source.read(i)

  def name(self, i: int) -> str:
    return self._source.name(i)

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    return self._source.annotations(i)


class _WithFilesBeside(_Wrapped):

  def __init__(self, source: ImageSource, companions: Companions):
    super().__init__(source)
    self._companions = companions
    if joints := companions.joints:
      self.legend = self.legend | {"joints": list(COCO_JOINTS) if joints == "coco" else joints.split(",")}

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    facts, files = super().annotations(i)
    name = os.path.splitext(self.name(i))[0]
    files = dict(files)
    if depth := _beside(self._companions.depth, name, (".png", ".npy")):
      files["depth.png"] = _depth_png(*depth)
    if instances := _beside(self._companions.instances, name, (".png", ".jpg")):
      files["instances.png"] = _instances_png(*instances)
    if keypoints := _beside(self._companions.keypoints, name, (".npy", ".json")):
      facts = facts | {"people": _merged(facts.get("people", []), _read_keypoints(*keypoints))}
    return facts, files


class _Pairs(_Wrapped):

  def __init__(self, source: ImageSource, path: str):
    super().__init__(source)
    index = {source.name(i): i for i in range(len(source))}
    self._pairs, missing = [], []
    for line in storage.read_file(storage.normalized(path)).decode("utf-8", "surrogateescape").splitlines():
      if not line or line.startswith("#"):
        continue
      first, second, *kind = line.split("\t") + [""] * (2 - line.count("\t"))
      if first in index and second in index:
        self._pairs.append((index[first], index[second], kind[0] if kind else ""))
      else:
        missing.append((line.replace("\t", " + "), "a pair whose images are not both there"))
    if not self._pairs:
      raise ValueError(f"--pairs={path}: none of its {len(missing)} lines names two images of the source; expected "
                       f"NAME<tab>NAME<tab>kind, e.g. {source.name(0)}<tab>{source.name(len(source) - 1)}<tab>view")
    self.left_out = [*source.left_out, *missing]
    self.identity = source.identity | {"length": len(self._pairs)}

  def __len__(self) -> int:
    return len(self._pairs)

  def read(self, i: int) -> bytes:
    return super().read(self._pairs[i][0])

  def name(self, i: int) -> str:
    first, second, _ = self._pairs[i]
    return f"{super().name(first)} + {super().name(second)}"

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    first, second, kind = self._pairs[i]
    partner = self._source.read(second)
    facts, files = self._source.annotations(first)
    return facts | {"pair": kind}, {f"partner.{image_format(partner)}": partner} | files


def _beside(place: str | None, name: str, extensions: tuple[str, ...]) -> tuple[str, bytes] | None:
  """The path and bytes of an image's companion, if there is one."""
  if place is None:
    return None
  if "{" in place:
    paths = [place.replace("{name}", name).replace("{stem}", os.path.basename(name))]
  else:
    paths = [f"{place}/{name}{extension}" for extension in extensions]
  for path in paths:
    path = storage.normalized(path)
    if storage.exists(path):
      return path, storage.read_file(path)
  return None


def _array(path: str, data: bytes) -> np.ndarray:
  try:
    return np.load(io.BytesIO(data), allow_pickle=False)
  except (ValueError, EOFError) as error:
    raise OSError(f"{path} is no array that can be read ({error}); pickles are never loaded, np.save plain "
                  "numbers") from error


def _plane(path: str, data: bytes) -> np.ndarray:
  plane = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
  if plane is None:
    raise OSError(f"{path} cannot be decoded")
  if plane.ndim == 3:
    raise OSError(f"{path} has {plane.shape[2]} channels; expected one")
  return plane


def _png(plane: np.ndarray) -> bytes:
  return cv2.imencode(".png", plane)[1].tobytes()


def _depth_png(path: str, data: bytes) -> bytes:
  if path.endswith(".npy"):
    metres = np.nan_to_num(_array(path, data).squeeze(), posinf=0, neginf=0)
    if metres.ndim != 2:
      raise OSError(f"{path} has the shape {metres.shape}; expected (height, width)")
    return _png(np.clip(np.rint(metres * 1000.), 0, 65535).astype(np.uint16))
  plane = _plane(path, data)
  if plane.dtype != np.uint16:
    raise OSError(f"{path} has {plane.itemsize * 8} bits; depth in millimetres needs 16")
  return data


def _instances_png(path: str, data: bytes) -> bytes:
  plane = _plane(path, data)
  if path.endswith(".jpg"):
    return _png((plane > 127).astype(np.uint8))
  if plane.dtype != np.uint8:
    raise OSError(f"{path} has {plane.itemsize * 8} bits; masks of up to 255 persons have 8")
  return _png((plane == 255).astype(np.uint8)) if set(np.unique(plane)) <= {0, 255} else data


def _read_keypoints(path: str, data: bytes) -> list[list[list[float]]]:
  """Persons x joints x [x, y, v]."""
  if path.endswith(".npy"):
    people = _array(path, data)
  else:
    try:
      content = json.loads(data)
    except ValueError as error:
      raise OSError(f"{path} is no JSON: {error}") from error
    if isinstance(content, dict):  # OpenPose
      content = [np.reshape(person["pose_keypoints_2d"], (-1, 3)).tolist() for person in content.get("people", [])]
    try:
      people = np.array(content, np.float64)
    except (TypeError, ValueError) as error:
      raise OSError(f"{path}: expected [[x, y, v], ...] for each person") from error
  people = people[None] if people.ndim == 2 else people
  if people.size == 0:
    return []
  if people.ndim != 3 or people.shape[2] not in (2, 3):
    raise OSError(f"{path} has the shape {people.shape}; expected (joints, 3) or (persons, joints, 3)")
  if people.shape[2] == 2:
    people = np.concatenate([people, np.full_like(people[..., :1], 2)], -1)
  return people.astype(np.float64).tolist()


def _merged(people: list[dict], keypoints: list) -> list[dict]:
  """Persons that the source knows, with these keypoints."""
  people = people + [{}] * (len(keypoints) - len(people))
  return [person | {"keypoints": points} for person, points in zip(people, keypoints)] + people[len(keypoints):]
