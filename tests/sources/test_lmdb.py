"""LMDB files of images: agreement with the library, and damaged files."""

import os
import pickle
import subprocess
import sys
import threading
import time

import hypothesis
import hypothesis.strategies as st
import pytest

from input_pipeline.sources.containers import lmdb_source
from input_pipeline.sources.containers.lmdb_source import open_lmdb

lmdb = pytest.importorskip("lmdb", reason="the lmdb package writes the files")

JPEG = b"\xff\xd8\xff"
FORMATS = [0, 1] if int(lmdb.__version__.split(".")[0]) >= 3 else [None]  # the file formats of LMDB 0.9 and 1.0


def _write(path, items, *, form=None, database=None, **options):
  """Writes (key, value) pairs with the library and sets the file's time back."""
  options |= {"lib_version": form} if form is not None else {}
  environment = lmdb.open(str(path), map_size=1 << 28, max_dbs=4, **options)
  opened = environment.open_db(database) if database else None
  with environment.begin(write=True, db=opened) as transaction:
    for key, value in items:
      transaction.put(key, value)
  environment.close()
  data = path / "data.mdb" if options.get("subdir", True) else path
  os.utime(data, (time.time() - 60,) * 2)
  return path


def _open(path, cache):
  return open_lmdb(str(path), None, str(cache), "data.path")


def _items(source):
  return [(source.name(i), source.read(i)) for i in range(len(source))]


def _one_line_error(call, *parts):
  with pytest.raises(ValueError) as error:
    call()
  message = str(error.value)
  assert "\n" not in message and all(part in message for part in parts), message


PICTURES = [(b"p/%05d.jpg" % i, JPEG + b"%d" % i * (i * 7 % 2000)) for i in range(800)]


@pytest.mark.parametrize("form", FORMATS)
@hypothesis.given(
  st.dictionaries(st.binary(min_size=1, max_size=300), st.binary(max_size=20_000), max_size=60),
  st.lists(st.binary(min_size=1, max_size=300), max_size=20),
)
@hypothesis.settings(max_examples=25, deadline=None)
def test_files_of_the_library_are_read(tmp_path_factory, form, values, removed):
  root = tmp_path_factory.mktemp("l")
  values = {key: JPEG + value for key, value in values.items()} | {b"\0last": JPEG}
  _write(root / "db", values.items(), form=form)
  with lmdb.open(str(root / "db"), map_size=1 << 28) as environment, environment.begin(write=True) as transaction:
    for key in [*removed, *list(values)[::3]]:  # leaves holes, and pages of two generations
      if key != b"\0last" and transaction.delete(key):
        del values[key]
  source = _open(root / "db", root / "w")
  assert _items(source) == [(key.decode("utf-8", "surrogateescape"), values[key]) for key in sorted(values)]


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_of_path_gives_the_same(tmp_path, form):
  folder = _write(tmp_path / "db", PICTURES, form=form)
  single = _write(tmp_path / "x.lmdb", PICTURES, form=form, subdir=False)
  (tmp_path / "luperson").mkdir()
  _write(tmp_path / "luperson" / "lmdb", PICTURES, form=form)  # as LUPerson is distributed
  paths = folder, folder / "data.mdb", single, tmp_path / "luperson"
  sources = [_open(path, tmp_path / "w") for path in paths]
  assert all(_items(source) == [(key.decode(), value) for key, value in PICTURES] for source in sources)
  assert [source.identity["name"] for source in sources] == ["db", "db", "x.lmdb", "luperson"]
  assert len({source.identity["digest"] for source in sources}) == 1 and sources[0].identity["source"] == "lmdb"


def test_nothing_is_written_beside_the_data(tmp_path):
  folder = _write(tmp_path / "db", PICTURES[:5])
  (folder / "lock.mdb").unlink()
  folder.chmod(0o555)
  try:
    source = _open(folder, tmp_path / "w")
    assert source.read(4) == PICTURES[4][1] and os.listdir(folder) == ["data.mdb"]
  finally:
    folder.chmod(0o755)


