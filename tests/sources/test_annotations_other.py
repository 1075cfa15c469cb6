"""Readers of YOLO's text files, Penn-Fudan and LSP."""

import cv2
import numpy as np
import pytest
import scipy.io

from input_pipeline.sources.datasets.lsp import open_lsp
from input_pipeline.sources.datasets.pennfudan import open_pennfudan
from input_pipeline.sources.datasets.yolo import open_yolo
from tests.support.annotated_photos import decoded, mask, names, person, write_photo

NAMES = "names:\n  0: person\n  1: dog\n"


def _yolo(root, labels, config=f"train: images/train\nval: images/val\n{NAMES}", photos=("a", "b"), folder="train"):
  """A data set of 160 x 120 photos; `labels` are lines by photo."""
  for name in photos:
    write_photo(root / "images" / folder / f"{name}.jpg")
  for name, lines in labels.items():
    (root / "labels" / folder).mkdir(parents=True, exist_ok=True)
    (root / "labels" / folder / f"{name}.txt").write_text("\n".join(lines))
  (root / "data.yaml").write_text(config)
  return root


def _open(path, tmp_path, split=None, **further):
  return open_yolo(str(path), split, str(tmp_path / "work"), "--path", **further)


def test_yolo_boxes_and_polygons_are_fractions_of_the_photo(tmp_path):
  pytest.importorskip("pycocotools")
  root = _yolo(
    tmp_path / "set",
    {
      "a": [
        "0 0.5 0.5 0.25 0.5",
        "1 0.5 0.5 0.9 0.9",
        "",
        "0 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75",
        "0.0 0.5 0.5 0.5 0.5 0.9",
      ]
    },
  )
  source = _open(root, tmp_path, margin=0)
  assert names(source) == ["a.jpg#1", "a.jpg#4", "a.jpg#5"]
  assert [source.crop_box(i) for i in range(3)] == [(60, 30, 100, 90), (40, 30, 80, 90), (40, 30, 120, 90)]
  assert source.annotations(0)[1] == {} and mask(source, 1).mean() > 0.95
  assert person(source, 2) == {"score": 0.9, "box": [0, 0, 80, 60]}


def test_yolo_poses_have_the_shape_given_in_the_yaml(tmp_path):
  root = _yolo(
    tmp_path / "set",
    {"a": ["0 0.5 0.5 0.5 0.5 0.5 0.5 2 0.25 0.25 1 0 0 0"]},
    f"train: images/train\nkpt_shape: [3, 3]\n{NAMES}",
  )
  source = _open(root, tmp_path, margin=0)
  assert person(source, 0)["keypoints"] == [[40, 30, 2], [0, 0, 1], [0, 0, 0]]
  assert source.legend == {"joints": ["joint_0", "joint_1", "joint_2"]}
  root = _yolo(
    tmp_path / "flat",
    {"a": ["0 0.5 0.5 0.5 0.5 0.5 0.5 0 0"]},
    "train: images/train\nkpt_shape: [2, 2]\nkpt_names:\n  0: [nose, tail]\nnames: [person]\n",
  )
  source = _open(root, tmp_path, margin=0)
  assert person(source, 0)["keypoints"] == [[40, 30, 2], [0, 0, 0]] and source.legend["joints"] == ["nose", "tail"]


def test_invalid_yolo_lines_are_left_out_by_number(tmp_path):
  root = _yolo(
    tmp_path / "set",
    {
      "a": [
        "0 0.5 0.5 0.25 0.5",
        "0 x y z w",
        "0 80 60 40 60",
        "0 nan 0.5 0.5 0.5",
        "0 0.5 0.5",
        "7 0.5 0.5 0.5 0.5",
        "0 0.5 0.5 0 0.5",
        "0 1.9 0.5 0.2 0.2",
        "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4",
      ]
    },
  )
  source = _open(root, tmp_path)
  assert names(source) == ["a.jpg#1"]
  assert sorted(name for name, _ in source.left_out) == [f"a.jpg#{k}" for k in range(2, 10)]


