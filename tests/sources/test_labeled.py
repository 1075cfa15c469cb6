"""Data sets of whole images: captions, Fashionpedia, Clothing Co-Parsing."""

import numpy as np
import pytest
import scipy.io

from tests.support.annotated_photos import annotation, coco, names, write_json, write_photo
from tests.support.labeled_sets import assert_refused, open_set, people_of, plane_of


def _caption_record(key, name, split="test", **further):
  return {"id": 7, "split": split, key: name, "captions": ["A man.", "In a red coat."]} | further


@pytest.mark.parametrize(
  "kind, file, key",
  [
    ("cuhkpedes", "reid_raw.json", "file_path"),
    ("cuhkpedes", "caption_all.json", "file_path"),
    ("icfgpedes", "ICFG-PEDES.json", "file_path"),
    ("rstpreid", "data_captions.json", "img_path"),
  ],
)
def test_captions_and_identities_of_one_split(tmp_path, kind, file, key):
  root = tmp_path / "set"
  for name in ("CUHK01/a.png", "CUHK01/b.png", "CUHK03/a.png"):
    write_photo(root / "imgs" / name)
  write_json(
    root / file,
    [
      _caption_record(key, "CUHK03/a.png", processed_tokens=[["a"]]),
      _caption_record(key, "CUHK01/a.png", id=8),
      _caption_record(key, "CUHK01/b.png", "train"),
      _caption_record(key, "CUHK01/gone.png"),
      _caption_record(key, "CUHK01/a.png"),
      _caption_record(key, "CUHK01/b.png", captions=[]),
      _caption_record(key, "CUHK01/b.png", id="7a"),
      5,
    ],
  )
  source = open_set(kind, root, "test")
  assert names(source) == ["imgs/CUHK01/a.png", "imgs/CUHK03/a.png"]
  assert people_of(source)[0] == [{"identity": 8, "captions": ["A man.", "In a red coat."]}]
  assert source.identity["protocol"] == {"split": "test"} and source.identity["source"] == kind
  assert source.read(1) == (root / "imgs/CUHK03/a.png").read_bytes()
  assert [name for name, _ in source.left_out] == [
    "imgs/CUHK01/gone.png",
    *(f"{file} record {k}" for k in (5, 6, 7)),
    "imgs/CUHK01/a.png",
  ]
  assert len(open_set(kind, root / file)) == 1  # train
  if kind != "icfgpedes":
    assert_refused(kind, root, "no split 'val'", "test, train", split="val")
  (root / file).write_text('[{"id": 7')
  assert_refused(kind, root, file, "truncated JSON")
  (root / file).write_text("{}")
  assert_refused(kind, root, "expected a list")
  assert_refused(kind, root / "imgs", "has no ", file)


@pytest.mark.parametrize("given", [7, "7", 7.0, " 7"])
def test_ids_of_persons_are_whole_numbers_in_any_form(tmp_path, given):
  write_photo(tmp_path / "set" / "imgs" / "a.png")
  write_json(tmp_path / "set" / "caption_all.json", [_caption_record("file_path", "a.png", id=given)])
  [[person]] = people_of(open_set("cuhkpedes", tmp_path / "set", "test"))
  assert person["identity"] == 7


def _labels(seed=0, hw=(120, 160), classes=18):
  return np.random.default_rng(seed).integers(0, classes, hw).astype(np.uint8)


def _fashionpedia(root, **change):
  write_photo(root / "train" / "a.jpg")
  write_photo(root / "train" / "b.jpg")
  square = lambda x, y, side: [[x, y, x + side, y, x + side, y + side, x, y + side]]
  content = coco(
    [(3, "a.jpg", 120, 160), (4, "b.jpg", 120, 160), (5, "gone.jpg", 120, 160)],
    [
      annotation(1, 3, [40, 40, 10, 10], category_id=31, segmentation=square(40, 40, 10)),  # a pocket on the coat
      annotation(2, 3, [20, 20, 60, 60], category_id=0, segmentation=square(20, 20, 60)),
      annotation(3, 5, [20, 20, 60, 60], category_id=0, segmentation=square(20, 20, 60)),
      annotation(4, 9, [20, 20, 60, 60], category_id=0, segmentation=square(20, 20, 60)),
      annotation(5, 3, [20, 20, 60, 60], category_id=77, segmentation=square(20, 20, 60)),
      annotation(6, 3, [20, 20, 60, 60], category_id=0),
    ],
    [{"id": 31, "name": "pocket"}, {"id": 0, "name": "coat"}],
  )
  write_json(root / "instances_attributes_train2020.json", content | change)
  return root


def test_fashionpedia_draws_small_garments_over_large_ones(tmp_path):
  pytest.importorskip("pycocotools")
  source = open_set("fashionpedia", _fashionpedia(tmp_path / "set"))
  assert names(source) == ["train/a.jpg", "train/b.jpg"]
  assert source.legend == {"parts": ["background", "coat", "pocket"]}
  parts = plane_of(source, 0)
  assert parts[45, 45] == 2 and parts[30, 30] == 1 and parts[5, 5] == 0 and (parts == 2).sum() == 100
  assert not plane_of(source, 1).any()  # nothing of it is labeled
  reasons = dict(source.left_out)
  assert (
    reasons["gone.jpg"] == "no such photo"
    and "does not list" in reasons["instances_attributes_train2020: annotation 3"]
  )
  assert (
    "category 77" in reasons["instances_attributes_train2020: annotation 4"]
    and "mask" in reasons["instances_attributes_train2020: annotation 5"]
    and len(reasons) == 4
  )
  assert source.identity["protocol"] == {"split": "train", "classes": 3}
  assert_refused("fashionpedia", _fashionpedia(tmp_path / "none", categories=[]), "0 categories")
  assert_refused("fashionpedia", _fashionpedia(tmp_path / "other", annotations=None), "another format")


def _ccp(root):
  for number in range(1, 6):
    write_photo(root / "photos" / f"{number:04d}.jpg")
  folder = root / "annotations" / "pixel-level"
  folder.mkdir(parents=True)
  scipy.io.savemat(root / "label_list.mat", {"label_list": np.array(["null", "bag", "skin"], object)[None]})
  scipy.io.savemat(folder / "0001.mat", {"groundtruth": _labels(classes=3)})
  scipy.io.savemat(folder / "0002.mat", {"groundtruth": _labels(hw=(10, 10), classes=3)})
  scipy.io.savemat(folder / "0003.mat", {"tags": np.array([1, 2])})
  (folder / "0004.mat").write_bytes(b"damaged")
  return root


def test_clothing_co_parsing_keeps_the_photos_with_labels_of_their_size(tmp_path):
  source = open_set("ccp", _ccp(tmp_path / "set"))
  assert names(source) == ["photos/0001.jpg"] and (plane_of(source, 0) == _labels(classes=3)).all()
  reasons = dict(source.left_out)
  assert "10 x 10" in reasons["photos/0002.jpg"] and "groundtruth" in reasons["photos/0003.jpg"]
  assert "0004.mat" in reasons["photos/0004.jpg"] and "only its tags" in reasons["photos/0005.jpg"]
  assert_refused("ccp", tmp_path, "not Clothing Co-Parsing")
  assert_refused("ccp", tmp_path / "set", "no splits", split="train")
