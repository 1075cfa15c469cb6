"""The header of a JPEG file: size, orientation, and whether the file is truncated."""

import dataclasses
import struct

from input_pipeline.orientation import orientation_from

_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0-15; DHT, JPG and DAC lie between them
_START_OF_SCAN, _APP1, _END_OF_IMAGE = 0xDA, 0xE1, b"\xff\xd9"
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


@dataclasses.dataclass(frozen=True, slots=True)
class JpegHeader:
  """The facts that decide how a JPEG is decoded."""

  hw: tuple[int, int]
  """Stored size in pixels, before the orientation is applied."""
  orientation: int
  """1 to 8, by the rule of orientation.py; 1 if unspecified."""
  plain: bool
  """8-bit gray or three-component color, which OpenCV decodes exactly as Pillow; not CMYK."""
  truncated: bool
  """No end-of-image marker after the first scan: decoders may silently fill the rest with gray."""


def read_jpeg_header(data: bytes) -> JpegHeader | None:
  """Reads the marker segments up to the first scan, in some microseconds.

  Args:
    data: the bytes of a file.

  Returns:
    The header; None if this is no JPEG, or its segments are invalid, which a full decoder explains better.
  """
  if data[:3] != b"\xff\xd8\xff":
    return None
  position, hw, plain, exif, xmp = 2, None, False, b"", b""
  while position + 4 <= len(data):
    prefix, marker, length = struct.unpack_from(">BBH", data, position)
    if prefix != 0xFF:
      return None
    if marker == 0xFF:  # a fill byte
      position += 1
      continue
    if marker in _FRAME_MARKERS:
      if position + 10 > len(data):
        return None
      bits, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
      hw, plain = (height, width), bits == 8 and components in (1, 3)
    elif marker == _APP1:
      payload = data[position + 4 : position + 2 + length]
      if payload.startswith(_EXIF):
        exif = exif or payload
      elif payload.startswith(_XMP):
        xmp = xmp or payload
    elif marker == _START_OF_SCAN:
      if hw is None or 0 in hw:
        return None
      return JpegHeader(hw, orientation_from(exif, xmp), plain, truncated=data.rfind(_END_OF_IMAGE, position) < 0)
    position += 2 + length
  return None
