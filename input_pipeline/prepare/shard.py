"""Writes one shard of a prepared set as a pure function of request and number, in any process on any machine."""

import collections
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator

import cv2

from input_pipeline import storage
from input_pipeline.decode import DamagedImage, decode_image, encode_ppm, upright_hw
from input_pipeline.prepare.scaling import PLANES, scaled_annotations
from input_pipeline.prepare.side_files import SideFiles, with_side_files
from input_pipeline.records import encode_record, image_format
from input_pipeline.shards import write_shard
from input_pipeline.source import ImageSource
from input_pipeline.sources.table import open_source

JPEG_QUALITY = 95

# Decoding onto a small canvas finds damage cheaply, as JPEG can be decoded at an eighth of its size.
_PROBE_HW = (32, 32)


@dataclasses.dataclass(frozen=True)
class PrepareRequest:
  """The source of a prepared set and its conversion; equal requests give equal sets.

  Attributes:
    source: a key of `kinds.SOURCE_KINDS`.
    path: path or URL of the source.
    split: split of the source; None for the default one.
    subset: a file with the names of the images to use; None for all.
    margin: for crops of persons: growth of a box, as a fraction of its larger side; None for the default.
    min_side: for crops of persons: persons with a smaller box are left out, in pixels; None for the default.
    side_files: files beside the images that become annotations.
    max_side: larger images are shrunk to this size, in pixels; None keeps all images byte for byte.
    scene_hw: images are stored as raw pixels, shrunk to fit this size in pixels; None keeps them encoded.
  """

  source: str
  path: str
  split: str | None = None
  subset: str | None = None
  margin: float | None = None
  min_side: int | None = None
  side_files: SideFiles = SideFiles()
  max_side: int | None = None
  scene_hw: tuple[int, int] | None = None

  def __post_init__(self):
    if self.max_side is not None and self.max_side < 1:
      raise ValueError(f"--max-side={self.max_side}: expected 1 or more pixels")
    if self.margin is not None and not 0 <= self.margin <= 2:
      raise ValueError(f"--margin={self.margin}: expected a fraction of the box from 0 to 2")
    if self.scene_hw and (self.max_side or self.side_files != SideFiles()):
      raise ValueError(
        "--scenes stores raw pixels of a fixed size: leave out --max-side, --depth, --instances, "
        "--keypoints and --pairs"
      )


@functools.lru_cache(maxsize=1)
def open_request(request: PrepareRequest) -> ImageSource:
  """Opens the source of a request with its side files, once per process; raises ValueError if it cannot be opened."""
  crop_options = {name: value for name in ("margin", "min_side") if (value := getattr(request, name)) is not None}
  source = open_source(
    request.source,
    request.path,
    split=request.split,
    subset=request.subset,
    cache_dir=os.path.join(storage.cache_folder(), "indices"),
    setting="--path",
    **crop_options,
  )
  return with_side_files(source, request.side_files)


def shard_name(number: int, shards: int) -> str:
  """Returns the file name of a shard."""
  return f"images-{number:05d}-of-{shards:05d}.array_record"


def sidecar_name(shard: str) -> str:
  """Returns the file name of a finished shard's note, whose contents move to the manifest."""
  return f"{shard}.json"


def write_request_shard(
  request: PrepareRequest, out: str, per_shard: int, shards: int, number: int, seen: Callable[[], None] = lambda: None
) -> None:
  """Writes one shard, then a note beside it, which marks it as complete.

  Args:
    request: the request of the set.
    out: folder or URL of the set.
    per_shard: number of images per shard.
    shards: number of shards.
    number: number of this shard.
    seen: called after each image.

  Raises:
    OSError: the shard cannot be written.
  """
  source, name = open_request(request), shard_name(number, shards)
  left_out, carried = [], collections.Counter()

  def records() -> Iterator[bytes]:
    for i in range(number * per_shard, min((number + 1) * per_shard, len(source))):
      try:
        facts, files = make_record(request, source, i)
      except (DamagedImage, OSError) as error:
        left_out.append([source.name(i), str(error)])
      else:
        carried.update([*facts, *files])
        yield encode_record(facts, files)
      seen()

  shard = write_shard(f"{out}/{name}", records())
  note = {"shard": shard, "carried": carried, "left_out": left_out}
  storage.write_file(f"{out}/{sidecar_name(name)}", json.dumps(note).encode())


def make_record(request: PrepareRequest, source: ImageSource, i: int) -> tuple[dict, dict[str, bytes]]:
  """Returns the facts and files of image `i`; raises DamagedImage or OSError if it is unusable."""
  try:
    data = source.read(i)
  except OSError as error:
    raise OSError(f"cannot be read: {error.strerror or error}") from error
  facts = {"name": source.name(i)}
  if request.scene_hw:
    canvas, (height, width) = decode_image(data, request.scene_hw)
    return facts, {"image.ppm": encode_ppm(canvas[:height, :width])}
  decode_image(data, _PROBE_HW)
  further_facts, files = source.annotations(i)
  facts = further_facts | facts
  _check_planes(files, upright_hw(data))
  images = {"image": data} | {name: files.pop(name) for name in list(files) if name.startswith("partner.")}
  for image in list(images.values())[1:]:
    decode_image(image, _PROBE_HW)
  if request.max_side:
    data, hw = _fitted(data, request.max_side)
    if hw != (before := upright_hw(images["image"])):
      facts, files = scaled_annotations(facts, files, (hw[0] / before[0], hw[1] / before[1]), hw)
    images = {"image": data} | {
      name: _fitted(image, request.max_side)[0] for name, image in images.items() if name != "image"
    }
  return facts, {f"{name.split('.')[0]}.{image_format(image)}": image for name, image in images.items()} | files


def _check_planes(files: dict[str, bytes], image_hw: tuple[int, int]) -> None:
  for name in files.keys() & set(PLANES):
    height, width = upright_hw(files[name])
    if (height, width) != image_hw:
      hint = "; --depth-grid maps it to the image" if name == "depth.png" else ""
      raise DamagedImage(f"its {name} has {width} x {height} pixels, the image {image_hw[1]} x {image_hw[0]}{hint}")


def _fitted(data: bytes, max_side: int) -> tuple[bytes, tuple[int, int]]:
  """Returns an image unchanged if it fits, otherwise as a smaller JPEG; and its (height, width) in pixels."""
  hw = upright_hw(data)
  if max(hw) <= max_side:
    return data, hw
  canvas, (height, width) = decode_image(data, (max_side, max_side))
  jpeg = cv2.imencode(".jpg", canvas[:height, :width, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
  return jpeg.tobytes(), (height, width)
