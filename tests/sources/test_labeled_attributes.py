"""Data sets of attributes: PA-100K, PETA, RAP."""

import pickle

import numpy as np
import pytest
import scipy.io

from tests.support.annotated_photos import names, write_photo
from tests.support.labeled_sets import assert_refused, open_set, people_of


def _cells(*texts):
  cells = np.empty((len(texts), 1), object)
  cells[:, 0] = texts
  return cells


def _pa100k(root):
  content = {"attributes": _cells("Female", "Hat", "Boots")}
  for split, numbers in (("train", (1, 2)), ("val", (3,)), ("test", (4, 5))):
    content[f"{split}_images_name"] = _cells(*(f"{k:06d}.jpg" for k in numbers))
    content[f"{split}_label"] = np.array([[k % 2, 1, 0] for k in numbers], np.uint8)
  for k in (1, 2, 3, 5):
    write_photo(root / "data" / f"{k:06d}.jpg")
  scipy.io.savemat(str(root / "annotation.mat"), content)


def _peta(root):
  labels = np.zeros((7, 4 + 105), int)
  labels[:, 4] = [1, 0, 1, 0, 1, 0, 0]
  parts = np.empty((5, 1), object)
  for k in range(5):
    rows = [[1 + (k + shift) % 7, 99] for shift in range(6)]
    parts[k, 0] = {"train": np.array(rows[:2]), "val": np.array(rows[2:4]), "test": np.array(rows[4:6])}
  for k in range(1, 8):
    write_photo(root / "images" / f"{k:05d}.png")
  scipy.io.savemat(
    str(root / "PETA.mat"),
    {
      "peta": {
        "data": labels,
        "attribute": _cells(*(f"attribute {k}" for k in range(105))),
        "other": 0,
        "partition": parts,
      }
    },
  )


def _rap(root, version):
  names, count = [f"CAM0{k}.png" for k in range(1, 5)], {1: 92, 2: 152}[version]
  labels = np.zeros((4, count), int)
  labels[:, 2] = [0, 1, 2, 1]
  attributes, parts = _cells(*(f"attribute {k}" for k in range(count))), np.empty((1, 5), object)
  for k in range(5):
    parts[0, k] = {"train_index": np.array([[1, 2]]), "val_index": np.array([[3]]), "test_index": np.array([[4]])}
    if version == 1:
      parts[0, k] = {"train_index": np.array([[1, 2, 3]]), "test_index": np.array([[4]])}
  content = (
    {
      "name": _cells(*names),
      "data": labels,
      "attribute": attributes,
      "partition_attribute": parts,
      "selected_attribute": np.arange(2, 56)[None],
    }
    if version == 2
    else {
      "partion": parts.T,
      "label": labels,
      "attribute": attributes,
      "attribute_eng": attributes,
      "position": np.zeros((4, 4)),
      "imagesname": _cells(*names),
    }
  )
  for name in names:
    write_photo(root / "RAP_dataset" / name)
  (root / "RAP_annotation").mkdir()
  scipy.io.savemat(str(root / "RAP_annotation" / "RAP_annotation.mat"), {"RAP_annotation": content})


def test_pa100k_has_its_four_splits_and_counts_what_is_missing(tmp_path):
  _pa100k(tmp_path / "set")
  train, trainval, test = (open_set("pa100k", tmp_path / "set", split) for split in (None, "trainval", "test"))
  assert names(train) == ["data/000001.jpg", "data/000002.jpg"] and len(trainval) == 3
  assert people_of(train) == [[{"attributes": [1, 1, 0]}], [{"attributes": [0, 1, 0]}]]
  assert train.legend == {"attributes": ["Female", "Hat", "Boots"]}
  assert names(test) == ["data/000005.jpg"] and test.left_out == [("000004.jpg", "no such photo")]
  assert test.identity["protocol"] == {"split": "test"}


def test_peta_is_evaluated_on_35_attributes_of_its_first_partition(tmp_path):
  _peta(tmp_path / "set")
  trainval, test = open_set("peta", tmp_path / "set", "trainval"), open_set("peta", tmp_path / "set", "test")
  assert names(trainval) == [f"images/{k:05d}.png" for k in (1, 2, 3, 4)]
  assert names(test) == ["images/00005.png", "images/00006.png"]
  assert [people[0]["attributes"][0] for people in people_of(trainval)] == [1, 0, 1, 0]
  assert test.legend["attributes"] == [f"attribute {k}" for k in range(35)]
  assert test.identity["protocol"] == {"split": "test", "partition": "1 of 5", "attributes": "35 of 105"}


@pytest.mark.parametrize("version, column, attributes", [(1, 2, "51 of 92"), (2, 1, "54 of 152")])
def test_rap_reports_its_version(tmp_path, version, column, attributes):
  _rap(tmp_path / "set", version)
  split = {1: "train", 2: "trainval"}[version]
  source = open_set("rap", tmp_path / "set", split)
  assert [people[0]["attributes"][column] for people in people_of(source)] == [0, 1, None]  # 2: cannot be seen
  assert source.legend["attributes"][column] == "attribute 2"
  assert len(source.legend["attributes"]) == int(attributes[:2])
  assert source.identity["protocol"] == {
    "split": split,
    "partition": "1 of 5",
    "version": version,
    "attributes": attributes,
  }
  assert names(open_set("rap", tmp_path / "set", "test")) == ["RAP_dataset/CAM04.png"]
  if version == 1:
    assert_refused("rap", tmp_path / "set", "no split 'val'", "train, test", split="val")


def test_unusable_attribute_files_raise_one_line(tmp_path):
  root = tmp_path / "set"
  _peta(root)
  (root / "dataset_all.pkl").write_bytes(pickle.dumps({}))
  assert_refused("peta", root / "dataset_all.pkl", "pickle", "PETA.mat")
  assert_refused("pa100k", root, "no annotation.mat")
  content = scipy.io.loadmat(root / "PETA.mat")
  content["peta"]["data"][0, 0][1, 6] = 3
  scipy.io.savemat(root / "PETA.mat", {"peta": content["peta"]})
  assert dict(open_set("peta", root).left_out)["00002.png"] == "row 2 has a label other than 0, 1 and 2"
  scipy.io.savemat(root / "PETA.mat", {"peta": {"a": 1}})
  assert_refused("peta", root, "PETA.mat does not have")
  (root / "PETA.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(600))
  assert_refused("peta", root, "MATLAB 7.3", "-v7")
  (root / "PETA.mat").write_bytes(b"no mat file")
  assert_refused("peta", root, "not a readable MATLAB file")
