"""Data sets of whole images with their labels: captions, attributes, classes of pixels; splits and what is left out."""

import os
import pathlib
import pickle
import time

import cv2
import fsspec
import numpy as np
import pytest
import scipy.io
from PIL import Image

from annotated_photos import annotation, coco, names, write_json, write_photo
from input_pipeline.sources.labelled import source as source_module
from input_pipeline.sources.labelled.parsing import ATR_PARTS, CIHP_PARTS
from input_pipeline.sources.table import open_source

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the sample data in shared/data")


def _open(kind, path, split=None):
  return open_source(kind, path, split=split, cache_dir=str(path) + "_cache", setting="--path")


def _people(source):
  return [source.annotations(i)[0]["people"] for i in range(len(source))]


def _plane(source, i, name="parts.png"):
  return cv2.imdecode(np.frombuffer(source.annotations(i)[1][name], np.uint8), cv2.IMREAD_UNCHANGED)


def _refused(kind, path, *words, split=None):
  with pytest.raises(ValueError) as error:
    _open(kind, path, split)
  message = str(error.value)
  assert "\n" not in message and message.startswith("--") and all(word in message for word in words), message


def _caption_record(key, name, split="test", **further):
  return {"id": 7, "split": split, key: name, "captions": ["A man.", "In a red coat."]} | further


@pytest.mark.parametrize("kind, file, key", [
    ("cuhkpedes", "reid_raw.json", "file_path"), ("icfgpedes", "ICFG-PEDES.json", "file_path"),
    ("rstpreid", "data_captions.json", "img_path")])
def test_captions_and_identities_of_one_split(tmp_path, kind, file, key):
  root = tmp_path / "set"
  for name in ("CUHK01/a.png", "CUHK01/b.png", "CUHK03/a.png"):
    write_photo(root / "imgs" / name)
  write_json(root / file, [
      _caption_record(key, "CUHK03/a.png", processed_tokens=[["a"]]), _caption_record(key, "CUHK01/a.png", id=8),
      _caption_record(key, "CUHK01/b.png", "train"), _caption_record(key, "CUHK01/gone.png"),
      _caption_record(key, "CUHK01/a.png"), _caption_record(key, "CUHK01/b.png", captions=[]),
      _caption_record(key, "CUHK01/b.png", id="7"), 5])
  source = _open(kind, root, "test")
  assert names(source) == ["imgs/CUHK01/a.png", "imgs/CUHK03/a.png"]
  assert _people(source)[0] == [{"identity": 8, "captions": ["A man.", "In a red coat."]}]
  assert source.identity["protocol"] == {"split": "test"} and source.identity["source"] == kind
  assert source.read(1) == (root / "imgs/CUHK03/a.png").read_bytes()
  assert [name for name, _ in source.left_out] == [
      "imgs/CUHK01/gone.png", *(f"{file} record {k}" for k in (5, 6, 7)), "imgs/CUHK01/a.png"]
  assert len(_open(kind, root / file)) == 1  # train
  if kind != "icfgpedes":
    _refused(kind, root, "no split 'val'", "test, train", split="val")
  (root / file).write_text('[{"id": 7')
  _refused(kind, root, file, "cut off")
  (root / file).write_text("{}")
  _refused(kind, root, "expected a list")
  _refused(kind, root / "imgs", f"no {file}")


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
  scipy.io.savemat(str(root / "PETA.mat"), {"peta": {
      "data": labels, "attribute": _cells(*(f"attribute {k}" for k in range(105))), "other": 0, "partition": parts}})


def _rap(root, version):
  names, count = [f"CAM0{k}.png" for k in range(1, 5)], {1: 92, 2: 152}[version]
  labels = np.zeros((4, count), int)
  labels[:, 2] = [0, 1, 2, 1]
  attributes, parts = _cells(*(f"attribute {k}" for k in range(count))), np.empty((1, 5), object)
  for k in range(5):
    parts[0, k] = {"train_index": np.array([[1, 2]]), "val_index": np.array([[3]]), "test_index": np.array([[4]])}
    if version == 1:
      parts[0, k] = {"train_index": np.array([[1, 2, 3]]), "test_index": np.array([[4]])}
  content = {"name": _cells(*names), "data": labels, "attribute": attributes, "partition_attribute": parts,
             "selected_attribute": np.arange(2, 56)[None]} if version == 2 else {
      "partion": parts.T, "label": labels, "attribute": attributes, "attribute_eng": attributes,
      "position": np.zeros((4, 4)), "imagesname": _cells(*names)}
  for name in names:
    write_photo(root / "RAP_dataset" / name)
  (root / "RAP_annotation").mkdir()
  scipy.io.savemat(str(root / "RAP_annotation" / "RAP_annotation.mat"), {"RAP_annotation": content})


