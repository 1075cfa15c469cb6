"""The orientation of a photo: the turn that makes it upright.

One rule for every format and every reader, that of Pillow's `ImageOps.exif_transpose`:

1. The orientation in EXIF (tag 0x0112 of the first directory) counts. A value outside 1 to 8 means: as stored.
2. If EXIF is missing, unreadable or without an orientation, `tiff:Orientation` in XMP counts.
3. Else the pixels are upright as stored.

Photo editors and Pillow follow XMP; browsers and OpenCV follow EXIF alone. A file with an orientation only in XMP was
written by an editor that shows it upright, and its annotations were made on the upright image.

EXIF and XMP lie in APP1 segments (JPEG), eXIf and text chunks (PNG, before or behind the pixels) or chunks of their own
(WebP); BMP and PPM have neither. XMP is searched as bytes, so that it need not be valid UTF-8 or valid XML.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

_TAG = 0x0112
_VALUE_FORMATS = {3: "H", 4: "I"}  # SHORT, LONG
_XMP = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([0-9]+)""")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS, _WEBP_CHUNKS = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"}), frozenset({b"EXIF", b"XMP "})
_MOST_BYTES = 1 << 24  # of one chunk of metadata, compressed or not


def orientation_from(exif: bytes, xmp: bytes) -> int:
  """Returns the orientation by this rule.

  Args:
    exif: a TIFF header and its directories, with or without `Exif` and two zero bytes before them; empty: none.
    xmp: an XMP packet; empty: none.

  Returns:
    1 to 8, as EXIF defines them.
  """
  value = _from_exif(exif) if exif else None
  if value is None and (match := _XMP.search(xmp)):
    value = int(match[1])
  return value if value in range(1, 9) else 1


def orientation_of(file: BinaryIO) -> int:
  """Returns the orientation of a PNG or WebP file, 1 to 8; 1 for any other. Args: file: at its start.

  `jpeg.read_jpeg_header` reads that of a JPEG.
  """
  start = file.read(12)
  exif = xmp = b""
  if start.startswith(_PNG_SIGNATURE):
    file.seek(len(_PNG_SIGNATURE))
    for kind, data in _chunks(file, _PNG_CHUNKS, riff=False):
      key, text = _png_text(kind, data)
      if kind == b"eXIf":
        exif = data
      elif key == b"Raw profile type exif":
        exif = exif or _raw_profile(text)
      elif key == b"XML:com.adobe.xmp":
        xmp = xmp or text
  elif start[:4] == b"RIFF" and start[8:] == b"WEBP":
    found = dict(_chunks(file, _WEBP_CHUNKS, riff=True))
    exif, xmp = found.get(b"EXIF", b""), found.get(b"XMP ", b"")
  return orientation_from(exif, xmp)


def _from_exif(data: bytes) -> int | None:
  """Returns the orientation in the first directory; None if there is none, or the directory cannot be read."""
  while data.startswith(b"Exif\0\0"):
    data = data[6:]
  order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
  if order is None or len(data) < 8:
    return None
  [start] = struct.unpack_from(f"{order}I", data, 4)
  if start + 2 > len(data):
    return None
  [entries] = struct.unpack_from(f"{order}H", data, start)
  value = None
  for place in range(start + 2, min(start + 2 + 12 * entries, len(data) - 11), 12):
    tag, kind, count = struct.unpack_from(f"{order}HHI", data, place)
    if tag == _TAG and kind in _VALUE_FORMATS and count == 1:
      [value] = struct.unpack_from(f"{order}{_VALUE_FORMATS[kind]}", data, place + 8)
  return value


def _chunks(file: BinaryIO, wanted: frozenset[bytes], riff: bool) -> Iterator[tuple[bytes, bytes]]:
  """Yields (kind, contents) of the wanted chunks of a PNG or RIFF file, up to the first damaged one."""
  while len(start := file.read(8)) == 8:
    if riff:  # kind, size; contents of an odd size are followed by a byte
      kind, size = start[:4], int.from_bytes(start[4:], "little")
      rest = size % 2
    else:  # size, kind; contents are followed by a checksum
      size, kind = int.from_bytes(start[:4], "big"), start[4:]
      rest = 4
    if kind not in wanted or size > _MOST_BYTES:
      file.seek(size + rest, 1)
    elif len(data := file.read(size)) == size:
      yield kind, data
      file.seek(rest, 1)


def _png_text(kind: bytes, data: bytes) -> tuple[bytes, bytes]:
  """Returns (keyword, text) of a text chunk; text that cannot be decompressed is empty."""
  key, _, text = data.partition(b"\0")
  compressed = kind == b"zTXt"
  if kind == b"zTXt":
    text = text[1:]  # the method
  elif kind == b"iTXt":
    compressed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
  if compressed:
    try:
      text = zlib.decompressobj().decompress(text, _MOST_BYTES)
    except zlib.error:
      text = b""
  return key, text


def _raw_profile(text: bytes) -> bytes:
  """Returns EXIF that ImageMagick wrote into a PNG: an empty line, a name, a length, and hexadecimal digits."""
  try:
    return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode())
  except ValueError:
    return b""