@pytest.mark.parametrize(
  "change, message",
  [
    ({"config": "train: images/train\n"}, "expected one .yaml with the `names`.*none"),
    ({"config": f"val: images/train\n{NAMES}"}, "no split 'train'.*has val"),
    ({"config": f"train: images/gone\n{NAMES}"}, "names images/gone, which does not exist"),
    ({"config": "{"}, "cannot be read as YAML"),
    ({"config": "- 1"}, "not a mapping"),
    ({"labels": {}}, "none of 2 photos"),
    ({"labels": {"a": []}}, "no usable person"),
  ],
)
def test_unusable_yolo_sets_raise_one_line(tmp_path, change, message):
  root = _yolo(tmp_path / "set", **({"labels": {"a": ["0 0.5 0.5 0.5 0.5"]}} | change))
  with pytest.raises(ValueError, match=message) as error:
    _open(root, tmp_path)
  assert "\n" not in str(error.value) and "--path" in str(error.value)


def test_yolo_photos_may_be_above_beside_or_listed_one_by_one(tmp_path):
  labels = {"a": ["0 0.5 0.5 0.5 0.5"], "b": ["0 0.5 0.5 0.5 0.5"]}
  shared = tmp_path / "shared"
  _yolo(shared / "detection", labels)
  (shared / "detection" / "images").rename(shared / "images")
  assert names(_open(shared / "detection", tmp_path)) == names(_open(shared, tmp_path)) == ["a.jpg#1", "b.jpg#1"]
  listed = _yolo(tmp_path / "listed", labels, f"train: train.txt\n{NAMES}")
  (listed / "train.txt").write_text("./images/train/b.jpg\nimages/train/gone.jpg\n../../etc/passwd.jpg\n")
  source = _open(listed / "data.yaml", tmp_path)
  assert names(source) == ["images/train/b.jpg#1"]
  assert [name for name, _ in source.left_out] == ["images/train/gone.jpg", "../../etc/passwd.jpg"]
  linked = _yolo(tmp_path / "linked", labels)
  (linked / "images" / "train").rename(tmp_path / "elsewhere")
  (linked / "images" / "train").symlink_to(tmp_path / "elsewhere")
  assert names(_open(linked, tmp_path)) == ["a.jpg#1", "b.jpg#1"]
  roboflow = tmp_path / "roboflow"
  write_photo(roboflow / "train" / "images" / "a.jpg")
  (roboflow / "train" / "labels").mkdir()
  (roboflow / "train" / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
  (roboflow / "data.yaml").write_text("train: ../train/images\nnc: 1\nnames: ['person']\n")
  assert names(_open(roboflow, tmp_path)) == ["a.jpg#1"]


def test_yolo_coordinates_are_in_the_upright_photo_and_changed_labels_are_read(tmp_path):
  root = _yolo(tmp_path / "set", {"a": ["0 0.5 0.25 0.5 0.25"]})
  write_photo(root / "images" / "train" / "a.jpg", (120, 160), exif_orientation=6)
  source = _open(root, tmp_path, margin=0)
  photo = cv2.imread(str(root / "images" / "train" / "a.jpg"))
  assert photo.shape[:2] == (160, 120) and source.crop_box(0) == (30, 20, 90, 60)
  assert np.abs(decoded(source, 0).astype(int) - photo[20:60, 30:90]).mean() < 3
  (root / "labels" / "train" / "a.txt").write_text("0 0.5 0.25 0.5 0.50")
  assert _open(root, tmp_path, margin=0).crop_box(0) == (30, 0, 90, 80)


def _pennfudan(root):
  write_photo(root / "PNGImages" / "P1.png")
  for folder in ("Annotation", "PedMasks"):
    (root / folder).mkdir()
  masks = np.zeros((120, 160), np.uint8)
  masks[9:80, 19:60], masks[20:90, 100:140] = 1, 2
  cv2.imwrite(str(root / "PedMasks" / "P1_mask.png"), masks)
  (root / "Annotation" / "P1.txt").write_text("""# Compatible with PASCAL Annotation Version 1.00
Image filename : "PennFudanPed/PNGImages/P1.png"
Image size (X x Y x C) : 160 x 120 x 3
Bounding box for object 1 "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : (20, 10) - (60, 80)
Pixel mask for object 1 "PASpersonWalking" : "PennFudanPed/PedMasks/P1_mask.png"
Bounding box for object 2 "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : (101, 21) - (140, 90)
Pixel mask for object 2 "PASpersonWalking" : "PennFudanPed/PedMasks/P1_mask.png"
""")
  (root / "Annotation" / "P2.txt").write_text('Image filename : "PennFudanPed/PNGImages/P2.png"\n')
  return root


def test_pennfudan_counts_pixels_from_1_and_includes_the_last(tmp_path):
  root = _pennfudan(tmp_path / "up" / "PennFudanPed")
  for path in (root, root.parent):
    source = open_pennfudan(str(path), None, str(tmp_path / "work"), "--path", margin=0)
    assert names(source) == ["PNGImages/P1.png#1", "PNGImages/P1.png#2"]
    assert source.crop_box(0) == (19, 9, 60, 80) and source.crop_box(1) == (100, 20, 140, 90)
    assert mask(source, 0).all() and mask(source, 1).all()  # nothing but the person
    assert source.left_out == [("Annotation/P2.txt", "no such photo")]
  (root / "PedMasks" / "P1_mask.png").write_bytes(b"no image")
  with pytest.raises(OSError, match="not an image of masks"):
    source.annotations(0)
  with pytest.raises(ValueError, match="not Penn-Fudan"):
    open_pennfudan(str(tmp_path), None, str(tmp_path / "work"), "--path")


def _lsp(root, joints):
  for number in (1, 2):
    write_photo(root / "images" / f"im{number:05d}.jpg")
  scipy.io.savemat(str(root / "joints.mat"), {"joints": joints})
  return root


@pytest.mark.parametrize("axes, flags, v", [("n3p", (1, 0), (2, 0)), ("3np", (0, 1), (2, 1))])
def test_lsp_flags_by_the_order_of_the_axes(tmp_path, axes, flags, v):
  joints = np.zeros((14, 3, 3))
  joints[:, 0], joints[:, 1] = (40 + np.arange(14))[:, None], (30 + 4 * np.arange(14))[:, None]
  joints[:, 2] = flags[0]
  joints[5, 2] = flags[1]
  root = _lsp(tmp_path / "set", joints if axes == "n3p" else joints.transpose(1, 0, 2))
  source = open_lsp(str(root), None, str(tmp_path / "work"), "--path")
  assert names(source) == ["images/im00001.jpg#1", "images/im00002.jpg#2"] and dict(source.left_out) == {
    "image 3": "no such photo"
  }
  left, top, _, _ = source.crop_box(0)
  keypoints = person(source, 0)["keypoints"]
  assert keypoints[0] == [39.5 - left, 29.5 - top, v[0]] and keypoints[5][2] == v[1]  # pixels count from 1
  assert source.legend["joints"][0] == "right_ankle" and source.legend["joints"][13] == "head_top"


def test_lsp_has_the_usual_splits_and_lspet_is_for_training(tmp_path, monkeypatch):
  monkeypatch.setattr("input_pipeline.sources.datasets.lsp._LSP_TRAIN", 1)
  joints = np.zeros((14, 3, 2))
  joints[:, 0], joints[:, 1] = (40 + np.arange(14))[:, None], (30 + 4 * np.arange(14))[:, None]
  lsp = str(_lsp(tmp_path / "lsp", joints.transpose(1, 0, 2)))
  joints[:, 2] = 1
  lspet = str(_lsp(tmp_path / "lspet", joints))
  open_split = lambda path, split: names(open_lsp(path, split, str(tmp_path / "work"), "--path"))
  one, two = "images/im00001.jpg#1", "images/im00002.jpg#2"
  assert open_split(lsp, "train") == [one] and open_split(lsp, "test") == [two] and open_split(lsp, None) == [one, two]
  assert open_split(lspet, "train") == open_split(lspet, None) == [one, two]
  with pytest.raises(ValueError, match="is LSPET.*--hold-out"):
    open_split(lspet, "test")


def test_lsp_files_of_another_format(tmp_path):
  root = _lsp(tmp_path / "set", np.zeros((4, 5, 6)))
  with pytest.raises(ValueError, match="shape .4, 5, 6."):
    open_lsp(str(root), None, str(tmp_path / "work"), "--path")
  (root / "joints.mat").write_bytes(b"no mat file")
  with pytest.raises(ValueError, match="cannot be read as MATLAB"):
    open_lsp(str(root), None, str(tmp_path / "work"), "--path")
  with pytest.raises(ValueError, match="not LSP"):
    open_lsp(str(tmp_path), None, str(tmp_path / "work"), "--path")
