"""Tar and zip archives in place: what is found, what lies beside it, what is refused, and when the list is made again."""

import io
import itertools
import os
import pickle
import struct
import tarfile
import threading
import time
import zipfile

import fsspec
import hypothesis
import hypothesis.strategies as st
import pytest

from input_pipeline import archives as archives_module
from input_pipeline.archive_paths import expand_braces
from input_pipeline.archives import open_webdataset, open_zip

JPEG = b"\xff\xd8\xff"


def _tar(path, members, **options):
  """Writes a tar of (name or TarInfo, bytes) and sets its time back, as if it had been there for a while."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, "w", **options) as archive:
    for member, data in members:
      member = tarfile.TarInfo(member) if isinstance(member, str) else member
      member.size = len(data) if member.isreg() else 0
      archive.addfile(member, io.BytesIO(data))
  return _aged(path)


def _zip(path, members, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(path, "w", **options) as archive:
    for name, data in members:
      archive.writestr(name, data)
  return _aged(path)


def _aged(path):
  os.utime(path, (time.time() - 60,) * 2)
  return path


def _open(path, cache, kind="webdataset"):
  return {"webdataset": open_webdataset, "zip": open_zip}[kind](str(path), None, str(cache), "data.path")


def _names(source):
  return [source.name(i) for i in range(len(source))]


def _contents(source):
  return {source.name(i): source.read(i) for i in range(len(source))}


def _one_line_error(call, *parts):
  with pytest.raises(ValueError) as error:
    call()
  message = str(error.value)
  assert "\n" not in message and all(part in message for part in parts), message


PICTURES = [(f"p/{i:04d}.jpg", JPEG + b"%d" % i * i) for i in range(30)]
WRITERS = {"webdataset": (_tar, "tar"), "zip": (_zip, "zip")}


@pytest.mark.parametrize("kind", WRITERS)
def test_images_are_found_by_extension_in_the_order_of_archives(tmp_path, kind):
  write, end = WRITERS[kind]
  write(tmp_path / "d" / f"b.{end}", [("./z.JPG", JPEG), ("notes.md", b""), ("a.png", b"2"), (".h.jpg", b""),
                                      ("__MACOSX/._z.jpg", b"")])
  write(tmp_path / "d" / "deep" / f"a.{end}", PICTURES)
  source = _open(tmp_path / "d", tmp_path / "w", kind)
  assert _names(source) == [f"b.{end}/z.JPG", f"b.{end}/a.png"] + [f"deep/a.{end}/{name}" for name, _ in PICTURES]
  assert [source.read(i) for i in range(len(source))] == [JPEG, b"2"] + [data for _, data in PICTURES]
  assert source.identity["source"] == kind and source.identity["name"] == "d" and not source.left_out


@hypothesis.given(st.dictionaries(st.text("abc/. é\udce9", min_size=1, max_size=8), st.binary(max_size=300), max_size=8),
                  st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]), st.randoms())
@hypothesis.settings(max_examples=40, deadline=None)
def test_a_tar_gives_back_what_extracting_it_would(tmp_path_factory, files, form, random):
  root = tmp_path_factory.mktemp("t")
  members = [(name.strip("/") + f"{'x' * random.choice([0, 120])}_{number}.jpg", data)
             for number, (name, data) in enumerate(files.items())] + [("last.jpg", b"1")]
  path = _tar(root / "a.tar", members, format=form, encoding="utf-8", errors="surrogateescape")
  usable = {"/".join(part for part in name.split("/") if part not in ("", ".")): data for name, data in members
            if not name.startswith("/") and not any(part == ".." or part[:1] == "." != part
                                                    for part in name.split("/"))}
  found = _contents(_open(path, root / "w"))
  # Members whose names agree up to the first dot are one sample, so fewer may be found, but each as it is.
  assert all(found[name] == usable[name.removeprefix("a.tar/")] for name in found) and "a.tar/last.jpg" in found


@hypothesis.given(st.lists(st.binary(max_size=3000), min_size=1, max_size=6), st.integers(0, 99))
@hypothesis.settings(max_examples=60, deadline=None)
def test_a_cut_tar_keeps_every_member_before_the_cut(tmp_path_factory, contents, percent):
  root = tmp_path_factory.mktemp("t")
  whole = _tar(root / "whole.tar", [(f"{i}.jpg", data) for i, data in enumerate(contents)])
  places = {member.name: member for member in tarfile.open(whole).getmembers()}
  end = max(member.offset_data + -(-member.size // 512) * 512 for member in places.values()) + 512
  length = 1 + end * percent // 100
  path = root / "cut.tar"
  path.write_bytes(whole.read_bytes()[:length])
  kept = [name for name, member in places.items() if member.offset_data + member.size <= length]
  if not kept:
    with pytest.raises(ValueError, match="cut off|no tar archive"):
      _open(path, root / "w")
    return
  source = _open(path, root / "w")
  assert _contents(source) == {f"cut.tar/{name}": contents[int(name[0])] for name in kept}
  lost = [name for name, member in places.items() if member.offset_data <= length and name not in kept]
  assert {name for name, _ in source.left_out} >= {f"cut.tar/{name}" for name in lost}
  assert source.left_out or length > end - 512


@pytest.mark.parametrize("kind", WRITERS)
@hypothesis.given(st.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_flipped_bytes_end_in_a_source_or_one_line(tmp_path_factory, kind, data):
  root, (write, end) = tmp_path_factory.mktemp("f"), WRITERS[kind]
  path = write(root / f"a.{end}", PICTURES[:4])
  content = bytearray(path.read_bytes())
  places = range(len(content)) if kind == "zip" else range(4 * 1024)
  for place in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=12)):
    content[place] = data.draw(st.integers(0, 255))
  path.write_bytes(content)
  try:
    source = _open(path, root / "w", kind)
  except ValueError as error:
    assert "\n" not in str(error)
    return
  for i in range(len(source)):
    try:
      assert len(source.read(i)) <= len(content)
    except OSError:
      pass


def test_what_lies_beside_an_image_in_a_tar(tmp_path):
  path = _tar(tmp_path / "a.tar", [
      ("a/1.json", b'{"people": [{"identity": 7}], "x": NaN}'), ("a/1.depth.png", b"D"), ("a/1.rgb.jpg", b"R"),
      ("a/1.txt", "é \n".encode()), ("a/1.cls", b"3"), ("a/1.pose.json", b"[1]"), ("a/1.NPY", b"N"),
      ("b/1.jpg", b"plain"), ("b/1.mask.jpg", b"M"), ("b/1.instances.png", b"I"), ("b/1.json", b"[2]"),
      ("b/2.pyd", b"\x80\x04."), ("b/2.jpg", b"2"), ("b/2.json", b"{no"), ("b/3.pickle", b""), ("c/9.depth.png", b"")])
  source = _open(path, tmp_path / "w")
  assert _names(source) == ["a.tar/a/1.rgb.jpg", "a.tar/b/1.jpg", "a.tar/b/2.jpg"]
  facts, files = source.annotations(0)
  assert facts == {"people": [{"identity": 7}], "x": None, "txt": "é", "cls": "3", "pose.json": [1]}
  assert files == {"depth.png": b"D", "npy": b"N"}
  assert source.annotations(1) == ({"json": [2]}, {"mask.jpg": b"M", "instances.png": b"I"})
  with pytest.raises(OSError, match="a.tar/b/2.jpg: its json is no JSON"):
    source.annotations(2)
  assert source.left_out == [("a.tar/c/9.depth.png", "a label without its picture"),
                             ("a.tar/b/2.pyd", "a pickle, which is never loaded; 2 such members are ignored")]


def test_dots_in_names_are_not_always_samples(tmp_path):
  few = _open(_tar(tmp_path / "few.tar", [("x.cam0.jpg", b"0"), ("x.cam1.jpg", b"1")]), tmp_path / "w")
  assert _names(few) == ["few.tar/x.cam0.jpg"] and few.annotations(0)[1] == {"cam1.jpg": b"1"}
  assert [name for name, _ in few.left_out] == ["few.tar/x.cam1.jpg"]  # said, as it may not be what is meant
  many = _open(_tar(tmp_path / "many.tar", [(f"v1.{i:03d}.jpg", b"") for i in range(40)]), tmp_path / "w")
  assert len(many) == 40 and not many.left_out


def test_what_lies_beside_an_image_in_a_zip(tmp_path):
  source = _open(_zip(tmp_path / "a.zip", [("x.v1.jpg", b"1"), ("x.v1.json", '{"camera": 2}'), ("x.v2.jpg", b"2"),
                                           ("x.v2.txt", "t"), ("x.v2.png", b"3")]), tmp_path / "w", "zip")
  assert _names(source) == ["a.zip/x.v1.jpg", "a.zip/x.v2.jpg", "a.zip/x.v2.png"]
  assert [source.annotations(i)[0] for i in range(3)] == [{"camera": 2}, {"txt": "t"}, {"txt": "t"}]


@pytest.mark.parametrize("kind", WRITERS)
def test_names_that_climb_out_are_refused_and_of_two_alike_the_last_counts(tmp_path, kind):
  write, end = WRITERS[kind]
  bad = ["/etc/1.jpg", "../2.jpg", "a/../../3.jpg", "C:/4.jpg", "a\\5.jpg", "a/../6.jpg"]
  with pytest.warns(UserWarning) if kind == "zip" else pytest.MonkeyPatch.context():  # zipfile: Duplicate name
    path = write(tmp_path / f"a.{end}", [(name, b"") for name in bad] + [("t.jpg", b"1"), ("u.jpg", b"u"),
                                                                        ("./t.jpg", b"2")] + [("u.jpg", b"v")])
  source = _open(path, tmp_path / "w", kind)
  assert _contents(source) == {f"a.{end}/t.jpg": b"2", f"a.{end}/u.jpg": b"v"}
  reasons = dict(source.left_out)
  assert [reasons[f"a.{end}/{name}"] for name in bad] == ["refused: its name climbs out of the archive"] * len(bad)
  assert [name for name, why in source.left_out if "comes again" in why] == [f"a.{end}/t.jpg", f"a.{end}/u.jpg"]


def test_links_devices_and_folders_in_a_tar_are_no_images(tmp_path):
  kinds = {"s": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "d": tarfile.DIRTYPE, "c": tarfile.CHRTYPE, "f": tarfile.FIFOTYPE}
  members = [("x.jpg", b"x")]
  for name, kind in kinds.items():
    info = tarfile.TarInfo(f"{name}.jpg")
    info.type, info.linkname = kind, "x.jpg"
    members.append((info, b""))
  source = _open(_tar(tmp_path / "a.tar", members), tmp_path / "w")
  assert _names(source) == ["a.tar/x.jpg"] and [name for name, _ in source.left_out] == [
      f"a.tar/{name}.jpg" for name in kinds]


def test_zips_that_hide_something(tmp_path):
  path = _zip(tmp_path / "a.zip", [("good.jpg", b"g" * 500), ("bomb.jpg", b"\0" * 100_000), ("locked.jpg", b"l"),
                                   ("lzma.jpg", b"z"), ("huge.jpg", b"h"), ("liar.jpg", b"y" * 500)],
              compression=zipfile.ZIP_DEFLATED)
  content = bytearray(path.read_bytes())
  listed = lambda name: content.index(b"PK\1\2", content.rindex(name) - 50)
  struct.pack_into("<L", content, listed(b"bomb.jpg") + 24, 1000)  # declares less than it has
  struct.pack_into("<H", content, listed(b"locked.jpg") + 8, 1)
  struct.pack_into("<H", content, listed(b"lzma.jpg") + 10, 14)
  struct.pack_into("<L", content, listed(b"huge.jpg") + 24, 0xF0000000)
  struct.pack_into("<L", content, listed(b"liar.jpg") + 24, 501)
  path.write_bytes(content)
  source = _open(path, tmp_path / "w", "zip")
  assert _names(source) == ["a.zip/good.jpg", "a.zip/bomb.jpg", "a.zip/liar.jpg"]
  assert source.read(1) == b"\0" * 1000  # never more than declared
  with pytest.raises(OSError, match="500 bytes of 501"):
    source.read(2)
  reasons = dict(source.left_out)
  for name, reason in {"locked": "encrypted", "lzma": "method 14", "huge": "more than 256 MiB"}.items():
    assert reason in reasons[f"a.zip/{name}.jpg"]


def test_zip64_and_what_precedes_a_zip(tmp_path, monkeypatch):
  monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
  monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
  path = _zip(tmp_path / "a.zip", [(f"{i}.jpg", b"%d" % i * 200) for i in range(5)])
  assert b"PK\6\6" in path.read_bytes()
  path.write_bytes(b"#!/bin/sh\n" * 10 + path.read_bytes())  # as archives do that unpack themselves
  source = _open(path, tmp_path / "w", "zip")
  assert [source.read(i) for i in range(5)] == [b"%d" % i * 200 for i in range(5)]


def test_a_damaged_archive_among_others_is_named_and_alone_it_is_an_error(tmp_path):
  whole = _zip(tmp_path / "zips" / "whole.zip", PICTURES)
  (tmp_path / "zips" / "cut.zip").write_bytes(whole.read_bytes()[:-100])
  (tmp_path / "zips" / "nothing.zip").write_bytes(b"")
  source = _open(tmp_path / "zips", tmp_path / "w", "zip")
  assert len(source) == 30 and [name for name, _ in source.left_out] == ["cut.zip", "nothing.zip"]
  _one_line_error(lambda: _open(tmp_path / "zips" / "cut.zip", tmp_path / "w", "zip"), "cut off", "data.path=")
  _tar(tmp_path / "tars" / "whole.tar", PICTURES)
  (tmp_path / "tars" / "text.tar").write_bytes(b"no tar" * 1000)
  (tmp_path / "tars" / "nothing.tar").write_bytes(b"")
  source = _open(tmp_path / "tars", tmp_path / "w")
  assert len(source) == 30 and [name for name, _ in source.left_out] == ["nothing.tar", "text.tar"]
  _one_line_error(lambda: _open(tmp_path / "tars" / "text.tar", tmp_path / "w"), "no tar archive", "data.path=")


def test_a_tar_that_is_damaged_or_goes_on_says_so(tmp_path):
  path = _tar(tmp_path / "a.tar", PICTURES[:3])
  content = path.read_bytes()
  [third] = [m.offset for m in tarfile.open(path).getmembers()][2:]
  path.write_bytes(content[:third] + b"x" * 512 + content[third + 512:])
  [(name, reason)] = _open(path, tmp_path / "w").left_out
  assert name == "a.tar" and f"damaged from byte {third:,}" in reason
  path.write_bytes(content + content)
  [(name, reason)] = _open(path, tmp_path / "w").left_out
  assert name == "a.tar" and "joined by cat" in reason


@pytest.mark.parametrize("size", [0o7777777777, -512, -1024])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_sizes_that_cannot_be_end_the_list_not_the_machine(tmp_path, size, kind):
  _tar(tmp_path / "a.tar", [("first.jpg", b"1"), ("second.jpg", b"2")])
  content = bytearray((tmp_path / "a.tar").read_bytes())
  info = tarfile.TarInfo("second.jpg")
  info.type = kind
  header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
  header[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
  header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
  content[1024:1536] = header
  (tmp_path / "a.tar").write_bytes(content)
  source = _open(tmp_path / "a.tar", tmp_path / "w")
  assert _names(source) == ["a.tar/first.jpg"] and source.left_out


@pytest.mark.parametrize("name", ["a.tar.gz", "misnamed.tar", "a.tgz"])
def test_compressed_tars_are_refused_with_the_line_that_helps(tmp_path, name):
  with tarfile.open(tmp_path / name, "w:gz") as archive:
    archive.addfile(tarfile.TarInfo("x.jpg"))
  for path in (tmp_path / name, tmp_path):
    _one_line_error(lambda: _open(path, tmp_path / "w"), "gzip -dc '", name, ".plain.tar'", "data.path=")


def test_patterns_of_shards(tmp_path):
  for i in range(12):
    _tar(tmp_path / "d" / f"s-{i:03d}.tar", [(f"{i}.jpg", b"")])
  count = lambda pattern: len(_open(f"{tmp_path}/d/{pattern}", tmp_path / "w"))
  assert [count(p) for p in ("s-{003..007}.tar", "s-00*.tar", "{s-001,s-01?}.tar", "s-[0-9]*[13].tar")] == [5, 10, 3, 3]
  _one_line_error(lambda: count("s-{010..014}.tar"), "5 archives", "3 of them are missing", "s-012.tar")
  _one_line_error(lambda: count("t*.tar"), "matches no file")
  _one_line_error(lambda: count("nothing.tar"), "does not exist")
  (tmp_path / "empty").mkdir()
  _one_line_error(lambda: _open(tmp_path / "empty", tmp_path / "w"), "holds no archives")
  texts = _tar(tmp_path / "texts.tar", [("a.txt", b""), ("b.txt", b"")])
  _one_line_error(lambda: _open(texts, tmp_path / "w"), "holds no images", "2 txt")


def test_braces_are_those_of_a_shell():
  assert expand_braces("a{b,c}{08..10}{x}") == [f"a{b}{n}{{x}}" for b, n in itertools.product("bc", ("08", "09", "10"))]
  assert expand_braces("{9..11}") == ["9", "10", "11"] and expand_braces("{2..0}") == ["2", "1", "0"]
  assert expand_braces("plain.tar") == ["plain.tar"]
  with pytest.raises(ValueError, match="more than 1,000,000"):
    expand_braces("{0..999}{0..9999}")


@pytest.mark.parametrize("kind", WRITERS)
def test_list_is_kept_beside_the_run_until_an_archive_changes(tmp_path, kind, monkeypatch):
  write, end = WRITERS[kind]
  path = write(tmp_path / "d" / f"a.{end}", PICTURES)
  before = _open(tmp_path / "d", tmp_path / "w", kind).identity
  scans = []
  scan = archives_module._Listing._scan
  monkeypatch.setattr(archives_module._Listing, "_scan", lambda *a: scans.append(1) or scan(*a))
  assert _open(tmp_path / "d", tmp_path / "w", kind).identity == before and not scans
  write(tmp_path / "d" / f"b.{end}", [("new.jpg", b"")])
  assert len(_open(tmp_path / "d", tmp_path / "w", kind)) == 31 and len(scans) == 2
  write(path, PICTURES[:5])
  assert len(_open(tmp_path / "d", tmp_path / "w", kind)) == 6
  os.utime(path)  # touched within the last two seconds: a later change could hide
  for _ in range(2):
    scans.clear()
    assert len(_open(tmp_path / "d", tmp_path / "w", kind)) == 6 and scans


def test_identity_does_not_depend_on_where_members_lie(tmp_path):
  one = _open(_tar(tmp_path / "x" / "a.tar", PICTURES), tmp_path / "w").identity
  moved = _tar(tmp_path / "y" / "a.tar", [("readme.txt", b"moves all that follows")] + PICTURES)
  assert _open(moved, tmp_path / "w").identity == one
  other = _tar(tmp_path / "z" / "a.tar", PICTURES[:-1] + [("p/0029.jpg", b"")])
  assert _open(other, tmp_path / "w").identity != one


@pytest.mark.parametrize("kind", WRITERS)
def test_pickled_it_is_small_and_threads_read_the_same(tmp_path, kind):
  write, end = WRITERS[kind]
  many = [(f"{i:05d}_a_rather_long_name.jpg", b"%d" % i * 50) for i in range(500)]
  source = _open(write(tmp_path / f"a.{end}", many), tmp_path / "w", kind)
  pickled = pickle.dumps(source)
  assert len(pickled) < 1000
  source, wrong = pickle.loads(pickled), []
  check = lambda: wrong.extend(i for i in range(500) if source.read(i) != many[i][1])
  threads = [threading.Thread(target=check) for _ in range(4)]
  [t.start() for t in threads]
  [t.join() for t in threads]
  assert not wrong


@pytest.mark.parametrize("kind", WRITERS)
def test_buckets(tmp_path, kind):
  write, end = WRITERS[kind]
  bucket = fsspec.filesystem("memory")
  for name in ("a", "b"):
    local = write(tmp_path / f"{name}.{end}", PICTURES + [("p/0003.json", b'{"camera": 1}')])
    bucket.pipe_file(f"/shards/{kind}/{name}.{end}", local.read_bytes())
  try:
    for path in (f"memory://shards/{kind}", f"memory://shards/{kind}/{{a,b}}.{end}", f"memory://shards/{kind}/*.{end}"):
      source = _open(path, tmp_path / "w", kind)
      assert len(source) == 60 and source.read(33) == PICTURES[3][1] and source.name(33) == f"b.{end}/p/0003.jpg"
      assert source.annotations(33) == ({"camera": 1}, {})
    bucket.pipe_file(f"/shards/{kind}/b.{end}", write(tmp_path / "c", PICTURES[:2]).read_bytes())
    assert len(_open(f"memory://shards/{kind}", tmp_path / "w", kind)) == 32
    _one_line_error(lambda: _open(f"memory://shards/{kind}/none.{end}", tmp_path / "w", kind), "does not exist")
  finally:
    bucket.rm("/shards", recursive=True)


def test_archives_that_may_not_be_read_are_an_error(tmp_path):
  path = _tar(tmp_path / "a.tar", PICTURES)
  path.chmod(0)
  if os.access(path, os.R_OK):
    pytest.skip("this user may read everything")
  _one_line_error(lambda: _open(path, tmp_path / "w"), "cannot be read", "data.path=")


def test_a_member_that_is_gone_is_an_unreadable_image(tmp_path):
  path = _tar(tmp_path / "a.tar", PICTURES)
  source = _open(path, tmp_path / "w")
  path.write_bytes(path.read_bytes()[:2000])
  with pytest.raises(OSError):
    source.read(29)
  path.unlink()
  with pytest.raises(OSError):
    source.read(0)
