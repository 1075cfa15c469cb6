"""Small tar and zip archives for tests, and what is asked of them."""

import io
import os
import tarfile
import time
import warnings
import zipfile

import pytest

from input_pipeline.sources.containers.archives import open_webdataset, open_zip

JPEG = b"\xff\xd8\xff"


def write_tar(path, members, **options):
  """Writes a tar of (name or TarInfo, bytes) and sets its time back, as if it had been there for a while."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, "w", **options) as archive:
    for member, data in members:
      member = tarfile.TarInfo(member) if isinstance(member, str) else member
      member.size = len(data) if member.isreg() else 0
      archive.addfile(member, io.BytesIO(data))
  return aged(path)


def write_zip(path, members, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  with warnings.catch_warnings(), zipfile.ZipFile(path, "w", **options) as archive:
    warnings.simplefilter("ignore")  # zipfile: Duplicate name
    for name, data in members:
      archive.writestr(name, data)
  return aged(path)


def aged(path):
  os.utime(path, (time.time() - 60,) * 2)
  return path


def open_archives(path, cache, kind="webdataset"):
  return {"webdataset": open_webdataset, "zip": open_zip}[kind](str(path), None, str(cache), "data.path")


def names_of(source):
  return [source.name(i) for i in range(len(source))]


def contents_of(source):
  return {source.name(i): source.read(i) for i in range(len(source))}


def one_line_error(call, *parts):
  with pytest.raises(ValueError) as error:
    call()
  message = str(error.value)
  assert "\n" not in message and all(part in message for part in parts), message


PICTURES = [(f"p/{i:04d}.jpg", JPEG + b"%d" % i * i) for i in range(30)]
WRITERS = {"webdataset": (write_tar, "tar"), "zip": (write_zip, "zip")}
