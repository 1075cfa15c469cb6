"""Recognizes the format of a file from its first bytes."""

PHOTO_EXTENSIONS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "WebP": (".webp",), "BMP": (".bmp",), "PPM": (".ppm",)}
"""The formats that training decodes -> their file extensions."""

_DECLARED = {extension: kind for kind, extensions in PHOTO_EXTENSIONS.items() for extension in extensions}

# First bytes -> name of the format, longer ones before their own beginnings.
_BEGINNINGS = (
  (b"\xff\xd8\xff", "JPEG"),
  (b"\x89PNG\r\n\x1a\n", "PNG"),
  (b"BM", "BMP"),
  (b"GIF8", "a GIF"),
  (b"II*\0", "a TIFF"),
  (b"MM\0*", "a TIFF"),
  (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
  (b"\xff\x0a", "a JPEG XL"),
  (b"\0\0\0\x0cJXL ", "a JPEG XL"),
  (b"8BPS", "a Photoshop file"),
  (b"\0\0\1\0", "an icon"),
  (b"%PDF", "a PDF"),
  (b"PK\x03\x04", "a zip archive"),
  (b"\x1f\x8b", "a gzip archive"),
  (b"Rar!", "a RAR archive"),
  (b"7z\xbc\xaf", "a 7-Zip archive"),
  (b"\x93NUMPY", "a NumPy array"),
  (b"\x89HDF", "an HDF5 file"),
  (b"version https://git-lfs", "a Git LFS pointer (the photo was not fetched: git lfs pull)"),
  (b"P6\n", "PPM"),
  (b"P6 ", "PPM"),
)
_BRANDS = {
  b"heic": "a HEIC photo",
  b"heix": "a HEIC photo",
  b"mif1": "a HEIC photo",
  b"msf1": "a HEIC photo",
  b"hevc": "a HEIC photo",
  b"avif": "an AVIF photo",
  b"avis": "an AVIF photo",
}
_RIFF = {b"WEBP": "WebP", b"AVI ": "an AVI video", b"WAVE": "a sound"}
_PICKLE_PROTOCOLS = range(2, 6)


def format_of(data: bytes) -> str:
  """Returns the format of a file: a key of `PHOTO_EXTENSIONS` or a description of another format; "" if unknown."""
  if not data:
    return "an empty file"
  for beginning, kind in _BEGINNINGS:
    if data.startswith(beginning):
      return kind
  if data[:4] == b"RIFF":
    return _RIFF.get(data[8:12], "a RIFF file")
  if data[4:8] == b"ftyp":
    return _BRANDS.get(data[8:12], "a video")
  if data[0] == 0x80 and len(data) > 1 and data[1] in _PICKLE_PROTOCOLS:
    return "a Python pickle"
  return _text_format(data[:512])


def declared_format(name: str) -> str | None:
  """Returns the format that the extension of a name declares; None if training reads no such format."""
  return _DECLARED.get("." + name.rsplit(".", 1)[-1].lower())


def _text_format(start: bytes) -> str:
  if not any(start):
    return "nothing but zeros"
  if any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start):
    return ""
  text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
  if text.startswith((b"<!doctype html", b"<html", b"<head")):
    return "a web page (HTML)"
  if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
    return "an SVG drawing"
  if text.startswith(b"<?xml"):
    return "XML"
  if text.startswith((b"{", b"[")):
    return "JSON"
  return "text" if _is_utf8(start) else ""


def _is_utf8(start: bytes) -> bool:
  try:
    start[:-4].decode() if len(start) == 512 else start.decode()  # the last character may be incomplete
  except UnicodeDecodeError as error:
    return len(start) == 512 and error.start >= len(start) - 8
  return True
