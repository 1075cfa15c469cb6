"""Tar and zip archives: images, other members of their samples, and when the index is rebuilt."""

import itertools
import os
import pickle
import tarfile
import threading
import zipfile

import fsspec
import hypothesis
import hypothesis.strategies as st
import pytest

from input_pipeline.sources.containers import archives as archives_module
from input_pipeline.sources.containers.archive_paths import expand_braces
from tests.support.toy_archives import (
  JPEG,
  PICTURES,
  WRITERS,
  contents_of,
  names_of,
  one_line_error,
  open_archives,
  write_tar,
  write_zip,
)


@pytest.mark.parametrize("kind", WRITERS)
def test_images_are_found_by_extension_in_the_order_of_archives(tmp_path, kind):
  write, end = WRITERS[kind]
  write(
    tmp_path / "d" / f"b.{end}",
    [("./z.JPG", JPEG), ("notes.md", b""), ("a.png", b"2"), (".h.jpg", b""), ("__MACOSX/._z.jpg", b"")],
  )
  write(tmp_path / "d" / "deep" / f"a.{end}", PICTURES)
  source = open_archives(tmp_path / "d", tmp_path / "w", kind)
  assert names_of(source) == [f"b.{end}/z.JPG", f"b.{end}/a.png"] + [f"deep/a.{end}/{name}" for name, _ in PICTURES]
  assert [source.read(i) for i in range(len(source))] == [JPEG, b"2"] + [data for _, data in PICTURES]
  assert source.identity["source"] == kind and source.identity["name"] == "d" and not source.left_out


