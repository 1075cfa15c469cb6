"""Market-1501 and MSMT17: splits, identities, cameras, and what is left out."""

import os
import pickle
import time

import numpy as np
import pytest
import scipy.io

from input_pipeline.sources.datasets import reid as reid_module
from input_pipeline.sources.datasets.reid import msmt17_version, open_market1501, open_msmt17
from saip_jax.evaluation.splits import LabeledImages
from saip_jax.evaluation.tasks.attributes import attribute_labels
from tests.support.annotated_photos import names


def _write(root, *files):
  for name in files:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(name.encode())


def _market(root):
  _write(
    root,
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c6s4_000001_01.jpg",
    "bounding_box_train/notes.txt",
    "bounding_box_train/Thumbs.db",
    "bounding_box_train/photo.jpg",
    "query/0005_c2s1_000001_00.jpg",
    "bounding_box_test/-1_c1s1_000401_03.jpg",
    "bounding_box_test/0000_c3s1_000451_03.jpg",
    "bounding_box_test/0005_c1s1_000451_03.jpg",
  )
  return root


def _open(opener, path, tmp_path, split=None):
  return opener(str(path), split, str(tmp_path / "work"), "--path")


def _persons(source):
  facts = [source.annotations(i)[0] for i in range(len(source))]
  return [(fact["people"][0]["identity"], fact["camera"]) for fact in facts]


def test_market1501_has_three_splits_and_names_what_is_left_out(tmp_path):
  root = _market(tmp_path / "set")
  train, query, gallery = (_open(open_market1501, root, tmp_path, split) for split in (None, "query", "gallery"))
  assert names(train) == ["0002_c1s1_000451_03.jpg", "0002_c6s4_000001_01.jpg"] and _persons(train) == [(2, 0), (2, 5)]
  assert [name for name, _ in train.left_out] == ["photo.jpg"]
  assert _persons(query) == [(5, 1)] and train.read(1) == b"bounding_box_train/0002_c6s4_000001_01.jpg"
  assert _persons(gallery) == [(0, 2), (5, 0)] and "junk" in dict(gallery.left_out)["-1_c1s1_000401_03.jpg"]
  assert len({source.identity["digest"] for source in (train, query, gallery)}) == 3
  assert train.identity["name"] == "set" and train.identity["source"] == "market1501"
  again = pickle.loads(pickle.dumps(gallery))
  assert names(again) == names(gallery) and _persons(again) == _persons(gallery)


def test_missing_market1501_splits(tmp_path):
  root = _market(tmp_path / "set")
  with pytest.raises(ValueError, match="no split 'val'; it has train, query, gallery"):
    _open(open_market1501, root, tmp_path, "val")
  _write(root, "bounding_box_val/0007_c1s1_000001_00.jpg")
  assert _persons(_open(open_market1501, root, tmp_path, "val")) == [(7, 0)]
  flat = root / "bounding_box_train"
  assert len(_open(open_market1501, flat, tmp_path)) == 2
  with pytest.raises(ValueError, match="train alone"):
    _open(open_market1501, flat, tmp_path, "query")
  _write(tmp_path / "other", "a.jpg", "b.jpg")
  with pytest.raises(ValueError, match="no usable image: 2 images.*a.jpg: its name does not begin"):
    _open(open_market1501, tmp_path / "other", tmp_path)
  with pytest.raises(ValueError, match="does not exist; expected the folder"):
    _open(open_market1501, tmp_path / "nowhere", tmp_path)


def test_market1501_attributes_are_0_or_1_with_one_for_each_age(tmp_path):
  root = _market(tmp_path / "set")
  part = {"age": np.array([3]), "hat": np.array([2]), "bag": np.array([1])}
  scipy.io.savemat(
    str(root / "market_attribute.mat"),
    {
      "market_attribute": {
        "train": part | {"image_index": np.array(["0002"], object)},
        "test": part | {"image_index": np.array(["0005"], object)},
      }
    },
  )
  source = _open(open_market1501, root, tmp_path)
  assert source.legend["attributes"] == ["young", "teenager", "adult", "old", "bag", "hat"]
  assert source.annotations(0)[0]["people"] == [{"identity": 2, "attributes": [0, 0, 1, 0, 0, 1]}]
  whole = (root / "market_attribute.mat").read_bytes()
  for damaged in (b"damaged", whole[:-100]):
    (root / "market_attribute.mat").write_bytes(damaged)
    without = _open(open_market1501, root, tmp_path)
    assert without.annotations(0)[0]["people"] == [{"identity": 2}]
    assert "attributes cannot be read" in without.left_out[-1][1]
    with pytest.raises(ValueError, match="no attributes .*market_attribute.mat: its attributes cannot"):
      attribute_labels(LabeledImages(without))


