"""Whole images with their labels as an ImageSource."""

import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from input_pipeline import storage
from input_pipeline.decode import DamagedImage, decode_photo, encode_ppm
from input_pipeline.source import ImageSource, bounded
from input_pipeline.sources.annotated.label_planes import boxes_of, check_classes, read_labels
from input_pipeline.sources.annotated.photos import NO_PHOTO, Photos, frame_of, list_header, stamps, still_holds
from input_pipeline.sources.index import Index, cached_index


@dataclasses.dataclass(slots=True)
class Labeled:
  """One image and what its data set says of it.

  Attributes:
    image: its path below the data set's root.
    facts: JSON-able, as annotations() gives them, in pixels of the image.
    planes: name of a file in annotations(), e.g. "parts.png" -> where its pixels are, a reference of label_planes.py.
    size: (width, height) for which the labels were made; None: not said.
    upright: they count in the image after its orientation is applied, not in its stored pixels.
  """

  image: str
  facts: dict
  planes: dict[str, dict] = dataclasses.field(default_factory=dict)
  size: tuple[int, int] | None = None
  upright: bool = False


@dataclasses.dataclass(slots=True)
class Labels:
  """All that a data set says of one split.

  Attributes:
    photos: the images below its root.
    images: those that are labeled.
    left_out: (name, reason) of what is no usable image or label.
    legend: what the numbers mean, e.g. {"attributes": names}; {"parts": names} are the classes of parts.png.
    read_from: files and folders of files that were read besides those that the user named.
    protocol: what a score on these images has to be told with, besides what was known before they were read.
    in_pixels: labels are places in the image, so that its size has to be looked at.
    categories: see `ImageSource.categories`.
  """

  photos: Photos
  images: list[Labeled] = dataclasses.field(default_factory=list)
  left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)
  legend: dict = dataclasses.field(default_factory=dict)
  read_from: set[str] = dataclasses.field(default_factory=set)
  protocol: dict = dataclasses.field(default_factory=dict)
  in_pixels: bool = False
  categories: dict = dataclasses.field(default_factory=dict)

  def add(self, name: str, facts: dict, planes: Mapping[str, dict] | None = None) -> None:
    """One image by the name that the data set gives it, or its absence."""
    image, reason = self.photos.find(name, base_is_enough="/" not in name)
    if reason:
      self.left_out.append((name, reason))
    else:
      self.images.append(Labeled(image, facts, dict(planes or {})))


class LabeledSource(ImageSource):
  """The images of a data set as they are, each with all its labels.

  Args:
    index: rows of `open_labeled`.
    identity: {source, name}; protocol, length and digest are added.
  """

  def __init__(self, index: Index, identity: dict):
    self._index, self._root = index, index.header["photo_root"]
    self.left_out = [tuple(item) for item in index.header["left_out"]]
    self.legend, self.categories = index.header["legend"], index.header["categories"]
    self.read_from = list(index.header["files"])
    self.identity = identity | {
      "protocol": index.header["protocol"],
      "length": len(index),
      "digest": index.header["digest"],
    }

  def __len__(self) -> int:
    return len(self._index)

  def name(self, i: int) -> str:
    return os.fsdecode(self._index.text("name", i))

  def read(self, i: int) -> bytes:
    """The bytes of image `i`; where its labels count in stored pixels that would be turned, those pixels as PPM."""
    data = storage.read_file(f"{self._root}/{self.name(i)}")
    if not self._index.columns["as_stored"][i]:
      return data
    try:
      return encode_ppm(decode_photo(data, upright=False))
    except DamagedImage as error:
      raise OSError(f"{self.name(i)}: {error}") from error

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    """Facts and planes of image `i`; where nothing is said of `people`, they are those that instances.png shows."""
    facts, planes = json.loads(self._index.text("facts", i)), {}
    for name, reference in json.loads(self._index.text("planes", i)).items():
      planes[name] = read_labels(reference, self._root, tuple(self._index.columns["hw"][i].tolist()))
    if "parts.png" in planes:
      check_classes(planes["parts.png"], len(self.legend["parts"]), self.name(i))
    if "instances.png" in planes and "people" not in facts:
      planes["instances.png"], boxes = boxes_of(planes["instances.png"])
      facts["people"] = [{"box": box} for box in boxes]
    return facts, {name: cv2.imencode(".png", plane)[1].tobytes() for name, plane in planes.items()}