@hypothesis.given(
  st.dictionaries(st.text("abc/. é\udce9", min_size=1, max_size=8), st.binary(max_size=300), max_size=8),
  st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
  st.randoms(),
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_a_tar_gives_the_same_files_as_extraction(tmp_path_factory, files, form, random):
  root = tmp_path_factory.mktemp("t")
  members = [
    (name.strip("/") + f"{'x' * random.choice([0, 120])}_{number}.jpg", data)
    for number, (name, data) in enumerate(files.items())
  ] + [("last.jpg", b"1")]
  path = write_tar(root / "a.tar", members, format=form, encoding="utf-8", errors="surrogateescape")
  usable = {
    "/".join(part for part in name.split("/") if part not in ("", ".")): data
    for name, data in members
    if not name.startswith("/") and not any(part == ".." or part[:1] == "." != part for part in name.split("/"))
  }
  found = contents_of(open_archives(path, root / "w"))
  # Members whose names agree up to the first dot are one sample, so fewer may be found, but each as it is.
  assert all(found[name] == usable[name.removeprefix("a.tar/")] for name in found) and "a.tar/last.jpg" in found


def test_other_members_of_a_sample_in_a_tar(tmp_path):
  path = write_tar(
    tmp_path / "a.tar",
    [
      ("a/1.json", b'{"people": [{"identity": 7}], "x": NaN}'),
      ("a/1.depth.png", b"D"),
      ("a/1.rgb.jpg", b"R"),
      ("a/1.txt", "é \n".encode()),
      ("a/1.cls", b"3"),
      ("a/1.pose.json", b"[1]"),
      ("a/1.NPY", b"N"),
      ("b/1.jpg", b"plain"),
      ("b/1.mask.jpg", b"M"),
      ("b/1.instances.png", b"I"),
      ("b/1.json", b"[2]"),
      ("b/2.pyd", b"\x80\x04."),
      ("b/2.jpg", b"2"),
      ("b/2.json", b"{no"),
      ("b/3.pickle", b""),
      ("c/9.depth.png", b""),
    ],
  )
  source = open_archives(path, tmp_path / "w")
  assert names_of(source) == ["a.tar/a/1.rgb.jpg", "a.tar/b/1.jpg", "a.tar/b/2.jpg"]
  facts, files = source.annotations(0)
  assert facts == {"people": [{"identity": 7}], "x": None, "txt": "é", "cls": "3", "pose.json": [1]}
  assert files == {"depth.png": b"D", "npy": b"N"}
  assert source.annotations(1) == ({"json": [2]}, {"mask.jpg": b"M", "instances.png": b"I"})
  with pytest.raises(OSError, match="a.tar/b/2.jpg: its json is not JSON"):
    source.annotations(2)
  assert source.left_out == [
    ("a.tar/c/9.depth.png", "a label without its image"),
    ("a.tar/b/2.pyd", "a pickle, which is never loaded; 2 such members are ignored"),
  ]


def test_dots_in_names_are_not_always_samples(tmp_path):
  few = open_archives(write_tar(tmp_path / "few.tar", [("x.cam0.jpg", b"0"), ("x.cam1.jpg", b"1")]), tmp_path / "w")
  assert names_of(few) == ["few.tar/x.cam0.jpg"] and few.annotations(0)[1] == {"cam1.jpg": b"1"}
  assert [name for name, _ in few.left_out] == ["few.tar/x.cam1.jpg"]  # listed: it may not be what is meant
  many = open_archives(write_tar(tmp_path / "many.tar", [(f"v1.{i:03d}.jpg", b"") for i in range(40)]), tmp_path / "w")
  assert len(many) == 40 and not many.left_out


def test_other_members_of_a_sample_in_a_zip(tmp_path):
  path = write_zip(
    tmp_path / "a.zip",
    [("x.v1.jpg", b"1"), ("x.v1.json", '{"camera": 2}'), ("x.v2.jpg", b"2"), ("x.v2.txt", "t"), ("x.v2.png", b"3")],
  )
  source = open_archives(path, tmp_path / "w", "zip")
  assert names_of(source) == ["a.zip/x.v1.jpg", "a.zip/x.v2.jpg", "a.zip/x.v2.png"]
  assert [source.annotations(i)[0] for i in range(3)] == [{"camera": 2}, {"txt": "t"}, {"txt": "t"}]


def test_zip64_and_data_before_a_zip(tmp_path, monkeypatch):
  monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
  monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
  path = write_zip(tmp_path / "a.zip", [(f"{i}.jpg", b"%d" % i * 200) for i in range(5)])
  assert b"PK\6\6" in path.read_bytes()
  path.write_bytes(b"#!/bin/sh\n" * 10 + path.read_bytes())  # as archives do that unpack themselves
  source = open_archives(path, tmp_path / "w", "zip")
  assert [source.read(i) for i in range(5)] == [b"%d" % i * 200 for i in range(5)]


def test_patterns_of_shards(tmp_path):
  for i in range(12):
    write_tar(tmp_path / "d" / f"s-{i:03d}.tar", [(f"{i}.jpg", b"")])
  count = lambda pattern: len(open_archives(f"{tmp_path}/d/{pattern}", tmp_path / "w"))
  assert [count(p) for p in ("s-{003..007}.tar", "s-00*.tar", "{s-001,s-01?}.tar", "s-[0-9]*[13].tar")] == [5, 10, 3, 3]
  one_line_error(lambda: count("s-{010..014}.tar"), "5 archives", "3 of them are missing", "s-012.tar")
  one_line_error(lambda: count("t*.tar"), "matches no file")
  one_line_error(lambda: count("nothing.tar"), "does not exist")
  (tmp_path / "empty").mkdir()
  one_line_error(lambda: open_archives(tmp_path / "empty", tmp_path / "w"), "holds no archives")
  texts = write_tar(tmp_path / "texts.tar", [("a.txt", b""), ("b.txt", b"")])
  one_line_error(lambda: open_archives(texts, tmp_path / "w"), "no usable image", "2 txt")


def test_braces_are_those_of_a_shell():
  assert expand_braces("a{b,c}{08..10}{x}") == [f"a{b}{n}{{x}}" for b, n in itertools.product("bc", ("08", "09", "10"))]
  assert expand_braces("{9..11}") == ["9", "10", "11"] and expand_braces("{2..0}") == ["2", "1", "0"]
  assert expand_braces("plain.tar") == ["plain.tar"]
  with pytest.raises(ValueError, match="more than 1,000,000"):
    expand_braces("{0..999}{0..9999}")


@pytest.mark.parametrize("kind", WRITERS)
def test_index_is_reused_until_an_archive_changes(tmp_path, kind, monkeypatch):
  write, end = WRITERS[kind]
  path = write(tmp_path / "d" / f"a.{end}", PICTURES)
  before = open_archives(tmp_path / "d", tmp_path / "w", kind).identity
  scans = []
  scan = archives_module._Listing._scan
  monkeypatch.setattr(archives_module._Listing, "_scan", lambda *a: scans.append(1) or scan(*a))
  assert open_archives(tmp_path / "d", tmp_path / "w", kind).identity == before and not scans
  write(tmp_path / "d" / f"b.{end}", [("new.jpg", b"")])
  assert len(open_archives(tmp_path / "d", tmp_path / "w", kind)) == 31 and len(scans) == 2
  write(path, PICTURES[:5])
  assert len(open_archives(tmp_path / "d", tmp_path / "w", kind)) == 6
  os.utime(path)  # touched within the last two seconds: a later change could hide
  for _ in range(2):
    scans.clear()
    assert len(open_archives(tmp_path / "d", tmp_path / "w", kind)) == 6 and scans


def test_identity_does_not_depend_on_the_positions_of_members(tmp_path):
  one = open_archives(write_tar(tmp_path / "x" / "a.tar", PICTURES), tmp_path / "w").identity
  moved = write_tar(tmp_path / "y" / "a.tar", [("readme.txt", b"moves all that follows")] + PICTURES)
  assert open_archives(moved, tmp_path / "w").identity == one
  other = write_tar(tmp_path / "z" / "a.tar", PICTURES[:-1] + [("p/0029.jpg", b"")])
  assert open_archives(other, tmp_path / "w").identity != one


@pytest.mark.parametrize("kind", WRITERS)
def test_pickled_it_is_small_and_threads_read_the_same(tmp_path, kind):
  write, end = WRITERS[kind]
  many = [(f"{i:05d}_a_rather_long_name.jpg", b"%d" % i * 50) for i in range(500)]
  source = open_archives(write(tmp_path / f"a.{end}", many), tmp_path / "w", kind)
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
      source = open_archives(path, tmp_path / "w", kind)
      assert len(source) == 60 and source.read(33) == PICTURES[3][1] and source.name(33) == f"b.{end}/p/0003.jpg"
      assert source.annotations(33) == ({"camera": 1}, {})
    bucket.pipe_file(f"/shards/{kind}/b.{end}", write(tmp_path / "c", PICTURES[:2]).read_bytes())
    assert len(open_archives(f"memory://shards/{kind}", tmp_path / "w", kind)) == 32
    one_line_error(lambda: open_archives(f"memory://shards/{kind}/none.{end}", tmp_path / "w", kind), "does not exist")
  finally:
    bucket.rm("/shards", recursive=True)