def test_values_that_are_not_images_are_left_out_with_a_reason(tmp_path):
  class Malicious:
    def __reduce__(self):
      return (os.mkdir, (str(tmp_path / "unpickled"),))

  pickled = pickle.dumps(Malicious())
  images = {
    b"a.jpg": JPEG,
    b"b.png": b"\x89PNG\r\n\x1a\n",
    b"c": b"RIFF\0\0\0\0WEBPVP8 ",
    b"d": b"BM\1\2\3\4\0\0\0\0",
    b"\xff": JPEG,
  }
  others = {
    b"__keys__": pickled,
    b"e": pickled,
    b"f": b"",
    b"num-samples": b"12",
    b"g": b"\0\1\2\xff" * 9,
    b"h": b"BMW is a car",
  }
  source = _open(_write(tmp_path / "db", (images | others).items()), tmp_path / "w")
  assert [name for name, _ in _items(source)] == ["a.jpg", "b.png", "c", "d", "\udcff"]
  reasons = dict(source.left_out)
  assert set(reasons) == {key.decode() for key in others}
  assert "never loaded; store the encoded image bytes alone" in reasons["e"] and reasons["e"] == reasons["__keys__"]
  assert (
    "zero bytes" in reasons["f"]
    and "text or a number" in reasons["num-samples"]
    and reasons["g"].startswith("not an image")
  )
  assert not (tmp_path / "unpickled").exists()


def test_a_long_list_of_left_out_values_is_shortened(tmp_path):
  source = _open(_write(tmp_path / "db", [(b"%d" % i, b"text") for i in range(1500)] + PICTURES[:1]), tmp_path / "w")
  assert len(source.left_out) == 1001 and source.left_out[-1][0] == "and 500 more"


@pytest.mark.parametrize("form", FORMATS)
def test_named_databases_are_named(tmp_path, form):
  folder = _write(tmp_path / "db", PICTURES, form=form, database=b"train")
  _one_line_error(lambda: _open(folder, tmp_path / "w"), "named databases (train)", "root")
  _write(tmp_path / "db", PICTURES[:3], form=form)
  source = _open(folder, tmp_path / "w")
  assert len(source) == 3 and [reason for _, reason in source.left_out] == ["a named database"]


def test_several_values_under_one_key(tmp_path):
  environment = lmdb.open(str(tmp_path / "db"), map_size=1 << 24, max_dbs=1)
  with environment.begin(write=True, db=environment.open_db(b"dup", dupsort=True)) as transaction:
    for value in (b"1", b"2", b"3"):
      transaction.put(b"twice", JPEG + value)
    transaction.put(b"once", JPEG)
  environment.close()
  path = tmp_path / "db" / "data.mdb"
  content = bytearray(path.read_bytes())
  record = content.rindex(b"dup") + 3
  for page in (0, 4096):  # the named database becomes the root one, which the library would not make so
    content[page + 88 : page + 136] = content[record : record + 48]
  path.write_bytes(content)
  source = _open(path, tmp_path / "w")
  assert _items(source) == [("once", JPEG)] and source.left_out == [("twice", "several values under one key")]


def test_other_files_are_refused(tmp_path):
  cache = tmp_path / "w"
  (tmp_path / "empty").mkdir()
  (tmp_path / "text.lmdb").write_bytes(b"no database at all" * 1000)
  (tmp_path / "nothing.lmdb").write_bytes(b"")
  _one_line_error(lambda: _open(tmp_path / "none", cache), "data.path=", "does not exist")
  _one_line_error(lambda: _open(tmp_path / "empty", cache), "data.mdb")
  _one_line_error(lambda: _open(tmp_path / "text.lmdb", cache), "is not an LMDB file")
  _one_line_error(lambda: _open(tmp_path / "nothing.lmdb", cache), "empty (zero bytes)")
  _one_line_error(lambda: _open("gs://bucket/x.lmdb", cache), "must be local", "saip prepare")
  _one_line_error(lambda: _open(_write(tmp_path / "bare", []), cache), "it is empty")
  _one_line_error(lambda: _open(_write(tmp_path / "texts", [(b"k", b"v")]), cache), "k: a text", "JPEG")


