"""Records of built-in people: a picture as bytes, and the shards of a set.

The format is that of input_pipeline/records.py with these files and JSON keys (pixels as there; camera frame: meters, x
right, y down, z forward):

    image.jpg      the image
    depth.png      16 bits: millimeters along the camera's axis, 0 without a surface, 65535 for this depth and beyond
    parts.png      8 bits: classes of `LIP_PARTS`
    instances.png  8 bits: 0 no person, k people[k - 1]; scenes only, elsewhere it is 1 where parts are above 0

    jpeg_quality
    index, composition, split; group: shared by the images of one instant, clip or scene; camera; time: seconds
    camera_matrix 3x3, pixels; world_to_camera 3x4, meters
    people: [{identity, facing, caption, attributes: 0 or 1 in the order of `ATTRIBUTES`,
              keypoints: 17 x [x, y, v], v: 0 outside the image, 1 hidden, 2 visible,
              landmarks_xyz: [x, y, z] in the order of `LANDMARKS`, camera frame,
              box_full, box_visible: [x, y, width, height], area: visible pixels}]
"""

import pathlib
from collections.abc import Iterator

import cv2
import numpy as np

from input_pipeline.people.picture import Picture
from input_pipeline.records import decode_record, encode_record
from input_pipeline.shards import open_shard

SHARD_LENGTH = 500

IMAGE = "image.jpg"
_DEPTH, _PARTS, _INSTANCES = "depth.png", "parts.png", "instances.png"

# The encoder's default is a fifth faster and takes 1.6 times the bytes.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]

# Just enough for a projected landmark to agree with its keypoint to a thousandth of a pixel.
_DECIMALS = {
  "camera_matrix": 6,
  "world_to_camera": 9,
  "landmarks_xyz": 6,
  "time": 6,
  "keypoints": 4,
  "box_full": 4,
  "box_visible": 4,
}


def encode_picture(picture: Picture) -> bytes:
  """Encodes a picture with all its labels as one record."""
  depth_mm = np.minimum(np.rint(picture.depth * np.float32(1000)), 65535).astype(np.uint16)
  files = {IMAGE: encode_jpeg(picture), _DEPTH: _encode_png(depth_mm), _PARTS: _encode_png(picture.parts)}
  if picture.annotations["composition"] == "scenes":
    files[_INSTANCES] = _encode_png(picture.instances)
  return encode_record({"jpeg_quality": picture.jpeg_quality} | rounded(picture.annotations), files)


def decode_picture(record: bytes) -> Picture:
  """Decodes a picture; it differs by JPEG's losses and the rounding of depth and numbers."""
  annotations, files = decode_record(record)
  planes = {name: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) for name, data in files.items()}
  parts = planes[_PARTS]
  return Picture(
    image_u8=np.ascontiguousarray(planes[IMAGE][..., ::-1]),
    depth=planes[_DEPTH] * np.float32(1e-3),
    instances=planes.get(_INSTANCES, (parts > 0).astype(np.uint8)),
    parts=parts,
    jpeg_quality=annotations.pop("jpeg_quality"),
    annotations=annotations,
  )


def encode_jpeg(picture: Picture) -> bytes:
  """Encodes the pixels as JPEG, with the quality of the picture's camera."""
  encoded, data = cv2.imencode(".jpg", picture.image_u8[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, picture.jpeg_quality])
  assert encoded
  return data.tobytes()


def _encode_png(plane: np.ndarray) -> bytes:
  encoded, data = cv2.imencode(".png", plane, _PNG)
  assert encoded
  return data.tobytes()


def rounded(value, decimals: int = 6):
  """Returns nested values with floats rounded to their meaningful digits."""
  if isinstance(value, dict):
    return {key: rounded(item, _DECIMALS.get(key, decimals)) for key, item in value.items()}
  if isinstance(value, list):
    return [rounded(item, decimals) for item in value]
  return round(value, decimals) if isinstance(value, float) else value


def shard_ranges(count: int) -> dict[str, range]:
  """Returns the file name of each shard -> the numbers of the images in it."""
  shards = -(-count // SHARD_LENGTH)
  return {
    f"people-{k:05d}-of-{shards:05d}.array_record": range(k * SHARD_LENGTH, min((k + 1) * SHARD_LENGTH, count))
    for k in range(shards)
  }


def read_shards(folder: pathlib.Path, count: int) -> Iterator[bytes]:
  """Yields all records of a set of `count` images, in order."""
  for name, numbers in shard_ranges(count).items():
    shard = open_shard(folder / name)
    for position in range(len(numbers)):
      yield shard.read([position])[0]
    shard.close()
