"""Files beside the images of a source that become annotations: depth, masks, keypoints, and lists of pairs."""

import dataclasses
import io
import json
import os

import cv2
import numpy as np

from input_pipeline import storage
from input_pipeline.body import COCO_JOINTS
from input_pipeline.decode import upright_hw
from input_pipeline.planes import UnusablePlane, checked_depth, decode_plane, depth_in_mm, shifted_plane
from input_pipeline.records import image_format
from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import SubsetSource
from input_pipeline.sources.containers.folder import FolderSource
from input_pipeline.sources.containers.frames import FrameSource
from input_pipeline.sources.spelling import positions_of

_DEPTH_ENDINGS, _MASK_ENDINGS, _POINT_ENDINGS = (".png", ".npy"), (".png", ".jpg"), (".npy", ".json")


@dataclasses.dataclass(frozen=True)
class SideFiles:
  """The places of the side files of an image.

  A place is a folder with the same tree of names, or a pattern with `{name}`, the image's path without extension,
  `{stem}`, the last part of that path, and `{number}`, the part of the stem before its first `_`. An image need not
  have a side file. A side file of another image is not an image itself.

  Attributes:
    depth: .png with 16 bits in millimeters, or .npy with floats in meters; 0 and infinite values are unknown.
    depth_grid: (scale, x, y) if depth is not on the image's grid: its point p is at scale * p + (x, y) in the image,
      in pixels from the edge.
    depth_range: nearest and farthest valid depth, meters.
    instances: masks, .png or .jpg with one channel: 0 for background and k for the k-th person, or 0 and 255 (a JPEG
      is thresholded at 127).
    keypoints: .npy (no pickles) or .json with [[x, y, v], ...] for each person, or .json in OpenPose's format; x and
      y in pixels from the image's edge.
    pairs: a text file with one pair per line: the names of two images and optionally the kind of pair, separated by
      tabs. The set then holds the pairs: the first image with the second as its partner.
    joints: names of the keypoints in their order, separated by commas, or "coco" for its 17.
  """

  depth: str | None = None
  depth_grid: tuple[float, float, float] | None = None
  depth_range: tuple[float, float] | None = None
  instances: str | None = None
  keypoints: str | None = None
  pairs: str | None = None
  joints: str | None = None

  def __post_init__(self):
    if self.joints is not None and self.keypoints is None:
      raise ValueError(f"--joints={self.joints} names keypoints: it needs --keypoints")
    if self.depth is None and (self.depth_grid or self.depth_range):
      raise ValueError("--depth-grid and --depth-range describe depth: they need --depth")
    if self.depth_grid and self.depth_grid[0] <= 0:
      raise ValueError(f"--depth-grid={','.join(map(str, self.depth_grid))}: the scale must be positive")


def with_side_files(source: ImageSource, side_files: SideFiles) -> ImageSource:
  """Returns the source with its side files among the annotations; raises ValueError for places that do not exist."""
  for flag in ("depth", "instances", "keypoints", "pairs"):
    place = getattr(side_files, flag)
    if place is not None and "{" not in place and not storage.exists(storage.normalized(place)):
      raise ValueError(f"--{flag}={place} does not exist")
  beside = dataclasses.replace(side_files, pairs=None)
  if beside != SideFiles():
    source = _WithSideFiles(_without_side_files(source, beside), beside)
  return source if side_files.pairs is None else _Pairs(source, side_files.pairs)


class _Wrapped(ImageSource):
  """A source that forwards everything to another one."""

  def __init__(self, source: ImageSource):
    self._source = source
    self.identity, self.left_out, self.legend = source.identity, source.left_out, source.legend
    self.categories = source.categories

  def __len__(self) -> int:
    return len(self._source)

  def read(self, i: int) -> bytes:
    return self._source.read(i)

  def name(self, i: int) -> str:
    return self._source.name(i)

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    return self._source.annotations(i)


class _WithSideFiles(_Wrapped):
  def __init__(self, source: ImageSource, side_files: SideFiles):
    super().__init__(source)
    self._side_files = side_files
    if joints := side_files.joints:
      self.legend = self.legend | {"joints": list(COCO_JOINTS) if joints == "coco" else joints.split(",")}

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    facts, files = super().annotations(i)
    name = os.path.splitext(self.name(i))[0]
    files = dict(files)
    if depth := _read_side_file(self._side_files.depth, name, _DEPTH_ENDINGS):
      files["depth.png"] = self._depth_png(i, *depth)
    if instances := _read_side_file(self._side_files.instances, name, _MASK_ENDINGS):
      files["instances.png"] = _instances_png(*instances)
    if keypoints := _read_side_file(self._side_files.keypoints, name, _POINT_ENDINGS):
      facts = facts | {"people": _merged(facts.get("people", []), _read_keypoints(*keypoints))}
    return facts, files

  def _depth_png(self, i: int, path: str, data: bytes) -> bytes:
    try:
      plane = depth_in_mm(_array(path, data)) if path.endswith(".npy") else decode_plane(data)
      depth = checked_depth(plane, self._side_files.depth_range)
    except UnusablePlane as error:
      raise OSError(f"{path}: {error}") from error
    if self._side_files.depth_grid:
      depth = shifted_plane(depth, *self._side_files.depth_grid, upright_hw(self.read(i)))
    return _png(depth) if path.endswith(".npy") or depth is not plane else data