def test_pa100k_has_its_four_splits_and_counts_what_is_missing(tmp_path):
  _pa100k(tmp_path / "set")
  train, trainval, test = (_open("pa100k", tmp_path / "set", split) for split in (None, "trainval", "test"))
  assert names(train) == ["data/000001.jpg", "data/000002.jpg"] and len(trainval) == 3
  assert _people(train) == [[{"attributes": [1, 1, 0]}], [{"attributes": [0, 1, 0]}]]
  assert train.legend == {"attributes": ["Female", "Hat", "Boots"]}
  assert names(test) == ["data/000005.jpg"] and test.left_out == [("000004.jpg", "no such photo")]
  assert test.identity["protocol"] == {"split": "test"}


def test_peta_is_evaluated_on_35_attributes_of_its_first_partition(tmp_path):
  _peta(tmp_path / "set")
  trainval, test = _open("peta", tmp_path / "set", "trainval"), _open("peta", tmp_path / "set", "test")
  assert names(trainval) == [f"images/{k:05d}.png" for k in (1, 2, 3, 4)]
  assert names(test) == ["images/00005.png", "images/00006.png"]
  assert [people[0]["attributes"][0] for people in _people(trainval)] == [1, 0, 1, 0]
  assert test.legend["attributes"] == [f"attribute {k}" for k in range(35)]
  assert test.identity["protocol"] == {"split": "test", "partition": "1 of 5", "attributes": "35 of 105"}


@pytest.mark.parametrize("version, column, attributes", [(1, 2, "51 of 92"), (2, 1, "54 of 152")])
def test_rap_of_both_versions_says_which_it_is(tmp_path, version, column, attributes):
  _rap(tmp_path / "set", version)
  split = {1: "train", 2: "trainval"}[version]
  source = _open("rap", tmp_path / "set", split)
  assert [people[0]["attributes"][column] for people in _people(source)] == [0, 1, None]  # 2: cannot be seen
  assert source.legend["attributes"][column] == "attribute 2"
  assert len(source.legend["attributes"]) == int(attributes[:2])
  assert source.identity["protocol"] == {"split": split, "partition": "1 of 5", "version": version,
                                         "attributes": attributes}
  assert names(_open("rap", tmp_path / "set", "test")) == ["RAP_dataset/CAM04.png"]
  if version == 1:
    _refused("rap", tmp_path / "set", "no split 'val'", "train, test", split="val")


