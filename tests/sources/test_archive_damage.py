"""Damaged or malicious tar and zip archives: usable members are read, lost ones are reported."""

import io
import os
import struct
import tarfile
import zipfile

import fsspec
import hypothesis
import hypothesis.strategies as st
import pytest

from input_pipeline.sources.containers import archive_members
from input_pipeline.sources.containers.tar_files import scan_tar
from tests.support.toy_archives import (
  PICTURES,
  WRITERS,
  contents_of,
  names_of,
  one_line_error,
  open_archives,
  write_tar,
  write_zip,
)


@hypothesis.given(st.lists(st.binary(max_size=3000), min_size=1, max_size=6), st.integers(0, 99))
@hypothesis.settings(max_examples=60, deadline=None)
def test_a_truncated_tar_keeps_every_member_before_the_end(tmp_path_factory, contents, percent):
  root = tmp_path_factory.mktemp("t")
  whole = write_tar(root / "whole.tar", [(f"{i}.jpg", data) for i, data in enumerate(contents)])
  places = {member.name: member for member in tarfile.open(whole).getmembers()}
  end = max(member.offset_data + -(-member.size // 512) * 512 for member in places.values()) + 512
  length = 1 + end * percent // 100
  path = root / "cut.tar"
  path.write_bytes(whole.read_bytes()[:length])
  kept = [name for name, member in places.items() if member.offset_data + member.size <= length]
  if not kept:
    with pytest.raises(ValueError, match="truncated|not a tar archive"):
      open_archives(path, root / "w")
    return
  source = open_archives(path, root / "w")
  assert contents_of(source) == {f"cut.tar/{name}": contents[int(name[0])] for name in kept}
  lost = [name for name, member in places.items() if member.offset_data <= length and name not in kept]
  assert {name for name, _ in source.left_out} >= {f"cut.tar/{name}" for name in lost}
  assert source.left_out or length > end - 512


@pytest.mark.parametrize("kind", WRITERS)
@hypothesis.given(st.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_flipped_bytes_give_a_source_or_raise_one_line(tmp_path_factory, kind, data):
  root, (write, end) = tmp_path_factory.mktemp("f"), WRITERS[kind]
  path = write(root / f"a.{end}", PICTURES[:4])
  content = bytearray(path.read_bytes())
  places = range(len(content)) if kind == "zip" else range(4 * 1024)
  for place in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=12)):
    content[place] = data.draw(st.integers(0, 255))
  path.write_bytes(content)
  try:
    source = open_archives(path, root / "w", kind)
  except ValueError as error:
    assert "\n" not in str(error)
    return
  for i in range(len(source)):
    try:
      assert len(source.read(i)) <= len(content)
    except OSError:
      pass


@pytest.mark.parametrize("kind", WRITERS)
def test_names_that_lead_out_are_refused_and_the_last_of_equal_names_counts(tmp_path, kind):
  write, end = WRITERS[kind]
  bad = ["/etc/1.jpg", "../2.jpg", "a/../../3.jpg", "C:/4.jpg", "a\\5.jpg", "a/../6.jpg"]
  path = write(
    tmp_path / f"a.{end}",
    [(name, b"") for name in bad] + [("t.jpg", b"1"), ("u.jpg", b"u"), ("./t.jpg", b"2"), ("u.jpg", b"v")],
  )
  source = open_archives(path, tmp_path / "w", kind)
  assert contents_of(source) == {f"a.{end}/t.jpg": b"2", f"a.{end}/u.jpg": b"v"}
  reasons = dict(source.left_out)
  assert [reasons[f"a.{end}/{name}"] for name in bad] == ["refused: its name leads out of the archive"] * len(bad)
  assert [name for name, why in source.left_out if "same name again" in why] == [f"a.{end}/t.jpg", f"a.{end}/u.jpg"]


def test_links_devices_and_folders_in_a_tar_are_left_out(tmp_path):
  kinds = {
    "s": tarfile.SYMTYPE,
    "h": tarfile.LNKTYPE,
    "d": tarfile.DIRTYPE,
    "c": tarfile.CHRTYPE,
    "f": tarfile.FIFOTYPE,
  }
  members = [("x.jpg", b"x")]
  for name, kind in kinds.items():
    info = tarfile.TarInfo(f"{name}.jpg")
    info.type, info.linkname = kind, "x.jpg"
    members.append((info, b""))
  source = open_archives(write_tar(tmp_path / "a.tar", members), tmp_path / "w")
  assert names_of(source) == ["a.tar/x.jpg"] and [name for name, _ in source.left_out] == [
    f"a.tar/{name}.jpg" for name in kinds
  ]


def test_deceptive_zips(tmp_path):
  path = write_zip(
    tmp_path / "a.zip",
    [
      ("good.jpg", b"g" * 500),
      ("bomb.jpg", b"\0" * 100_000),
      ("locked.jpg", b"l"),
      ("lzma.jpg", b"z"),
      ("huge.jpg", b"h"),
      ("liar.jpg", b"y" * 500),
    ],
    compression=zipfile.ZIP_DEFLATED,
  )
  content = bytearray(path.read_bytes())
  listed = lambda name: content.index(b"PK\1\2", content.rindex(name) - 50)
  struct.pack_into("<L", content, listed(b"bomb.jpg") + 24, 1000)  # declares less than it has
  struct.pack_into("<H", content, listed(b"locked.jpg") + 8, 1)
  struct.pack_into("<H", content, listed(b"lzma.jpg") + 10, 14)
  struct.pack_into("<L", content, listed(b"huge.jpg") + 24, 0xF0000000)
  struct.pack_into("<L", content, listed(b"liar.jpg") + 24, 501)
  path.write_bytes(content)
  source = open_archives(path, tmp_path / "w", "zip")
  assert names_of(source) == ["a.zip/good.jpg", "a.zip/bomb.jpg", "a.zip/liar.jpg"]
  assert source.read(1) == b"\0" * 1000  # never more than declared
  with pytest.raises(OSError, match="500 bytes of 501"):
    source.read(2)
  reasons = dict(source.left_out)
  for name, reason in {"locked": "encrypted", "lzma": "method 14", "huge": "more than 256 MiB"}.items():
    assert reason in reasons[f"a.zip/{name}.jpg"]


def test_a_damaged_archive_among_others_is_named_and_alone_it_is_an_error(tmp_path):
  whole = write_zip(tmp_path / "zips" / "whole.zip", PICTURES)
  (tmp_path / "zips" / "cut.zip").write_bytes(whole.read_bytes()[:-100])
  (tmp_path / "zips" / "nothing.zip").write_bytes(b"")
  source = open_archives(tmp_path / "zips", tmp_path / "w", "zip")
  assert len(source) == 30 and [name for name, _ in source.left_out] == ["cut.zip", "nothing.zip"]
  one_line_error(lambda: open_archives(tmp_path / "zips" / "cut.zip", tmp_path / "w", "zip"), "truncated", "data.path=")
  write_tar(tmp_path / "tars" / "whole.tar", PICTURES)
  (tmp_path / "tars" / "text.tar").write_bytes(b"no tar" * 1000)
  (tmp_path / "tars" / "nothing.tar").write_bytes(b"")
  source = open_archives(tmp_path / "tars", tmp_path / "w")
  assert len(source) == 30 and [name for name, _ in source.left_out] == ["nothing.tar", "text.tar"]
  one_line_error(
    lambda: open_archives(tmp_path / "tars" / "text.tar", tmp_path / "w"), "not a tar archive", "data.path="
  )


def test_a_damaged_or_concatenated_tar_is_reported(tmp_path):
  path = write_tar(tmp_path / "a.tar", PICTURES[:3])
  content = path.read_bytes()
  [third] = [m.offset for m in tarfile.open(path).getmembers()][2:]
  path.write_bytes(content[:third] + b"x" * 512 + content[third + 512 :])
  [(name, reason)] = open_archives(path, tmp_path / "w").left_out
  assert name == "a.tar" and f"damaged from byte {third:,}" in reason
  path.write_bytes(content + content)
  [(name, reason)] = open_archives(path, tmp_path / "w").left_out
  assert name == "a.tar" and "joined by cat" in reason


@pytest.mark.parametrize("size", [0o7777777777, -512, -1024])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_impossible_sizes_end_the_scan(tmp_path, size, kind):
  write_tar(tmp_path / "a.tar", [("first.jpg", b"1"), ("second.jpg", b"2")])
  content = bytearray((tmp_path / "a.tar").read_bytes())
  info = tarfile.TarInfo("second.jpg")
  info.type = kind
  header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
  header[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
  header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
  content[1024:1536] = header
  (tmp_path / "a.tar").write_bytes(content)
  source = open_archives(tmp_path / "a.tar", tmp_path / "w")
  assert names_of(source) == ["a.tar/first.jpg"] and source.left_out


@pytest.mark.parametrize("name", ["a.tar.gz", "misnamed.tar", "a.tgz"])
def test_compressed_tars_are_refused_with_the_command_to_decompress(tmp_path, name):
  with tarfile.open(tmp_path / name, "w:gz") as archive:
    archive.addfile(tarfile.TarInfo("x.jpg"))
  for path in (tmp_path / name, tmp_path):
    one_line_error(lambda: open_archives(path, tmp_path / "w"), "gzip -dc '", name, ".plain.tar'", "data.path=")


def test_a_compressed_tar_in_a_bucket(tmp_path):
  bucket = fsspec.filesystem("memory")
  bucket.pipe_file("/packed/a.tar", b"\x1f\x8b" + bytes(100))
  try:
    one_line_error(lambda: open_archives("memory://packed/a.tar", tmp_path / "w"), "compressed (gzip)", "gzip -dc")
  finally:
    bucket.rm("/packed", recursive=True)


def test_a_failed_read_raises(tmp_path):
  content = io.BytesIO(write_tar(tmp_path / "a.tar", PICTURES).read_bytes())

  class Flaky(io.BytesIO):
    def read(self, size=-1):
      if self.tell() > 5000:
        raise RuntimeError("503 service unavailable")
      return super().read(size)

  with pytest.raises(OSError, match="503"):  # or part of the data would be missing in silence
    scan_tar(Flaky(content.getvalue()), len(content.getvalue()), "a.tar", lambda done: None)


def test_large_annotations_are_left_out(tmp_path, monkeypatch):
  monkeypatch.setattr(archive_members, "_MAX_ANNOTATION", 1000)
  path = write_tar(tmp_path / "a.tar", [("1.jpg", b"j" * 2000), ("1.json", b"{}"), ("1.npy", bytes(1001))])
  source = open_archives(path, tmp_path / "w")
  assert source.annotations(0) == ({}, {}) and [name for name, _ in source.left_out] == ["a.tar/1.npy"]


def test_archives_without_permission_raise(tmp_path):
  path = write_tar(tmp_path / "a.tar", PICTURES)
  path.chmod(0)
  if os.access(path, os.R_OK):
    pytest.skip("this user may read everything")
  one_line_error(lambda: open_archives(path, tmp_path / "w"), "cannot be read", "data.path=")


def test_a_missing_member_is_an_unreadable_image(tmp_path):
  path = write_tar(tmp_path / "a.tar", PICTURES)
  source = open_archives(path, tmp_path / "w")
  path.write_bytes(path.read_bytes()[:2000])
  with pytest.raises(OSError):
    source.read(29)
  path.unlink()
  with pytest.raises(OSError):
    source.read(0)