class _Pairs(_Wrapped):
  def __init__(self, source: ImageSource, path: str):
    super().__init__(source)
    lines = [
      line
      for line in storage.lines_of(storage.read_file(storage.normalized(path)))
      if line.strip() and not line.startswith("#")
    ]
    pairs = [line.split("\t") + [""] * (2 - line.count("\t")) for line in lines]
    found = positions_of([source.name(i) for i in range(len(source))], {name for pair in pairs for name in pair[:2]})
    self._pairs, missing = [], []
    for line, (first, second, *kind) in zip(lines, pairs):
      if len(found[first]) == len(found[second]) == 1:
        self._pairs.append((found[first][0], found[second][0], kind[0].strip() if kind else ""))
      else:
        missing.append((line.replace("\t", " + "), "not both images of the pair are there"))
    if not self._pairs:
      raise ValueError(
        f"--pairs={path}: none of its {len(missing)} lines has the names of two images of the source; expected "
        f"NAME<tab>NAME<tab>kind, e.g. {source.name(0)}<tab>{source.name(len(source) - 1)}<tab>view"
      )
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


def _without_side_files(source: ImageSource, side_files: SideFiles) -> ImageSource:
  """Returns the source without the images that are side files of others in the same folder."""
  if not isinstance(source, (FolderSource, FrameSource)):
    return source
  beside = set()
  for place, extensions in ((side_files.depth, _DEPTH_ENDINGS), (side_files.instances, _MASK_ENDINGS)):
    for i in range(len(source) if place else 0):
      beside.update(_side_file_paths(place, os.path.splitext(source.name(i))[0], extensions))
  images = [i for i in range(len(source)) if source.path(i) not in beside]
  if not images:
    raise ValueError(
      f"--depth={side_files.depth}, --instances={side_files.instances}: every image is one of these "
      "files; give the places of the side files"
    )
  return source if len(images) == len(source) else SubsetSource(source, np.array(images), "images")


def _side_file_paths(place: str, name: str, extensions: tuple[str, ...]) -> list[str]:
  """Returns the possible paths of a side file; `name` is the image's name without its extension."""
  if "{" not in place:
    return [storage.normalized(f"{place}/{name}{extension}") for extension in extensions]
  stem = os.path.basename(name)
  for key, value in {"{name}": name, "{stem}": stem, "{number}": stem.partition("_")[0]}.items():
    place = place.replace(key, value)
  return [storage.normalized(place)]


def _read_side_file(place: str | None, name: str, extensions: tuple[str, ...]) -> tuple[str, bytes] | None:
  """Returns path and bytes of an image's side file; None if there is none."""
  for path in _side_file_paths(place, name, extensions) if place else ():
    if storage.exists(path):
      return path, storage.read_file(path)
  return None


def _array(path: str, data: bytes) -> np.ndarray:
  try:
    return np.load(io.BytesIO(data), allow_pickle=False)
  except (ValueError, EOFError) as error:
    raise OSError(
      f"{path} is not a readable array ({error}); pickles are never loaded, np.save plain numbers"
    ) from error


def _plane(path: str, data: bytes) -> np.ndarray:
  try:
    return decode_plane(data)
  except UnusablePlane as error:
    raise OSError(f"{path}: {error}") from error


def _png(plane: np.ndarray) -> bytes:
  return cv2.imencode(".png", plane)[1].tobytes()


def _instances_png(path: str, data: bytes) -> bytes:
  plane = _plane(path, data)
  if path.endswith(".jpg"):
    return _png((plane > 127).astype(np.uint8))
  if plane.dtype != np.uint8:
    raise OSError(f"{path} has {plane.itemsize * 8} bits; masks of up to 255 persons have 8")
  return _png((plane == 255).astype(np.uint8)) if set(np.unique(plane)) <= {0, 255} else data


def _read_keypoints(path: str, data: bytes) -> list[list[list[float]]]:
  """Returns persons x joints x [x, y, v]."""
  if path.endswith(".npy"):
    people = _array(path, data)
  else:
    try:
      content = json.loads(data)
    except ValueError as error:
      raise OSError(f"{path} is not JSON: {error}") from error
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
  """Adds keypoints to the persons of the source."""
  people = people + [{}] * (len(keypoints) - len(people))
  return [person | {"keypoints": points} for person, points in zip(people, keypoints)] + people[len(keypoints) :]
