"""One rule for the orientation of photos: every format, every place of the metadata, every reader."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from input_pipeline.decode import decode_image, decode_photo, upright_hw
from input_pipeline.doctor.inspect_image import inspect_image
from input_pipeline.orientation import orientation_from
from input_pipeline.sources.annotated.photos import Photos
from input_pipeline.sources.table import open_source
from tests.support.annotated_photos import annotation, coco, write_json

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/>\xa8\xff</x:xmpmeta>'  # no UTF-8


def _exif(orientation):
  exif = Image.Exif()
  exif[0x010F] = "a camera"
  exif[0x0112] = orientation
  return exif.tobytes()


def _encoded(fmt, mode="RGB", **options):
  corners = np.random.default_rng(0).integers(0, 256, (4, 3, 3), np.uint8)
  picture = Image.fromarray(cv2.resize(corners, (48, 32), interpolation=cv2.INTER_LINEAR)).convert(mode)
  buffer = io.BytesIO()
  quality = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(fmt, {})
  picture.save(buffer, fmt, **quality, **options)
  return buffer.getvalue()


def _jpeg(orientation, mode="RGB", **options):
  """XMP in an APP1 segment, before whatever the encoder wrote."""
  data, segment = _encoded("JPEG", mode, **options), b"http://ns.adobe.com/xap/1.0/\0" + XMP % orientation
  return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def _png(kind, body, behind=False):
  """A PNG with a chunk before or behind its pixels."""
  data = _encoded("PNG")
  chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
  place = len(data) - 12 if behind else 33
  return data[:place] + chunk + data[place:]


def _raw_profile(exif):
  """EXIF as ImageMagick writes it into text chunks."""
  return b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n%8d\n" % len(exif) + exif.hex().encode())


VARIANTS = {
  "exif_rgb": lambda o: _encoded("JPEG", exif=_exif(o)),
  "exif_gray": lambda o: _encoded("JPEG", "L", exif=_exif(o)),
  "exif_cmyk": lambda o: _encoded("JPEG", "CMYK", exif=_exif(o)),
  "exif_webp": lambda o: _encoded("WEBP", exif=_exif(o)),
  "exif_png": lambda o: _encoded("PNG", exif=_exif(o)),
  "exif_behind": lambda o: _png(b"eXIf", _exif(o)[6:], True),
  "exif_raw": lambda o: _png(b"zTXt", _raw_profile(_exif(o))),
  "xmp_rgb": _jpeg,
  "xmp_gray": lambda o: _jpeg(o, "L"),
  "xmp_cmyk": lambda o: _jpeg(o, "CMYK"),
  "xmp_webp": lambda o: _encoded("WEBP", xmp=XMP % o),
  "xmp_png": lambda o: _png(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % o),
  "xmp_packed": lambda o: _png(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP % o)),
  "xmp_behind": lambda o: _png(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % o, True),
  "exif_first": lambda o: _jpeg(6, exif=_exif(o)),
  "exif_first_cmyk": lambda o: _jpeg(6, "CMYK", exif=_exif(o)),
  "exif_first_webp": lambda o: _encoded("WEBP", exif=_exif(o), xmp=XMP % 6),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_reader_turns_a_photo_as_pillow_does(tmp_path, variant):
  for orientation in range(0, 10):  # 0 and 9 mean nothing
    data = VARIANTS[variant](orientation)
    with Image.open(io.BytesIO(data)) as image:
      image.load()
      upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    whole = decode_photo(data)
    np.testing.assert_allclose(whole.astype(int), upright, atol=1)
    canvas, hw = decode_image(data, (64, 64))
    assert hw == upright.shape[:2] == upright_hw(data)
    np.testing.assert_allclose(canvas[: hw[0], : hw[1]].astype(int), upright, atol=1)
    assert decode_photo(data, upright=False).shape == (32, 48, 3)
    look = inspect_image(data, "a.jpg")
    assert look.hw == hw and ("rotated" in look.traits) == (not np.array_equal(upright, decode_photo(data, False)))
    (tmp_path / "a.jpg").write_bytes(data)
    photos = Photos(str(tmp_path))
    photos.measure(["a.jpg"])
    width, height, found = photos.header("a.jpg")
    assert (height, width)[:: -1 if found >= 5 else 1] == hw


@pytest.mark.parametrize(
  "text", [b"tiff:Orientation='6'", b'tiff:Orientation = "6"', b"<tiff:Orientation>6<", b"<tiff:Orientation>\n 6<"]
)
def test_xmp_in_any_spelling_of_xml(text):
  assert orientation_from(b"", text) == 6


def test_damaged_exif_loses_neither_the_picture_nor_the_orientation_in_xmp():
  whole = _exif(3)
  entry = whole.index(b"\1\x12\0\3")
  assert orientation_from(whole[:entry], XMP % 6) == 6  # the directory ends before the entry
  assert orientation_from(whole[:8] + b"\xff" * 40, XMP % 8) == 8
  assert orientation_from(b"Exif\0\0junk", b"") == 1
  assert orientation_from(whole, XMP % 6) == 3
  data = _encoded("WEBP", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
  assert decode_photo(data).shape == (32, 48, 3)


@pytest.mark.parametrize("stated_wh", [(160, 120), (120, 160)])
def test_coordinates_follow_an_orientation_in_xmp(tmp_path, stated_wh):
  """The red box is cut out, whether the annotation counts in the upright photo or in the stored pixels."""
  upright = np.full((120, 160, 3), 128, np.uint8)
  upright[30:90, 20:60] = (220, 20, 20)
  buffer = io.BytesIO()
  Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", quality=95)
  data, segment = buffer.getvalue(), b"http://ns.adobe.com/xap/1.0/\0" + XMP % 6
  (tmp_path / "set").mkdir()
  data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
  (tmp_path / "set" / "a.jpg").write_bytes(data)
  box = [20, 30, 40, 60] if stated_wh == (160, 120) else [30, 160 - 60, 60, 40]  # x, y, width, height
  write_json(tmp_path / "set" / "a.json", coco([(1, "a.jpg", *stated_wh[::-1])], [annotation(1, 1, box)]))
  source = open_source("coco", str(tmp_path / "set" / "a.json"), cache_dir=str(tmp_path / "cache"), margin=0.0)
  crop, hw = decode_image(source.read(0), (256, 256))
  assert hw == (box[3], box[2])
  assert crop[4 : hw[0] - 4, 4 : hw[1] - 4].reshape(-1, 3).mean(0) == pytest.approx((220, 20, 20), abs=8)


def test_yolo_counts_in_the_photo_that_xmp_turns(tmp_path):
  (tmp_path / "a.jpg").write_bytes(_jpeg(6))  # 32 x 48 stored, 48 high upright
  (tmp_path / "a.txt").write_text("0 0.5 0.5 1 0.5\n")
  (tmp_path / "data.yaml").write_text("train: .\nnames: [person]\n")
  source = open_source("yolo", str(tmp_path), cache_dir=str(tmp_path / "cache"), margin=0.0, min_side=1)
  assert decode_image(source.read(0), (64, 64))[1] == (24, 32)
