"""Image sources: the folder's order and remembered index, its errors, the table of sources."""

import functools
import os
import pickle
import time

import pytest

from input_pipeline.sources.containers import folder as folder_module
from input_pipeline.sources.containers.folder import FolderSource
from input_pipeline.sources.table import open_source


def _make(root, names, content=b"x"):
  for name in names:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _age(root, seconds=60):
  """Sets every folder's time back, as if it had not changed for a while."""
  for below, _, _ in os.walk(root):
    os.utime(below, (time.time() - seconds,) * 2)


@pytest.fixture
def photos(tmp_path):
  root = tmp_path / "photos"
  _make(root, ["b.JPG", "a/z.png", "a/y.jpeg", "A.webp", "c.bmp", "notes.txt", ".hidden.jpg", ".git/x.jpg"])
  _age(root)
  return root


def _names(source):
  return [source.name(i) for i in range(len(source))]


def test_folder_is_recursive_sorted_and_leaves_out_other_and_hidden_files(photos, tmp_path):
  assert _names(FolderSource(photos, tmp_path / "w")) == ["A.webp", "a/y.jpeg", "a/z.png", "b.JPG", "c.bmp"]
  assert FolderSource(photos, tmp_path / "w").read(3) == b"x"


def test_index_is_stored_in_the_run_and_reused(photos, tmp_path, monkeypatch):
  first = FolderSource(photos, tmp_path / "w")
  assert not list(photos.rglob("folder_index*")) and list((tmp_path / "w").glob("folder_index*"))
  monkeypatch.setattr(folder_module, "_scan", lambda *_: pytest.fail("scanned again"))
  again = FolderSource(photos, tmp_path / "w")
  assert _names(again) == _names(first) and again.identity == first.identity


@pytest.mark.parametrize(
  "change",
  [
    lambda root: _make(root, ["a/new.jpg"]),
    lambda root: (root / "a" / "y.jpeg").unlink(),
    lambda root: (root / "b.JPG").rename(root / "d.jpg"),
    lambda root: _make(root, ["deep/er/new.png"]),
  ],
)
def test_index_is_rebuilt_when_the_folder_changed(photos, tmp_path, change):
  before = FolderSource(photos, tmp_path / "w")
  change(photos)
  after = FolderSource(photos, tmp_path / "w")
  assert _names(after) == _names(FolderSource(photos, tmp_path / "fresh"))
  assert _names(after) != _names(before) and after.identity["digest"] != before.identity["digest"]


def test_a_folder_changed_just_before_its_scan_is_not_trusted(photos, tmp_path):
  now = time.time_ns()
  os.utime(photos, ns=(now, now))
  FolderSource(photos, tmp_path / "w")
  _make(photos, ["late.jpg"])
  os.utime(photos, ns=(now, now))  # a change within the same time stamp
  assert "late.jpg" in _names(FolderSource(photos, tmp_path / "w"))


def test_damaged_index_is_ignored(photos, tmp_path):
  expected = _names(FolderSource(photos, tmp_path / "w"))
  [index] = (tmp_path / "w").iterdir()
  index.write_bytes(index.read_bytes()[:-4])
  assert _names(FolderSource(photos, tmp_path / "w")) == expected


def test_identity_does_not_depend_on_the_path_of_the_folder(photos, tmp_path):
  before = FolderSource(photos, tmp_path / "w").identity
  moved = tmp_path / "elsewhere" / "photos"
  moved.parent.mkdir()
  photos.rename(moved)
  assert FolderSource(moved, tmp_path / "w").identity == before


def test_pickle_is_small_and_whole(tmp_path):
  _make(tmp_path / "many", [f"{i:05d}_a_rather_long_name.jpg" for i in range(500)])
  source = FolderSource(tmp_path / "many", tmp_path / "w")
  pickled = pickle.dumps(source)
  assert len(pickled) < 1000
  assert _names(pickle.loads(pickled)) == _names(source)


def _one_line_error(call, *parts):
  with pytest.raises(ValueError) as error:
    call()
  message = str(error.value)
  assert "\n" not in message and all(part in message for part in parts), message


def test_errors_name_the_value_and_the_setting(tmp_path):
  cache = tmp_path / "w"
  (tmp_path / "empty").mkdir()
  _make(tmp_path / "texts", [f"{i}.txt" for i in range(12)] + ["x.tiff", "README"])
  _make(tmp_path, ["file.jpg"])
  _one_line_error(lambda: FolderSource(tmp_path / "none", cache), "data.path=", "does not exist")
  _one_line_error(lambda: FolderSource(tmp_path / "file.jpg", cache), "data.path=", "is a file")
  _one_line_error(lambda: FolderSource(tmp_path / "empty", cache), "data.path=", "holds no images", "nothing")
  _one_line_error(lambda: FolderSource(tmp_path / "texts", cache), "12 .txt", "1 .tiff", "1 (no extension)", "webp")
  _one_line_error(lambda: FolderSource(tmp_path / "none", cache, "data.scene_path"), "data.scene_path=")
  _make(tmp_path / "good", ["1.jpg"])
  _one_line_error(lambda: FolderSource(tmp_path / "good", tmp_path / "file.jpg" / "w"), "be written", "TMPDIR")
  open_ = functools.partial(open_source, cache_dir=cache)
  _one_line_error(lambda: open_("rar", None), "data.source='rar'", "choose one of: arrayrecord, ", " folder, ")
  _one_line_error(lambda: open_("folder", None), "data.path", "a folder of image files")
  _one_line_error(lambda: open_("folder", tmp_path, split="test"), "data.split='test'", "no splits")
  _one_line_error(lambda: open_("people", tmp_path, split="query"), "data.split='query'", "train, val, test")
  _one_line_error(lambda: open_("folder", tmp_path, margin=0.2), "--margin", "coco")
  _one_line_error(lambda: open_("people", tmp_path / "empty"), "saip prepare people --out=")
  _one_line_error(lambda: open_("people", None), "data.people_count=0")
  _one_line_error(lambda: open_("people", None, people_count=9, people_composition="views"), "people_count=9", "of 4")
