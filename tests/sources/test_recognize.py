"""Recognizing the kind of a data set: the layouts of every kind, and other paths."""

import io
import json
import tarfile

import fsspec
import numpy as np
import pytest

from input_pipeline.people.prepare import prepare_people
from input_pipeline.people.spec import SetSpec
from input_pipeline.sources.kinds import SOURCE_KINDS
from input_pipeline.sources.recognize import LAYOUTS, recognize_source
from input_pipeline.sources.table import OPENERS


def _npz_bytes():
  buffer = io.BytesIO()
  np.savez(buffer, image=np.zeros(0, "U1"), joints_xyz=np.zeros((0, 1, 3)))
  return buffer.getvalue()


_COCO = json.dumps({"info": {}, "images": [], "annotations": [], "categories": []})
_PREPARED = json.dumps({"format": "saip_jax images, records 1", "shards": {}})
_YAML = "path: .\ntrain: images/train\nnames:\n  0: person\n"
_NPZ = _npz_bytes()
_MARKET = "0002_c1s1_000451_03.jpg"


def _make(root, files):
  for name in files if isinstance(files, dict) else dict.fromkeys(files, b""):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = files[name] if isinstance(files, dict) else b""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return root


def _tar_bytes():
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode="w") as tar:
    tar.addfile(tarfile.TarInfo("a.jpg"))
  return buffer.getvalue()


@pytest.mark.parametrize(
  "kind, files, below",
  [
    ("folder", ["a.jpg"], ""),
    ("folder", ["deep/er/and/deeper/a.PNG", "notes.txt"], ""),
    ("folder", ["a.jpg", "b.jpg", "backup.zip", "old.tar"], ""),
    ("folder", {"a.jpg": b"", "a.json": json.dumps({"caption": "a man"})}, ""),
    ("folder", ["00001.jpg", "00002.jpg", "00003.jpg"], ""),
    ("folder", ["a/00001.jpg", "b/00001.jpg", "camera.jpg", "frame_1.jpg"], ""),
    ("video", ["walk/frame_0001.jpg", "walk/frame_0002.jpg", "run/frame17.png"], ""),
    ("multiview", ["cam01_00017.jpg", "cam02_00017.jpg"], ""),
    ("multiview", ["walk/Camera_1/00017.jpg", "walk/Camera_2/00017.jpg"], ""),
    ("multiview", ["cam1/frame_17.jpg", "cam2/frame_17.jpg"], ""),
    ("folder", ["cam1/00017.jpg", "cam1/00018.jpg"], ""),
    ("arrayrecord", ["x.array_record"], ""),
    ("arrayrecord", ["x-train.array_record-00000-of-00002"], ""),
    ("arrayrecord", {"meta.json": _PREPARED}, ""),
    ("tfds", ["dataset_info.json", "features.json", "x-train.array_record-00000-of-00001"], ""),
    ("tfds", ["people/1.0.0/dataset_info.json", "people/1.0.0/features.json"], "people"),
    ("webdataset", ["0000.tar", "0001.tar"], ""),
    ("webdataset", ["train/0000.tar"], ""),
    ("webdataset", ["0000.tar"], "0000.tar"),
    ("webdataset", {"shard": _tar_bytes()}, "shard"),
    ("webdataset", ["0000.tar"], "{0000..0001}.tar"),
    ("lmdb", ["data.mdb", "lock.mdb"], ""),
    ("lmdb", ["data.mdb"], "data.mdb"),
    ("lmdb", ["lmdb/data.mdb", "lmdb/lock.mdb", "keys.pkl"], ""),
    ("lmdb", ["x.lmdb"], "x.lmdb"),
    ("zip", ["a.zip", "b.zip"], ""),
    ("zip", ["a.zip"], "a.zip"),
    ("coco", {"x.json": _COCO}, "x.json"),
    ("coco", {"annotations/person_keypoints_train2017.json": _COCO, "train2017/a.jpg": b""}, ""),
    ("coco", {"annotations/val/a.json": _COCO, "images/a.jpg": b""}, ""),
    ("coco", {"x.json": _COCO, "a.jpg": b"", "b.jpg": b""}, ""),
    ("crowdhuman", ["annotation_train.odgt"], "annotation_train.odgt"),
    ("crowdhuman", ["annotation_train.odgt", "Images/a.jpg"], ""),
    ("fashionpedia", {"annotations/instances_attributes_train2020.json": _COCO, "train/a.jpg": b""}, ""),
    ("joints3d", {"3dpw_train.npz": _NPZ, "imageFiles/a.jpg": b""}, ""),
    ("joints3d", {"train.npz": _NPZ}, "train.npz"),
    ("cuhkpedes", {"reid_raw.json": "[]", "imgs/cam_a/a.png": b""}, ""),
    ("icfgpedes", {"ICFG-PEDES.json": "[]", "imgs/train/a.jpg": b""}, ""),
    ("rstpreid", {"data_captions.json": "[]", "imgs/a.jpg": b""}, ""),
    ("pa100k", ["annotation.mat", "data/000001.jpg"], ""),
    ("peta", ["PETA.mat", "images/00001.png"], ""),
    ("rap", ["RAP_annotation/RAP_annotation.mat", "RAP_dataset/a.png"], ""),
    ("lip", ["train_id.txt", "train_images/a.jpg", "train_segmentations/a.png"], ""),
    ("cihp", ["Training/Images/a.jpg", "Training/Category_ids/a.png"], ""),
    ("cihp", ["instance-level_human_parsing/Training/Category_ids/a.png"], ""),
    ("atr", ["JPEGImages/a.jpg", "SegmentationClassAug/a.png"], ""),
    ("ccp", ["label_list.mat", "photos/0001.jpg"], ""),
    ("yolo", {"data.yaml": _YAML}, "data.yaml"),
    ("yolo", {"data.yaml": _YAML, "train/images/a.jpg": b"", "train/labels/a.txt": b""}, ""),
    ("yolo", ["images/a.jpg", "labels/a.txt"], ""),
    ("yolo", {"images/a.jpg": b"", "labels/a.txt": b"", "labels/b.txt": b"0 0.5 0.5 0.1 0.1\n"}, ""),
    ("yolo", {"images/a.jpg": b"", "labels/train/b.txt": b"\xef\xbb\xbf3.0 0.5 5e-1 0.1 0.1\r\n"}, ""),
    ("folder", ["images/a.jpg", "labels/a.png"], ""),  # a parsing set, as CIHP is often unpacked
    ("folder", {"images/a.jpg": b"", "labels/a.png": b"", "labels/classes.txt": b"person\ncar\n"}, ""),
    ("folder", {"images/a.jpg": b"", "labels/a.png": b"", "labels/train_id.txt": b"0000006\n0000007\n"}, ""),
    ("coco", {"train/_annotations.coco.json": _COCO, "train/a.jpg": b"", "valid/a.jpg": b""}, ""),
    ("coco", {"train/labels.json": _COCO, "train/data/a.jpg": b""}, ""),
    ("coco", {"valid/annotations/instances.json": _COCO, "valid/images/a.jpg": b""}, ""),
    ("folder", {"other/labels.json": _COCO, "other/a.jpg": b""}, ""),
    ("cuhkpedes", ["caption_all.json", "imgs/a.jpg"], ""),
    ("pennfudan", ["PNGImages/a.png", "PedMasks/a_mask.png", "Annotation/a.txt"], ""),
    ("pennfudan", ["PennFudanPed/PNGImages/a.png", "PennFudanPed/PedMasks/a_mask.png"], ""),
    ("lsp", ["joints.mat", "images/im00001.jpg"], ""),
    ("market1501", ["bounding_box_train/a.jpg", "query/a.jpg"], ""),
    ("market1501", [_MARKET, "-1_c3s2_000451_03.jpg"], ""),
    ("market1501", ["train/" + _MARKET], ""),
    ("msmt17", ["list_train.txt", "train/0000/a.jpg", "test/0000/a.jpg"], ""),
    ("msmt17", ["list_train.txt", "mask_train_v2/0000/a.jpg"], ""),
  ],
)
def test_every_kind_is_recognized_by_its_layout(tmp_path, kind, files, below):
  assert recognize_source(str(_make(tmp_path / "set", files) / below)) == kind


