"""Inspects one encoded image: size, fingerprints, and noteworthy traits."""

import dataclasses
import hashlib
import io

import cv2
import numpy as np
from PIL import Image

from input_pipeline.decode import DamagedImage, decode_image, photo_header
from input_pipeline.doctor.formats import PHOTO_EXTENSIONS, declared_format, format_of
from input_pipeline.jpeg import read_jpeg_header

CANVAS_HW = (320, 160)
"""Canvas of the published recipe (`data.canvas_hw`), so that decoding takes as long as in training."""

INPUT_HW = (256, 128)
"""Input of the published recipe; smaller images are enlarged for it."""

TINY_SIDE = 32
LARGE_PIXELS = 2_000_000

TRAITS = {
  "wrong_extension": "the extension declares another format than the bytes have",
  "tiny": f"shorter side under {TINY_SIDE} pixels",
  "enlarged": f"smaller than the training input of {INPUT_HW[0]}x{INPUT_HW[1]}, so they are enlarged",
  "large": f"larger than {LARGE_PIXELS / 1e6:g} megapixels",
  "blank": "nearly blank: almost no contrast",
  "drawn": "few colors: masks or drawings rather than photos",
  "grey": "gray: no color anywhere",
  "rotated": "turned upright by their orientation (EXIF or XMP)",
  "cmyk": "CMYK colors",
  "sixteen_bit": "16 bits per channel; the low byte is lost",
  "transparent": "transparent; composed over white",
  "animated": "animated; only the first frame is used",
  "name_not_utf8": "names that are not UTF-8",
}
"""Trait of an image -> its description, in the order of the report."""

# In a drawing, this many colors cover this share of the pixels. Not tested for JPEG, which blurs colors.
_DRAWN_COLORS, _DRAWN_SHARE = 16, 0.9

# Levels of 255. JPEG adds a few levels of color to a gray image; a blank image may have noise and a gradient.
_GRAY_LEVELS, _GRAY_SHARE, _BLANK_DEVIATION = 8, 0.01, 4.0


@dataclasses.dataclass(frozen=True, slots=True)
class Inspection:
  """The findings in one image.

  Attributes:
    hw: height and width in pixels, upright.
    digest: (2,) uint64, digest of the bytes: equal for exact copies.
    outline: 64 bits of dHash: nearly equal for near copies.
    thumbnail: (64,) uint8, gray levels of 8 x 8 cells.
    traits: keys of `TRAITS`.
  """

  hw: tuple[int, int]
  digest: np.ndarray
  outline: int
  thumbnail: np.ndarray
  traits: tuple[str, ...]


class NotAPhoto(DamagedImage):
  """The file has a format that training does not read; `format` is its description."""

  def __init__(self, kind: str, name: str):
    declared = declared_format(name)
    super().__init__(f"{kind}, not " + (f"the {declared} that its extension declares" if declared else "a photo"))
    self.format = kind


def inspect_image(data: bytes, name: str) -> Inspection:
  """Decodes an image as training does and finds its traits.

  Args:
    data: the encoded bytes.
    name: its name, with the extension that declares its format.

  Returns:
    The findings.

  Raises:
    DamagedImage: the image cannot be decoded; NotAPhoto if the file has another format.
  """
  kind = format_of(data)
  if kind and kind not in PHOTO_EXTENSIONS and data:
    raise NotAPhoto(kind, name)
  canvas, (height, width) = decode_image(data, CANVAS_HW)
  pixels = canvas[:height, :width]
  hw, traits = _header_of(data)
  traits |= _pixel_traits(pixels) | _size_traits(hw)
  if kind != "JPEG" and _is_drawn(pixels):
    traits.add("drawn")
  declared = declared_format(name)
  if declared and kind and declared != kind:
    traits.add("wrong_extension")
  if any("\udc80" <= character <= "\udcff" for character in name):
    traits.add("name_not_utf8")
  gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
  return Inspection(
    hw,
    np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), np.uint64),
    _outline(gray),
    cv2.resize(gray, (8, 8), interpolation=cv2.INTER_AREA).reshape(-1),
    tuple(traits),
  )


def _header_of(data: bytes) -> tuple[tuple[int, int], set[str]]:
  """Returns the upright size and the traits in the header of the file."""
  hw, orientation = photo_header(io.BytesIO(data))
  hw, traits = (hw[::-1] if orientation >= 5 else hw), {"rotated"} if orientation > 1 else set()
  jpeg = read_jpeg_header(data)
  if jpeg is not None and jpeg.plain:
    return hw, traits
  with Image.open(io.BytesIO(data)) as image:
    if image.mode == "CMYK":
      traits.add("cmyk")
    if image.mode.startswith(("I", "F")) or (data[:4] == b"\x89PNG" and data[24:25] == b"\x10"):  # IHDR's bit depth
      traits.add("sixteen_bit")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
      traits.add("transparent")
    if getattr(image, "is_animated", False):
      traits.add("animated")
  return hw, traits


def _size_traits(hw: tuple[int, int]) -> set[str]:
  traits = {"tiny"} if min(hw) < TINY_SIDE else set()
  if hw[0] < INPUT_HW[0] or hw[1] < INPUT_HW[1]:
    traits.add("enlarged")
  if hw[0] * hw[1] > LARGE_PIXELS:
    traits.add("large")
  return traits


def _pixel_traits(pixels: np.ndarray) -> set[str]:
  red, green, blue = cv2.split(pixels)
  spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
  traits = set()
  if np.count_nonzero(spread > _GRAY_LEVELS) <= _GRAY_SHARE * spread.size:
    traits.add("grey")
  if cv2.meanStdDev(green)[1].item() < _BLANK_DEVIATION:
    traits.add("blank")
  return traits


def _is_drawn(pixels: np.ndarray) -> bool:
  packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
  counts = np.unique(packed, return_counts=True)[1]
  return np.sort(counts)[-_DRAWN_COLORS:].sum() >= _DRAWN_SHARE * packed.size


def _outline(gray: np.ndarray) -> int:
  """Returns the dHash: one bit for each of 8 x 8 cells, set if it is darker than its right neighbor."""
  cells = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
  return int.from_bytes(np.packbits(cells[:, :-1] < cells[:, 1:]).tobytes(), "big")