def open_labeled(
  kind: str,
  path: str,
  root: str,
  files: Sequence[str],
  read: Callable[[], Labels],
  *,
  cache_dir: str,
  setting: str,
  protocol: dict,
) -> LabeledSource:
  """The labeled images of one split, listed in an index that is remembered while its files stay as they are.

  Args:
    kind: key of the data set, e.g. "lip".
    path: what the user named; its base name becomes the data set's.
    root: folder or URL below which everything lies.
    files: the annotation files; a change of one makes a new list, as a change of the folders below `root` does.
    read: the labels; called only if the list must be made.
    cache_dir: where the list is remembered.
    setting: the option that gave `path`, for messages.
    protocol: JSON-able facts to be told with any score on these images, e.g. {"split": "test"}, so far as they are
      known before the labels are read.

  Raises:
    ValueError: no usable image.
  """

  def build() -> tuple[dict, dict, dict]:
    try:
      seen = stamps(files)
      labels = read()
      seen |= stamps(labels.read_from)
    except OSError as error:
      raise ValueError(f"{setting}={path} cannot be read: {error}") from error
    rows = _rows(labels)
    if not rows:
      reasons = collections.Counter(reason for _, reason in labels.left_out).most_common(3)
      raise ValueError(
        f"{setting}={path} has no image that can be used: {len(labels.photos):,} images in {root}, "
        f"{len(labels.left_out):,} left out{'' if reasons else '; nothing is listed'}"
        + "".join(f"; {count:,}: {reason}" for reason, count in reasons)
      )
    texts = {
      "name": [os.fsencode(row.image) for row, _, _ in rows],
      "facts": [_json(row.facts) for row, _, _ in rows],
      "planes": [_json(row.planes) for row, _, _ in rows],
    }
    columns = {
      "hw": np.array([hw for _, hw, _ in rows], np.int32),
      "as_stored": np.array([as_stored for _, _, as_stored in rows], bool),
    }
    digest = hashlib.sha256(json.dumps(labels.legend).encode())
    for data in (*texts["name"], *texts["facts"], *texts["planes"], *(columns[name].tobytes() for name in columns)):
      digest.update(b"%d " % len(data) + data)
    header = list_header(labels.photos, seen) | {
      "left_out": bounded(labels.left_out),
      "legend": labels.legend,
      "categories": labels.categories,
      "protocol": protocol | labels.protocol,
      "digest": digest.hexdigest()[:16],
    }
    return header, texts, columns

  key = f"{path} {json.dumps(protocol)} root={root}"
  index = cached_index(cache_dir, kind, key, lambda header: still_holds(header, files, root), build)
  return LabeledSource(index, {"source": kind, "name": os.path.basename(path)})


def _rows(labels: Labels) -> list[tuple[Labeled, tuple[int, int], bool]]:
  """(image, (height, width) or zeros where no label asks, whether it stays as stored) of every usable image, by name;
  adds the others to left_out."""
  if labels.in_pixels:
    pngs = (plane["png"] for row in labels.images for plane in row.planes.values() if "png" in plane)
    labels.photos.measure({*pngs, *(row.image for row in labels.images)})
  rows, seen = [], set()
  for row in sorted(labels.images, key=lambda row: os.fsencode(row.image)):
    hw, as_stored, reason = (0, 0), False, "listed twice" if row.image in seen else ""
    seen.add(row.image)
    if labels.in_pixels and not reason:
      hw, as_stored, reason = _placed(row, labels.photos)
    if reason:
      labels.left_out.append((row.image, reason))
    else:
      rows.append((row, hw, as_stored))
  return rows


def _placed(row: Labeled, photos: Photos) -> tuple[tuple[int, int] | None, bool, str]:
  """(height, width) of an image as its labels see it, whether its orientation must not be applied, why not."""
  size = row.size
  for plane in row.planes.values():
    if "png" not in plane:
      continue
    header = photos.header(plane["png"]) if plane["png"] in photos else NO_PHOTO
    if isinstance(header, str):
      return None, False, f"its labels in {os.path.dirname(plane['png'])} cannot be used: {header}"
    if size is not None and header[:2] != size:
      return None, False, f"its labels have {size[0]} x {size[1]} and {header[0]} x {header[1]} pixels"
    size = header[:2]
  header = photos.header(row.image)
  found, upright, reason = frame_of(header, size, row.upright)
  if reason:
    return None, False, reason
  return found[::-1], header[2] != 1 and not upright, ""


def _json(value: dict) -> bytes:
  return json.dumps(value, separators=(",", ":")).encode()