def test_every_kind_is_opened_and_recognized():
  assert OPENERS.keys() == LAYOUTS.keys() == SOURCE_KINDS.keys()


def test_built_in_people_are_distinguished_from_their_exports(tmp_path):
  spec = SetSpec("crops", (32, 16), 0, 12)
  prepare_people(tmp_path / "people", spec, 12, progress=False)
  prepare_people(tmp_path / "market", spec, 12, export="market1501", progress=False)
  assert recognize_source(str(tmp_path / "people")) == "people"
  assert recognize_source(str(tmp_path / "market")) == "market1501"


def test_buckets_are_recognized_too():
  files = fsspec.filesystem("memory")
  files.pipe(
    {
      "/recognize/photos/a.jpg": b"x",
      "/recognize/shards/0.tar": b"x",
      "/recognize/prepared/meta.json": _PREPARED.encode(),
      "/recognize/coco/annotations/a.json": _COCO.encode(),
      "/recognize/db/data.mdb": b"x",
    }
  )
  names = ("photos", "shards", "prepared", "coco", "db")
  found = {name: recognize_source(f"memory://recognize/{name}") for name in names}
  assert found == {"photos": "folder", "shards": "webdataset", "prepared": "arrayrecord", "coco": "coco", "db": "lmdb"}
  assert recognize_source("memory://recognize/shards/0.tar") == "webdataset"


@pytest.mark.parametrize(
  "files, below, parts",
  [
    (["a.txt", "b.txt", "c.csv"], "", ("2 .txt", "1 .csv", "--source=")),
    ([], "", ("nothing", "--source=")),
    (["a.jpg"], "a.jpg", ("one image", "folder")),
    (["notes.txt"], "notes.txt", ("one file of 0 bytes",)),
    (["a.jpg"], "missing", ("does not exist",)),
  ],
)
def test_other_paths_raise_one_line(tmp_path, files, below, parts):
  (tmp_path / "set").mkdir()
  with pytest.raises(ValueError) as error:
    recognize_source(str(_make(tmp_path / "set", files) / below), "--path")
  message = str(error.value)
  assert "\n" not in message and message.startswith("--path=") and all(part in message for part in parts), message


def test_a_folder_of_very_many_files_is_not_listed_whole(tmp_path, monkeypatch):
  _make(tmp_path, [f"{i:05d}.jpg" for i in range(2000)])
  import os

  seen = []
  real = os.path.splitext
  monkeypatch.setattr("input_pipeline.sources.recognize.os.path.splitext", lambda name: seen.append(name) or real(name))
  assert recognize_source(str(tmp_path)) == "folder"
  assert len(set(seen)) <= 300


def test_numpy_archives_are_not_recognized_as_zip(tmp_path):
  np.savez(tmp_path / "x.npz", a=np.zeros(3))
  with pytest.raises(ValueError, match="looks like no known kind"):
    recognize_source(str(tmp_path / "x.npz"))