def test_the_index_is_reused_until_a_file_is_added_or_removed(tmp_path, monkeypatch):
  root = _market(tmp_path / "set")
  for below, _, _ in os.walk(root):
    os.utime(below, (time.time() - 60,) * 2)
  first = _open(open_market1501, root, tmp_path)
  with monkeypatch.context() as patched:
    patched.setattr(reid_module, "Photos", lambda folder: pytest.fail("listed again"))
    assert _open(open_market1501, root, tmp_path).identity == first.identity
  _write(root, "bounding_box_train/0009_c1s1_000001_00.jpg")
  assert len(_open(open_market1501, root, tmp_path)) == 3


def _msmt17(root, train="train", test="test"):
  inside = ["0000/0000_000_01_0303morning_0008_0.jpg", "0000/0000_001_15_0303noon_0008_0.jpg"]
  _write(root, *(f"{folder}/{name}" for folder in (train, test) for name in inside))
  lines = [
    f"{inside[0]} 0",
    "0000/0000_009_01_gone.jpg 0",
    "../secret_000_01_a.jpg 1",
    "/etc/a_b_01_a.jpg 1",
    "nonsense",
    "",
    f"{inside[0]} 0",
  ]
  for split in ("train", "query"):
    (root / f"list_{split}.txt").write_text("\n".join(lines))
  for split in ("val", "gallery"):
    (root / f"list_{split}.txt").write_text(f"{inside[1]} 7\r\n")
  return root


@pytest.mark.parametrize("version, folders", [("V1", ("train", "test")), ("V2", ("mask_train_v2", "mask_test_v2"))])
def test_msmt17_of_both_versions(tmp_path, version, folders):
  root = _msmt17(tmp_path / "up" / "MSMT17_V9", *folders)
  assert msmt17_version(str(root)) == version and msmt17_version(str(tmp_path)) is None
  train, val, query, gallery = (
    _open(open_msmt17, root, tmp_path, split) for split in (None, "val", "query", "gallery")
  )
  assert train.identity["name"] == f"MSMT17_{version}" and train.identity["source"] == "msmt17"
  assert _persons(train) == _persons(query) == [(0, 0)] and _persons(val) == _persons(gallery) == [(7, 14)]
  assert train.read(0).startswith(folders[0].encode()) and query.read(0).startswith(folders[1].encode())
  reasons = dict(train.left_out)
  assert reasons["0000/0000_009_01_gone.jpg"] == "no such file" and len(reasons) == 5
  assert "leads out" in reasons["../secret_000_01_a.jpg"] and "leads out" in reasons["/etc/a_b_01_a.jpg"]
  assert "listed twice" in reasons.values() and any(name.startswith("line 5") for name in reasons)


def test_msmt17_is_found_in_the_folder_above_and_missing_lists_are_named(tmp_path):
  root = _msmt17(tmp_path / "up" / "MSMT17_V1")
  assert len(_open(open_msmt17, root.parent, tmp_path)) == 1
  (root / "list_val.txt").unlink()
  with pytest.raises(ValueError, match="not MSMT17 with a split 'val'; expected list_val.txt"):
    _open(open_msmt17, root, tmp_path, "val")
  (root / "list_train.txt").write_text("gone_000_01_a.jpg 1")
  with pytest.raises(ValueError, match="no usable image.*no such file"):
    _open(open_msmt17, root, tmp_path)


def test_a_set_in_a_bucket_has_the_same_identity(tmp_path):
  import fsspec

  root = _market(tmp_path / "set")
  files = fsspec.filesystem("memory")
  files.put(str(root), "/market", recursive=True)
  try:
    here, there = (_open(open_market1501, path, tmp_path) for path in (root, "memory://market"))
    assert there.identity["digest"] == here.identity["digest"] and there.read(0) == here.read(0)
  finally:
    files.rm("/market", recursive=True)
