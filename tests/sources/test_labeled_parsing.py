"""Parsing data sets: LIP, CIHP and ATR."""

import os
import pickle
import time

import cv2
import fsspec
import numpy as np
import pytest
from PIL import Image

from input_pipeline.sources.annotated import labeled_images as source_module
from input_pipeline.sources.datasets.parsing import ATR_PARTS, CIHP_PARTS
from input_pipeline.sources.table import open_source
from tests.support.annotated_photos import names, write_photo
from tests.support.labeled_sets import assert_refused, open_set, plane_of


def _write_labels(path, labels, palette=False):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = Image.fromarray(labels)
  if palette:
    image.putpalette([k % 251 for k in range(768)])
  image.save(path)


def _labels(seed=0, hw=(120, 160), classes=18):
  return np.random.default_rng(seed).integers(0, classes, hw).astype(np.uint8)


def _lip(root, split="val", stems=("1_1", "2_2")):
  for seed, stem in enumerate(stems):
    write_photo(root / f"{split}_images" / f"{stem}.jpg")
    _write_labels(root / f"{split}_segmentations" / f"{stem}.png", _labels(seed), palette=seed % 2 == 1)
  (root / f"{split}_id.txt").write_text("\n".join(stems) + "\n")
  return root


def _cihp(root, split="Training"):
  for stem in ("0000006", "0000007"):
    write_photo(root / split / "Images" / f"{stem}.jpg")
    _write_labels(root / split / "Category_ids" / f"{stem}.png", _labels())
    persons = np.zeros((120, 160), np.uint8)
    persons[10:50, 20:40], persons[60:90, 100:150] = 1, 4
    _write_labels(root / split / "Human_ids" / f"{stem}.png", persons)
  (root / split / "train_id.txt").write_text("0000006\n0000007\n")
  return root


def _atr(root):
  write_photo(root / "JPEGImages" / "2500_1.jpg")
  _write_labels(root / "SegmentationClassAug" / "2500_1.png", _labels())
  (root / "test_id.txt").write_text("JPEGImages/2500_1.jpg SegmentationClassAug/2500_1.png\n")
  return root


def test_lip_has_the_classes_of_its_files_also_with_palettes(tmp_path):
  source = open_set("lip", _lip(tmp_path / "set"), "val")
  assert names(source) == ["val_images/1_1.jpg", "val_images/2_2.jpg"] and source.annotations(0)[0] == {}
  assert (plane_of(source, 0) == _labels(0)).all() and (plane_of(source, 1) == _labels(1)).all()
  assert source.legend["parts"][14] == "Left-arm" and source.identity["protocol"] == {"split": "val", "classes": 20}
  assert_refused("lip", tmp_path / "set", "no split 'train'", "train_id.txt", "has lists of val")


def test_lip_as_it_is_unpacked_is_found_too(tmp_path):
  _lip(tmp_path / "flat", "train")
  root = tmp_path / "set"
  (root / "TrainVal_images").mkdir(parents=True)
  (root / "TrainVal_parsing_annotations").mkdir()
  for name, below in (
    ("train_images", "TrainVal_images"),
    ("train_id.txt", "TrainVal_images"),
    ("train_segmentations", "TrainVal_parsing_annotations"),
  ):
    (tmp_path / "flat" / name).rename(root / below / name)
  assert names(open_set("lip", root)) == [f"TrainVal_images/train_images/{stem}.jpg" for stem in ("1_1", "2_2")]


def test_cihp_numbers_its_people_without_gaps(tmp_path):
  root = _cihp(tmp_path / "set" / "instance-level_human_parsing").parent
  source = open_set("cihp", root)
  assert len(source) == 2 and source.legend["parts"] == list(CIHP_PARTS) and CIHP_PARTS[10] == "Torso-skin"
  assert source.annotations(0)[0]["people"] == [{"box": [20, 10, 20, 40]}, {"box": [100, 60, 50, 30]}]
  persons = plane_of(source, 0, "instances.png")
  assert set(np.unique(persons)) == {0, 1, 2} and (persons == 2).sum() == 30 * 50
  assert (plane_of(source, 0) == _labels()).all()


def test_atr_is_listed_in_either_way(tmp_path):
  root = _atr(tmp_path / "set")
  source = open_set("atr", root, "test")
  assert names(source) == ["JPEGImages/2500_1.jpg"] and len(source.legend["parts"]) == len(ATR_PARTS) == 18
  (root / "test_id.txt").unlink()
  (root / "lists").mkdir()
  (root / "lists" / "test.txt").write_text("2500_1\ngone\n")
  assert open_set("atr", root, "test").left_out == [("JPEGImages/gone.jpg", "no such photo")]


