"""Decoding: every kind of image becomes 8-bit RGB on the canvas; every kind of damage is named."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageOps

from input_pipeline.decode import DamagedImage, decode_image, fit_hw

CANVAS_HW = (80, 40)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def _picture(height, width, seed=0):
  """A smooth color picture, whose corners differ."""
  small = np.random.default_rng(seed).integers(0, 256, (4, 3, 3), np.uint8)
  return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _encode(image, fmt="PNG", **options):
  buffer = io.BytesIO()
  (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, fmt, **options)
  return buffer.getvalue()


def _valid(data, canvas_hw=CANVAS_HW):
  canvas, (height, width) = decode_image(data, canvas_hw)
  return canvas[:height, :width].astype(int)


def test_small_image_keeps_its_pixels():
  picture = _picture(30, 20)
  assert (_valid(_encode(picture)) == picture).all()
  jpeg = _encode(picture, "JPEG", quality=95)
  assert np.abs(_valid(jpeg) - np.asarray(Image.open(io.BytesIO(jpeg)), int)).max() <= 2


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 130), st.integers(1, 130), st.sampled_from(["JPEG", "PNG"]))
def test_canvas_placement(height, width, fmt):
  picture = np.maximum(_picture(height, width), 60)
  canvas, hw = decode_image(_encode(picture, fmt), CANVAS_HW)
  assert canvas.shape == (*CANVAS_HW, 3) and canvas.dtype == np.uint8
  assert hw == fit_hw((height, width), CANVAS_HW) and all(1 <= n <= limit for n, limit in zip(hw, CANVAS_HW))
  if height <= CANVAS_HW[0] and width <= CANVAS_HW[1]:
    assert hw == (height, width)
  else:  # aspect kept to within rounding, and as large as fits
    scale = min(CANVAS_HW[0] / height, CANVAS_HW[1] / width)
    assert abs(hw[0] - max(1, height * scale)) <= 0.5 and abs(hw[1] - max(1, width * scale)) <= 0.5
  assert fmt == "JPEG" or canvas[: hw[0], : hw[1]].min() > 0  # JPEG may overshoot to black
  assert not canvas[hw[0] :].any() and not canvas[:, hw[1] :].any()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("height, width", [(36, 24), (300, 180)])
def test_exif_orientation_is_that_of_pillow(orientation, fmt, height, width):
  exif = Image.Exif()
  exif[0x0112] = orientation
  options = {"quality": 95} if fmt != "PNG" else {}
  data = _encode(_picture(height, width), fmt, exif=exif, **options)
  upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
  expected_hw = fit_hw(upright.shape[:2], CANVAS_HW)
  expected = cv2.resize(upright, expected_hw[::-1], interpolation=cv2.INTER_AREA)
  result = _valid(data)
  assert result.shape == expected.shape
  assert np.abs(result - expected).max() <= 6


def test_big_photo_is_averaged_not_sampled():
  """Decoding at a fraction of the size must look like averaging the whole picture."""
  noise = np.random.default_rng(0).integers(0, 256, (80, 40, 3), np.uint8)
  photo = cv2.resize(noise, (896, 1792), interpolation=cv2.INTER_CUBIC)
  jpeg = _encode(photo, "JPEG", quality=92)
  whole = cv2.resize(np.asarray(Image.open(io.BytesIO(jpeg))), (40, 80), interpolation=cv2.INTER_AREA)
  # White noise of the canvas's own resolution is the hardest case; sampling instead of averaging gives over 30.
  assert np.abs(_valid(jpeg) - whole).mean() < 4


def test_modes_become_8_bit_rgb():
  picture = _picture(30, 20)
  gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
  gray_rgb = np.repeat(gray[..., None], 3, -1)
  assert (_valid(_encode(gray)) == gray_rgb).all()
  assert np.abs(_valid(_encode(gray, "JPEG", quality=95)) - gray_rgb).max() <= 6
  palette = Image.fromarray(picture).quantize(64)
  assert (_valid(_encode(palette)) == np.asarray(palette.convert("RGB"))).all()
  assert (_valid(_encode(Image.fromarray(gray > 128))) == (gray > 128)[..., None] * 255).all()


def test_16_bit_keeps_the_high_byte():
  ramp = (np.arange(30)[:, None] * 1000 + np.arange(20)[None]).astype(np.uint16)
  assert (_valid(_encode(ramp)) == (ramp >> 8)[..., None]).all()
  deep = np.stack([ramp, ramp[::-1], ramp * 2], -1)
  encoded = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
  assert np.abs(_valid(encoded) - (deep >> 8)).max() <= 1


def test_cmyk_jpeg_is_read_as_pillow_reads_it():
  data = _encode(Image.fromarray(_picture(30, 20)).convert("CMYK"), "JPEG", quality=95)
  assert np.abs(_valid(data) - np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)).max() <= 1


@pytest.mark.parametrize("fmt", ["PNG", "WEBP"])
def test_transparency_is_laid_over_white(fmt):
  picture = np.dstack([_picture(30, 20), np.full((30, 20), 255, np.uint8)])
  picture[:10, :, 3] = 0
  result = _valid(_encode(picture, fmt, **({"lossless": True} if fmt == "WEBP" else {})))
  assert (result[:10] == 255).all() and (result[10:] == picture[10:, :, :3]).all()


@pytest.mark.parametrize("fmt", FORMATS)
def test_truncation_is_found(fmt):
  data = _encode(_picture(60, 40), fmt)
  for share in (0.3, 0.6, 0.9, 0.98):
    with pytest.raises(DamagedImage):
      decode_image(data[: int(len(data) * share)], CANVAS_HW)


def test_truncated_jpeg_with_a_whole_thumbnail_is_found():
  exif = Image.Exif()
  exif[0x010E] = "thumbnail \xff\xd9"
  data = _encode(_picture(60, 40), "JPEG", exif=exif)
  assert decode_image(data, CANVAS_HW)[1] == (60, 40)
  with pytest.raises(DamagedImage, match="truncated"):
    decode_image(data[:-30], CANVAS_HW)


def test_trailing_bytes_after_the_end_do_no_harm():
  assert decode_image(_encode(_picture(60, 40), "JPEG") + b"\0" * 500, CANVAS_HW)[1] == (60, 40)


@pytest.mark.parametrize(
  "data, reason",
  [
    (b"", "empty file"),
    (b"just some text, no picture", "not an image"),
    (b"\xff\xd8\xff", "image"),
    (b"\xff\xd8\xff\xe0" + b"\0" * 200, "image"),
    (b"GIF89a" + b"\0" * 20, "not an image"),
  ],
)
def test_no_image(data, reason):
  with pytest.raises(DamagedImage, match=reason):
    decode_image(data, CANVAS_HW)


def _huge_png(side):
  """A PNG that declares a huge size."""

  def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

  header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
  return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_decompression_bombs_are_refused_by_their_declared_size():
  jpeg = bytearray(_encode(_picture(60, 40), "JPEG"))
  frame = jpeg.index(b"\xff\xc0")
  jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
  for data in (bytes(jpeg), _huge_png(60_000)):
    with pytest.raises(DamagedImage, match="too large"):
      decode_image(data, CANVAS_HW)


def test_canvas_stays_clean_after_damage():
  from input_pipeline.decode import decode_into

  canvas = np.zeros((*CANVAS_HW, 3), np.uint8)
  with pytest.raises(DamagedImage):
    decode_into(_encode(_picture(60, 40), "PNG")[:-40], canvas)
  assert not canvas.any()
