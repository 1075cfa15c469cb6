"""The record: an image with everything known of it as bytes, in every set that `saip prepare` writes.

A record is `uint32 little endian n | n bytes of JSON | files`, so that a few lines in any language read it. The JSON
begins with `files`, {name: bytes} of what follows it, in that order. The image comes first:

    image.jpg       or png, webp, bmp: the bytes of the source, or smaller ones; ppm: pixels that need no decoding
    partner.jpg     (any of these) the other image of a pair
    depth.png       16 bits: millimeters along the camera's axis, 0 where nothing is known
    instances.png   8 bits: 0 nobody, k people[k - 1]
    parts.png       8 bits: classes, named in legend.parts of meta.json; 255 what no score counts

and goes on with facts, all of them optional, of which sources may have further ones. Pixels: x right, y down, measured
from the image's edge, so that the center of the top left pixel is (0.5, 0.5):

    name            what the source calls the image
    people          [{identity, keypoints: [[x, y, v], ...] with v 0 unknown or outside, 1 hidden, 2 visible,
                    joints: which list of joint names in meta.json, more_keypoints: {list of joint names: keypoints},
                    joints_xyz: [[x, y, z] or null where unknown, ...] in meters, camera's frame (x right, y down, z
                    forward), in the order of the keypoints, box: [x, y, width, height] of what is seen of the person,
                    boxes: {what: box}, e.g. head, or full with what is hidden, caption: a sentence,
                    captions: [sentence, ...], attributes: [0, 1 or null where unknown, ...], named in meta.json,
                    area: square pixels of what is seen of the person,
                    num_keypoints: how many the annotations count; keypoint AP ignores a person with 0,
                    box_from: "keypoints" where the box was made from them, 25 % larger on every side,
                    id: what the annotations call the person, ignore: true of a crowd and the like, which a detector
                    need neither find nor miss; in whole photos alone}]
    photo, crop     what the image was cut out of, and [x, y, width, height] of it there, in pixels of that photo
    outside         {keypoints, more_keypoints} of the person that lie outside the crop, in pixels of that photo
    not_cut_out     [{box, area, keypoints, ..., reason, crowd}]: persons of that photo who are no image of this set, in
                    its pixels; crowd: true of an annotation that stands for several
    crowd_index     how much persons cover one another, 0 to 1 (CrowdPose)
    camera, time    number of the camera from 0, or its name; seconds
    frame           number of the frame, where the time is not known
    group           images of one instant, clip or scene share it
    pair            what makes the two images a pair, e.g. view or pose
"""

import json
import re
import struct

# What an image begins with -> what its file in a record is called.
_FORMATS = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png", b"BM": "bmp", b"P6": "ppm"}
_IMAGE_BYTES = re.compile(rb'.{4}\{"files":\{"image\.\w+":(\d+)', re.DOTALL)


def image_format(data: bytes) -> str | None:
  """What the bytes of an image say they are: jpg, png, webp, bmp or ppm; None: something else."""
  if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
    return "webp"
  return next((name for start, name in _FORMATS.items() if data.startswith(start)), None)


def encode_record(facts: dict, files: dict[str, bytes]) -> bytes:
  """Facts (JSON-able) and files as one record; the image comes first among the files."""
  sizes = {name: len(data) for name, data in files.items()}
  header = json.dumps({"files": sizes} | facts, separators=(",", ":")).encode()
  return b"".join([struct.pack("<I", len(header)), header, *files.values()])


def decode_record(record: bytes) -> tuple[dict, dict[str, bytes]]:
  """The facts of a record and its files: name -> bytes."""
  start = 4 + struct.unpack_from("<I", record)[0]
  facts, files = json.loads(record[4:start]), {}
  for name, size in facts.pop("files").items():
    files[name] = record[start : start + size]
    start += size
  return facts, files


def decode_image(record: bytes) -> bytes | None:
  """The encoded image of a record, without reading its facts; None if this is no record."""
  match = _IMAGE_BYTES.match(record)
  if match is None:
    return None
  start = 4 + struct.unpack_from("<I", record)[0]
  return record[start : start + int(match[1])]