def test_images_with_labels_that_do_not_fit_are_left_out(tmp_path):
  root = _lip(tmp_path / "set", stems=("good", "small", "none", "text", "strange", "colored"))
  folder = root / "val_segmentations"
  _write_labels(folder / "small.png", _labels(hw=(60, 80)))
  (folder / "none.png").unlink()
  (folder / "text.png").write_text("no image")
  _write_labels(folder / "strange.png", np.full((120, 160), 20, np.uint8))
  write_photo(folder / "colored.png")
  source = open_set("lip", root, "val")
  assert [os.path.basename(name) for name in names(source)] == ["colored.jpg", "good.jpg", "strange.jpg"]
  reasons = {os.path.basename(name): reason for name, reason in source.left_out}
  assert "160 x 120 pixels, the annotation is for 80 x 60" in reasons["small.jpg"]
  assert "no such photo" in reasons["none.jpg"] and "not a readable image" in reasons["text.jpg"]
  with pytest.raises(OSError, match="strange.jpg: 19,200 pixels have the label 20; .* 20 classes, 0 to 19"):
    source.annotations(2)
  with pytest.raises(OSError, match="colored.png has 3 color channels"):
    source.annotations(0)
  _write_labels(folder / "good.png", np.full((120, 160), 255, np.uint8))
  assert (plane_of(source, 1) == 255).all()  # what is not counted is no mistake
  _write_labels(folder / "good.png", _labels(hw=(10, 10)))
  with pytest.raises(OSError, match="good.png has labels of shape .10, 10.*160 x 120"):
    source.annotations(1)


@pytest.mark.parametrize(
  "content, words",
  [(b"", "is empty: expected labels"), (b"GIF89a", "is not a PNG or BMP"), (None, "cannot be read: .*truncated")],
)
def test_errors_name_the_file_of_unreadable_labels(tmp_path, content, words):
  root = _lip(tmp_path / "set")
  source, labels = open_set("lip", root, "val"), root / "val_segmentations" / "1_1.png"
  labels.write_bytes(labels.read_bytes()[:-300] if content is None else content)
  with pytest.raises(OSError, match=f"val_segmentations/1_1.png {words}"):
    source.annotations(0)


def test_an_empty_list_is_refused(tmp_path):
  root = _lip(tmp_path / "set")
  (root / "val_id.txt").write_text("\n")
  assert_refused("lip", root, "no usable image", "0 left out; nothing is listed", split="val")


def test_labels_of_a_turned_photo_stay_on_their_pixels(tmp_path):
  root = _lip(tmp_path / "set")
  for stem, labels_hw in (("1_1", (120, 160)), ("2_2", (160, 120))):  # stored and upright
    write_photo(root / "val_images" / f"{stem}.jpg", (120, 160), exif_orientation=6)
    _write_labels(root / "val_segmentations" / f"{stem}.png", _labels(hw=labels_hw))
  source = open_set("lip", root, "val")
  assert not source.left_out
  for i, flags in enumerate((cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, cv2.IMREAD_COLOR)):
    decoded = cv2.imdecode(np.frombuffer(source.read(i), np.uint8), cv2.IMREAD_COLOR)
    expected = cv2.imread(str(root / source.name(i)), flags)
    assert decoded.shape[:2] == plane_of(source, i).shape == expected.shape[:2] and (decoded == expected).all()


def test_an_index_is_reused_until_something_changes_and_pickles_small(tmp_path, monkeypatch):
  root = _lip(tmp_path / "set")
  for below, _, _ in os.walk(root):
    os.utime(below, (time.time() - 60,) * 2)
  first = open_set("lip", root, "val")
  assert len(pickle.dumps(first)) < 5000
  again = pickle.loads(pickle.dumps(first))
  assert again.read(1) == first.read(1) and (plane_of(again, 1) == plane_of(first, 1)).all()
  with monkeypatch.context() as patched:
    patched.setattr(source_module, "_rows", lambda labels: pytest.fail("listed again"))
    assert open_set("lip", root, "val").identity == first.identity
  (root / "val_id.txt").write_text("2_2\n")
  fewer = open_set("lip", root, "val")
  assert names(fewer) == ["val_images/2_2.jpg"] and fewer.identity["digest"] != first.identity["digest"]
  (root / "val_images" / "2_2.jpg").unlink()
  assert_refused("lip", root, "no usable image", "1 left out; 1: no such photo", split="val")


def test_a_set_in_a_bucket_has_the_same_identity(tmp_path):
  files = fsspec.filesystem("memory")
  files.put(str(_cihp(tmp_path / "set")), "/cihp", recursive=True)
  try:
    here = open_set("cihp", tmp_path / "set")
    there = open_source("cihp", "memory://cihp", cache_dir=tmp_path / "work")
    assert there.identity["digest"] == here.identity["digest"] and there.read(1) == here.read(1)
    assert there.annotations(1) == here.annotations(1)
  finally:
    files.rm("/cihp", recursive=True)