@pytest.mark.parametrize("form", FORMATS)
def test_a_truncated_file_gives_the_rest_or_raises_one_line(tmp_path, form):
  whole = (_write(tmp_path / "db", PICTURES, form=form) / "data.mdb").read_bytes()
  expected = {key.decode(): value for key, value in PICTURES}
  parts = 0
  for percent in range(0, 100, 3):
    path = tmp_path / f"{percent}.lmdb"
    path.write_bytes(whole[: len(whole) * percent // 100])
    try:
      source = _open(path, tmp_path / "w")
    except ValueError as error:
      assert "truncated" in str(error) or "empty" in str(error)
      continue
    parts += 1
    assert set(_items(source)) <= set(expected.items())
    assert any("truncated" in reason or "lost" in reason for _, reason in source.left_out)
  assert parts


@pytest.mark.parametrize("form", FORMATS)
def test_overwritten_pages_lose_only_their_own_entries(tmp_path, form):
  path = _write(tmp_path / "db", PICTURES, form=form) / "data.mdb"
  whole, expected = path.read_bytes(), {key.decode(): value for key, value in PICTURES}
  path.write_bytes(whole[: len(whole) // 3] + bytes(len(whole) // 3) + whole[len(whole) // 3 * 2 :])
  source = _open(path, tmp_path / "w")
  assert 100 < len(source) < 800 and {name for name, _ in _items(source)} <= set(expected)
  assert source.left_out[0][0] == "data.mdb" and "of its 800 entries are lost" in source.left_out[0][1]


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=100, deadline=None)
def test_flipped_bytes_give_a_source_or_raise_one_line(tmp_path_factory, data):
  root = tmp_path_factory.mktemp("f")
  content = bytearray((_write(root / "db", PICTURES[:60]) / "data.mdb").read_bytes())
  page = data.draw(st.integers(0, len(content) // 4096 - 1))
  for place in data.draw(st.lists(st.integers(0, 199), min_size=1, max_size=8)):
    content[page * 4096 + place] = data.draw(st.integers(0, 255))
  (root / "flipped.lmdb").write_bytes(content)
  try:
    source = _open(root / "flipped.lmdb", root / "w")
  except ValueError as error:
    assert "\n" not in str(error)
    return
  assert all(len(value) <= len(content) for _, value in _items(source))


def test_index_is_reused_until_the_file_changes(tmp_path, monkeypatch):
  path = _write(tmp_path / "db", PICTURES)
  before = _open(path, tmp_path / "w").identity
  scans = []
  scan = lmdb_source._scan
  monkeypatch.setattr(lmdb_source, "_scan", lambda *a: scans.append(1) or scan(*a))
  assert _open(path, tmp_path / "w").identity == before and not scans
  _write(path, [(b"new", JPEG)])
  after = _open(path, tmp_path / "w")
  assert scans == [1] and len(after) == 801 and after.identity["digest"] != before["digest"]


@pytest.mark.compile
def test_pickled_it_is_small_and_threads_and_processes_read_the_same(tmp_path):
  source = _open(_write(tmp_path / "db", PICTURES), tmp_path / "w")
  pickled = pickle.dumps(source)
  assert len(pickled) < 1000
  wrong, expected = [], [value for _, value in PICTURES]
  copies = [source, pickle.loads(pickled), pickle.loads(pickled)]
  check = lambda copy: wrong.extend(i for i in range(800) if copy.read(i) != expected[i])
  threads = [threading.Thread(target=check, args=(copy,)) for copy in copies]
  [t.start() for t in threads]
  [t.join() for t in threads]
  assert not wrong
  code = "import pickle, sys; s = pickle.load(sys.stdin.buffer); print(len(s), sum(len(s.read(i)) for i in range(800)))"
  run = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True)
  assert run.stdout.split() == [b"800", b"%d" % sum(map(len, expected))]
