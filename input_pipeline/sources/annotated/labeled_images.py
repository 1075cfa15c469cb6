"""Whole images with all their labels as an ImageSource."""

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
from input_pipeline.sources.annotated.label_planes import check_classes, number_persons, read_labels
from input_pipeline.sources.annotated.photos import NO_PHOTO, Photos, frame_of, list_header, stamps, still_holds
from input_pipeline.sources.index import Index, cached_index


@dataclasses.dataclass(slots=True)
class LabeledImage:
  """One image and its labels.

  Attributes:
    image: its path below the data set's root.
    facts: JSON-able, as annotations() returns them, in pixels of the image.
    planes: name of a file in annotations(), e.g. "parts.png" -> reference of its label plane, see label_planes.py.
    size: (width, height) of the image that the labels were made for; None if unspecified.
    upright: the labels are in the image with its orientation applied, not in its stored pixels.
  """

  image: str
  facts: dict
  planes: dict[str, dict] = dataclasses.field(default_factory=dict)
  size: tuple[int, int] | None = None
  upright: bool = False


@dataclasses.dataclass(slots=True)
class Labels:
  """All labeled images of one split of a data set.

  Attributes:
    photos: all images below the data set's root.
    images: the labeled ones.
    left_out: (name, reason) of every unusable image or label.
    legend: the meaning of numbers, e.g. {"attributes": names}; {"parts": names} are the classes of parts.png.
    read_from: files, and folders of files, that were read besides those that the user gave.
    protocol: facts to report with a score on these images, besides those known before reading.
    in_pixels: labels are positions in the image, so that its size must be checked.
    categories: see `ImageSource.categories`.
  """

  photos: Photos
  images: list[LabeledImage] = dataclasses.field(default_factory=list)
  left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)
  legend: dict = dataclasses.field(default_factory=dict)
  read_from: set[str] = dataclasses.field(default_factory=set)
  protocol: dict = dataclasses.field(default_factory=dict)
  in_pixels: bool = False
  categories: dict = dataclasses.field(default_factory=dict)

  def add(self, name: str, facts: dict, planes: Mapping[str, dict] | None = None) -> None:
    """Adds the image of this name, or leaves it out if it is missing."""
    image, reason = self.photos.find(name, base_is_enough="/" not in name)
    if reason:
      self.left_out.append((name, reason))
    else:
      self.images.append(LabeledImage(image, facts, dict(planes or {})))


class LabeledSource(ImageSource):
  """The whole images of a data set, each with all its labels.

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
    """Returns the bytes of image `i`; if decoding would turn it but its labels are in stored pixels, those as PPM."""
    data = storage.read_file(f"{self._root}/{self.name(i)}")
    if not self._index.columns["as_stored"][i]:
      return data
    try:
      return encode_ppm(decode_photo(data, upright=False))
    except DamagedImage as error:
      raise OSError(f"{self.name(i)}: {error}") from error

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    """Returns facts and label planes of image `i`; without `people` in the facts, they are made from instances.png."""
    facts, planes = json.loads(self._index.text("facts", i)), {}
    for name, reference in json.loads(self._index.text("planes", i)).items():
      planes[name] = read_labels(reference, self._root, tuple(self._index.columns["hw"][i].tolist()))
    if "parts.png" in planes:
      check_classes(planes["parts.png"], len(self.legend["parts"]), self.name(i))
    if "instances.png" in planes and "people" not in facts:
      planes["instances.png"], boxes = number_persons(planes["instances.png"])
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
  """Opens the labeled images of one split, listed in an index that is reused while its files are unchanged.

  Args:
    kind: kind of source, e.g. "lip".
    path: the path that the user gave; its base name becomes the name of the data set.
    root: folder or URL of the data set.
    files: the annotation files; the index is rebuilt if one of them changes, or a folder below `root`.
    read: returns the labels; called only if the index must be built.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.
    protocol: JSON-able facts to report with every score on these images, e.g. {"split": "test"}, as far as they are
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
        f"{setting}={path} has no usable image: {len(labels.photos):,} images in {root}, "
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


def _rows(labels: Labels) -> list[tuple[LabeledImage, tuple[int, int], bool]]:
  """Returns (image, (height, width) or zeros if no label needs them, whether to decode as stored) of the usable images,
  sorted by name; adds the others to left_out."""
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


def _placed(row: LabeledImage, photos: Photos) -> tuple[tuple[int, int] | None, bool, str]:
  """Returns (height, width) of an image in the frame of its labels, whether its orientation must not be applied, and
  why it is unusable ("" if it is usable)."""
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
