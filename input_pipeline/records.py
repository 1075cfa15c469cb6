"""The record: an image and its annotations as bytes, in every set that `saip prepare` writes.

A record is `uint32 little endian n | n bytes of JSON | files`, so that a few lines in any language read it. The JSON
begins with `files`, the name and the bytes of each file that follows it, in this order. The image comes first:

    image.jpg       or png, webp, bmp: the bytes of the source, or smaller ones; ppm: pixels that need no decoding
    partner.jpg     (any of these) the other image of a pair
    depth.png       16 bits: millimeters along the camera's axis, 0 where unknown
    instances.png   8 bits: k for people[k - 1], 0 for no person
    parts.png       8 bits: classes, named in legend.parts of meta.json; 255 for pixels that no score counts

The JSON goes on with facts. All are optional, and sources may have further ones. Pixels: x right, y down, measured from
the image's edge, so that the center of the top left pixel is (0.5, 0.5):

    name            the name of the image in its source
    people          [{identity, keypoints: [[x, y, v], ...] with v 0 unknown or outside, 1 hidden, 2 visible,
                    joints: which list of joint names in meta.json, more_keypoints: {list of joint names: keypoints},
                    joints_xyz: [[x, y, z] or null where unknown, ...] in meters, camera's frame (x right, y down, z
                    forward), in the order of the keypoints, box: [x, y, width, height] of what is seen of the person,
                    boxes: {name: box}, e.g. head, or full with what is hidden, caption: a sentence,
                    captions: [sentence, ...], attributes: [0, 1 or null where unknown, ...], named in meta.json,
                    area: square pixels of what is seen of the person,
                    num_keypoints: how many the annotations count; keypoint AP ignores a person with 0,
                    box_from: "keypoints" where the box was made from them, 25 % larger on every side,
                    id: of the person in the annotations, ignore: true of a crowd and the like, whose detection
                    counts neither way; in whole photos alone}]
    photo, crop     the photo that the image was cut out of, and the crop there: [x, y, width, height] in its pixels
    outside         {keypoints, more_keypoints} of the person that lie outside the crop, in pixels of that photo
    not_cut_out     [{box, area, keypoints, ..., reason, crowd}]: persons of that photo who are no image of this set, in
                    its pixels; crowd: true of an annotation of several persons
    crowd_index     how much persons cover one another, 0 to 1 (CrowdPose)
    camera, time    number of the camera from 0, or its name; seconds
    frame           number of the frame, where the time is unknown
    group           images of one instant, clip or scene share it
    pair            the kind of the pair of images, e.g. view or pose
"""

import json
import re
import struct

IGNORE_LABEL = 255
"""The class in parts.png of pixels that no score counts."""

# The first bytes of an image -> the ending of its file in a record.
_FORMATS = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png", b"BM": "bmp", b"P6": "ppm"}
_DECIMALS = 4  # of moved coordinates: exact enough for keypoints, short enough for JSON
_IMAGE_BYTES = re.compile(rb'.{4}\{"files":\{"image\.\w+":(\d+)', re.DOTALL)


def image_format(data: bytes) -> str | None:
  """Returns the format of an encoded image: jpg, png, webp, bmp or ppm; None: another one."""
  if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
    return "webp"
  return next((name for start, name in _FORMATS.items() if data.startswith(start)), None)


def encode_record(facts: dict, files: dict[str, bytes]) -> bytes:
  """Returns facts (JSON-able) and files as one record; the image is the first of the files."""
  sizes = {name: len(data) for name, data in files.items()}
  header = json.dumps({"files": sizes} | facts, separators=(",", ":")).encode()
  return b"".join([struct.pack("<I", len(header)), header, *files.values()])


def decode_record(record: bytes) -> tuple[dict, dict[str, bytes]]:
  """Returns the facts of a record and its files, name -> bytes."""
  start = 4 + struct.unpack_from("<I", record)[0]
  facts, files = json.loads(record[4:start]), {}
  for name, size in facts.pop("files").items():
    files[name] = record[start : start + size]
    start += size
  return facts, files


def image_of_record(record: bytes) -> bytes | None:
  """Returns the encoded image of a record without reading its facts; None if the bytes are no record."""
  match = _IMAGE_BYTES.match(record)
  if match is None:
    return None
  start = 4 + struct.unpack_from("<I", record)[0]
  return record[start : start + int(match[1])]


def moved_person(
  person: dict,
  scale_xy: tuple[float, float] = (1.0, 1.0),
  shift_xy: tuple[float, float] = (0.0, 0.0),
  size: tuple[int, int] | None = None,
) -> dict:
  """Returns the facts of a person for another image: a crop, or a smaller copy, where x becomes x * scale + shift.

  Args:
    person: facts; `keypoints`, `more_keypoints` (name -> keypoints), `box`, `box_full`, `box_visible` and `boxes`
      (name -> box) are in pixels, `area` in square pixels, all others do not change.
    scale_xy: new size / old size.
    shift_xy: added after that, pixels.
    size: width and height of the new image, outside of which a keypoint becomes unknown; None: unbounded.
  """
  (scale_x, scale_y), (shift_x, shift_y) = scale_xy, shift_xy
  point = lambda x, y: (round(x * scale_x + shift_x, _DECIMALS), round(y * scale_y + shift_y, _DECIMALS))

  def keypoints(values):
    moved = []
    for x, y, v in values:
      x, y = point(x, y)
      inside = size is None or v and 0 <= x <= size[0] and 0 <= y <= size[1]
      moved.append([x, y, v] if inside else [0.0, 0.0, 0])
    return moved

  def box(value):
    return [*point(*value[:2]), round(value[2] * scale_x, _DECIMALS), round(value[3] * scale_y, _DECIMALS)]

  def area(value):  # in some data sets, `area` is no number
    return round(value * scale_x * scale_y, _DECIMALS) if type(value) in (int, float) else value

  each = lambda move: lambda values: {name: move(value) for name, value in values.items()}
  moves = {
    "keypoints": keypoints,
    "more_keypoints": each(keypoints),
    "box": box,
    "box_full": box,
    "box_visible": box,
    "boxes": each(box),
    "area": area,
  }
  return {key: moves[key](value) if key in moves else value for key, value in person.items()}


def keypoints_lost(person: dict, moved: dict) -> dict:
  """Returns the known keypoints of a person that lie outside of a crop.

  Args:
    person: facts, with `keypoints` and `more_keypoints` where there are any.
    moved: `moved_person` of them.

  Returns:
    `keypoints` and `more_keypoints` with these alone, in the pixels of `person`, all others [0, 0, 0]; without lists
    that have none.
  """

  def lost(values, kept):
    return [[*value] if value[2] > 0 and not inside[2] else [0.0, 0.0, 0] for value, inside in zip(values, kept)]

  known = lambda values: any(v for _, _, v in values)
  own = lost(person.get("keypoints") or (), moved.get("keypoints") or ())
  further = {
    name: lost(values, moved["more_keypoints"][name]) for name, values in person.get("more_keypoints", {}).items()
  }
  further = {name: values for name, values in further.items() if known(values)}
  return ({"keypoints": own} if known(own) else {}) | ({"more_keypoints": further} if further else {})