def test_files_of_attributes_that_cannot_be_used_end_with_one_line(tmp_path):
  root = tmp_path / "set"
  _peta(root)
  (root / "dataset_all.pkl").write_bytes(pickle.dumps({}))
  _refused("peta", root / "dataset_all.pkl", "pickle", "PETA.mat")
  _refused("pa100k", root, "no annotation.mat")
  content = scipy.io.loadmat(root / "PETA.mat")
  content["peta"]["data"][0, 0][1, 6] = 3
  scipy.io.savemat(root / "PETA.mat", {"peta": content["peta"]})
  assert dict(_open("peta", root).left_out)["00002.png"] == "row 2 has a label that is none of 0, 1 and 2"
  scipy.io.savemat(root / "PETA.mat", {"peta": {"a": 1}})
  _refused("peta", root, "PETA.mat is of another form")
  (root / "PETA.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(600))
  _refused("peta", root, "MATLAB 7.3", "-v7")
  (root / "PETA.mat").write_bytes(b"no mat file")
  _refused("peta", root, "no MATLAB file")


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


def test_lip_has_the_classes_of_its_files_also_of_palettes(tmp_path):
  source = _open("lip", _lip(tmp_path / "set"), "val")
  assert names(source) == ["val_images/1_1.jpg", "val_images/2_2.jpg"] and source.annotations(0)[0] == {}
  assert (_plane(source, 0) == _labels(0)).all() and (_plane(source, 1) == _labels(1)).all()
  assert source.legend["parts"][14] == "Left-arm" and source.identity["protocol"] == {"split": "val", "classes": 20}
  _refused("lip", tmp_path / "set", "no split 'train'", "train_id.txt", "has lists of val")


def test_lip_as_it_is_unpacked_is_found_too(tmp_path):
  _lip(tmp_path / "flat", "train")
  root = tmp_path / "set"
  (root / "TrainVal_images").mkdir(parents=True)
  (root / "TrainVal_parsing_annotations").mkdir()
  for name, below in (("train_images", "TrainVal_images"), ("train_id.txt", "TrainVal_images"),
                      ("train_segmentations", "TrainVal_parsing_annotations")):
    (tmp_path / "flat" / name).rename(root / below / name)
  assert names(_open("lip", root)) == [f"TrainVal_images/train_images/{stem}.jpg" for stem in ("1_1", "2_2")]


def test_cihp_numbers_its_people_without_gaps(tmp_path):
  root = _cihp(tmp_path / "set" / "instance-level_human_parsing").parent
  source = _open("cihp", root)
  assert len(source) == 2 and source.legend["parts"] == list(CIHP_PARTS) and CIHP_PARTS[10] == "Torso-skin"
  assert source.annotations(0)[0]["people"] == [{"box": [20, 10, 20, 40]}, {"box": [100, 60, 50, 30]}]
  persons = _plane(source, 0, "instances.png")
  assert set(np.unique(persons)) == {0, 1, 2} and (persons == 2).sum() == 30 * 50
  assert (_plane(source, 0) == _labels()).all()


def test_atr_is_listed_in_either_way(tmp_path):
  root = _atr(tmp_path / "set")
  source = _open("atr", root, "test")
  assert names(source) == ["JPEGImages/2500_1.jpg"] and len(source.legend["parts"]) == len(ATR_PARTS) == 18
  (root / "test_id.txt").unlink()
  (root / "lists").mkdir()
  (root / "lists" / "test.txt").write_text("2500_1\ngone\n")
  assert _open("atr", root, "test").left_out == [("JPEGImages/gone.jpg", "no such photo")]


def test_labels_that_do_not_fit_leave_their_image_out(tmp_path):
  root = _lip(tmp_path / "set", stems=("good", "small", "none", "text", "strange", "coloured"))
  folder = root / "val_segmentations"
  _write_labels(folder / "small.png", _labels(hw=(60, 80)))
  (folder / "none.png").unlink()
  (folder / "text.png").write_text("no image")
  _write_labels(folder / "strange.png", np.full((120, 160), 20, np.uint8))
  write_photo(folder / "coloured.png")
  source = _open("lip", root, "val")
  assert [os.path.basename(name) for name in names(source)] == ["coloured.jpg", "good.jpg", "strange.jpg"]
  reasons = {os.path.basename(name): reason for name, reason in source.left_out}
  assert "160 x 120 pixels, the annotation is for 80 x 60" in reasons["small.jpg"]
  assert "no such photo" in reasons["none.jpg"] and "no image" in reasons["text.jpg"]
  with pytest.raises(OSError, match="strange.jpg: 19,200 pixels have the label 20; .* 20 classes, 0 to 19"):
    source.annotations(2)
  with pytest.raises(OSError, match="coloured.png has 3 colour channels"):
    source.annotations(0)
  _write_labels(folder / "good.png", np.full((120, 160), 255, np.uint8))
  assert (_plane(source, 1) == 255).all()  # what is not counted is no mistake
  _write_labels(folder / "good.png", _labels(hw=(10, 10)))
  with pytest.raises(OSError, match="good.png has labels of shape .10, 10.*160 x 120"):
    source.annotations(1)


def test_labels_of_a_turned_photo_lie_on_the_pixels_that_they_were_drawn_on(tmp_path):
  root = _lip(tmp_path / "set")
  for stem, labels_hw in (("1_1", (120, 160)), ("2_2", (160, 120))):  # stored and upright
    write_photo(root / "val_images" / f"{stem}.jpg", (120, 160), exif_orientation=6)
    _write_labels(root / "val_segmentations" / f"{stem}.png", _labels(hw=labels_hw))
  source = _open("lip", root, "val")
  assert not source.left_out
  for i, flags in enumerate((cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, cv2.IMREAD_COLOR)):
    decoded = cv2.imdecode(np.frombuffer(source.read(i), np.uint8), cv2.IMREAD_COLOR)
    expected = cv2.imread(str(root / source.name(i)), flags)
    assert decoded.shape[:2] == _plane(source, i).shape == expected.shape[:2] and (decoded == expected).all()


def test_a_list_is_remembered_until_something_changes_and_travels_light(tmp_path, monkeypatch):
  root = _lip(tmp_path / "set")
  for below, _, _ in os.walk(root):
    os.utime(below, (time.time() - 60,) * 2)
  first = _open("lip", root, "val")
  assert len(pickle.dumps(first)) < 5000
  again = pickle.loads(pickle.dumps(first))
  assert again.read(1) == first.read(1) and (_plane(again, 1) == _plane(first, 1)).all()
  with monkeypatch.context() as patched:
    patched.setattr(source_module, "_rows", lambda labels: pytest.fail("listed again"))
    assert _open("lip", root, "val").identity == first.identity
  (root / "val_id.txt").write_text("2_2\n")
  fewer = _open("lip", root, "val")
  assert names(fewer) == ["val_images/2_2.jpg"] and fewer.identity["digest"] != first.identity["digest"]
  (root / "val_images" / "2_2.jpg").unlink()
  _refused("lip", root, "no image that can be used", "1 left out; 1: no such photo", split="val")


def test_a_set_in_a_bucket_is_the_same_set(tmp_path):
  files = fsspec.filesystem("memory")
  files.put(str(_cihp(tmp_path / "set")), "/cihp", recursive=True)
  try:
    here = _open("cihp", tmp_path / "set")
    there = open_source("cihp", "memory://cihp", cache_dir=tmp_path / "work")
    assert there.identity["digest"] == here.identity["digest"] and there.read(1) == here.read(1)
    assert there.annotations(1) == here.annotations(1)
  finally:
    files.rm("/cihp", recursive=True)


def _fashionpedia(root, **change):
  write_photo(root / "train" / "a.jpg")
  write_photo(root / "train" / "b.jpg")
  square = lambda x, y, side: [[x, y, x + side, y, x + side, y + side, x, y + side]]
  content = coco([(3, "a.jpg", 120, 160), (4, "b.jpg", 120, 160), (5, "gone.jpg", 120, 160)], [
      annotation(1, 3, [40, 40, 10, 10], category_id=31, segmentation=square(40, 40, 10)),  # a pocket on the coat
      annotation(2, 3, [20, 20, 60, 60], category_id=0, segmentation=square(20, 20, 60)),
      annotation(3, 5, [20, 20, 60, 60], category_id=0, segmentation=square(20, 20, 60)),
      annotation(4, 9, [20, 20, 60, 60], category_id=0, segmentation=square(20, 20, 60)),
      annotation(5, 3, [20, 20, 60, 60], category_id=77, segmentation=square(20, 20, 60)),
      annotation(6, 3, [20, 20, 60, 60], category_id=0)],
                 [{"id": 31, "name": "pocket"}, {"id": 0, "name": "coat"}])
  write_json(root / "instances_attributes_train2020.json", content | change)
  return root


def test_fashionpedia_lays_small_garments_over_large_ones(tmp_path):
  pytest.importorskip("pycocotools")
  source = _open("fashionpedia", _fashionpedia(tmp_path / "set"))
  assert names(source) == ["train/a.jpg", "train/b.jpg"]
  assert source.legend == {"parts": ["background", "coat", "pocket"]}
  parts = _plane(source, 0)
  assert parts[45, 45] == 2 and parts[30, 30] == 1 and parts[5, 5] == 0 and (parts == 2).sum() == 100
  assert not _plane(source, 1).any()  # nothing of it is labelled
  reasons = dict(source.left_out)
  assert reasons["gone.jpg"] == "no such photo" and "does not list" in reasons[
      "instances_attributes_train2020: annotation 3"]
  assert "category 77" in reasons["instances_attributes_train2020: annotation 4"] and "mask" in reasons[
      "instances_attributes_train2020: annotation 5"] and len(reasons) == 4
  assert source.identity["protocol"] == {"split": "train", "classes": 3}
  _refused("fashionpedia", _fashionpedia(tmp_path / "none", categories=[]), "0 categories")
  _refused("fashionpedia", _fashionpedia(tmp_path / "other", annotations=None), "JSON of another kind")


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
  source = _open("ccp", _ccp(tmp_path / "set"))
  assert names(source) == ["photos/0001.jpg"] and (_plane(source, 0) == _labels(classes=3)).all()
  reasons = dict(source.left_out)
  assert "10 x 10" in reasons["photos/0002.jpg"] and "groundtruth" in reasons["photos/0003.jpg"]
  assert "0004.mat" in reasons["photos/0004.jpg"] and "tags alone" in reasons["photos/0005.jpg"]
  _refused("ccp", tmp_path, "no Clothing Co-Parsing")
  _refused("ccp", tmp_path / "set", "no splits", split="train")


@needs_shared
def test_clothing_co_parsing_itself(tmp_path):
  source = open_source("ccp", SHARED / "ccp", cache_dir=tmp_path)
  assert len(source) == 80 and len(source.left_out) == 10 and len(source.legend["parts"]) == 59
  skin, hair = (source.legend["parts"].index(name) for name in ("skin", "hair"))
  seen = [_plane(source, i) for i in range(0, 80, 16)]
  assert all((parts == skin).any() and (parts == hair).any() for parts in seen)
  assert all(parts.shape == cv2.imread(str(SHARED / "ccp" / source.name(i))).shape[:2]
             for i, parts in zip(range(0, 80, 16), seen))
