"""Readers of annotations in COCO format: files, photos, persons, and malformed input."""

import json

import numpy as np
import pytest

from input_pipeline.sources.annotated.person import box_around, keypoints_of
from input_pipeline.sources.datasets.coco import open_coco
from tests.support.annotated_photos import annotation, coco, decoded, mask, names, person, write_json, write_photo


def _open(path, tmp_path, split=None):
  return open_coco(str(path), split, str(tmp_path / "work"), "--path")


def _set(root, annotations, images=((1, "a.jpg"), (2, "b.jpg")), categories=None):
  for _, name in images:
    write_photo(root / name)
  write_json(root / "x.json", coco([(i, name, 120, 160) for i, name in images], annotations, categories))
  return root


def test_keypoints_are_pixel_indices_and_become_positions():
  assert keypoints_of([(10, 20, 2), (1.25, 2, 1), (5, 5, 0), (float("nan"), 1, 2), (3, 3, 0.7), (3, None, 1)], 0.5) == [
    [10.5, 20.5, 2],
    [1.75, 2.5, 1],
    [0, 0, 0],
    [0, 0, 0],
    [3.5, 3.5, 1],
    [0, 0, 0],
  ]
  assert keypoints_of([(1, 1, 2)], -0.5) == [[0.5, 0.5, 2]]  # the first pixel's center, counted from 1


def test_a_box_around_keypoints_has_a_margin_of_a_quarter():
  assert box_around([[10, 20, 2], [30, 60, 1], [500, 500, 0]]) == (0, 10, 40, 70)
  assert box_around([[10, 20, 2], [0, 0, 0]]) is None and box_around([]) is None


def test_odd_annotations_are_left_out_by_name_and_the_others_stay(tmp_path):
  box, nan = [20, 20, 40, 60], float("nan")
  root = _set(
    tmp_path / "set",
    [
      annotation(1, 1, box),
      annotation(2, 1, box, iscrowd=1),
      annotation(3, 99, box),
      annotation(4, 1, [nan] * 4),
      annotation(5, 1, [1, 2, 3]),
      "text",
      None,
      {"id": 6},
      {"image_id": 1, "id": 7},
      annotation("8", "2", box),
      annotation(1, 1, box),
      annotation(9, 2, None, keypoints=[30, 30, 2, 60, 90, 1, 0, 0, 0]),
      annotation(10, 2, None, center=[80, 60], scale=0.25),
      annotation(11, 2, box, category_id="1"),
      annotation(12, 2, box, keypoints=[nan, 3, 2, 30, 30, 2]),
      annotation(13, 2, box, keypoints=[1, 2]),
      annotation(14, 2, [1e400, 1, 2, 3]),
      annotation(15, 2, [10**400, 1, 2, 3]),
      annotation("\ud800", 1, box),
      annotation(16, 2, box, score=nan, extra={"deep": 1}, tag="x", keypoints=None, segmentation=None),
    ],
  )
  source = _open(root, tmp_path)
  assert names(source) == [
    "a.jpg#1",
    "a.jpg#1(2)",
    "a.jpg#?",
    "b.jpg#8",
    "b.jpg#9",
    "b.jpg#10",
    "b.jpg#11",
    "b.jpg#12",
    "b.jpg#13",
    "b.jpg#16",
  ]
  reasons = dict(source.left_out)
  assert "crowd" in reasons["a.jpg#2"] and "99" in reasons["x: annotation 3"]
  assert "not four numbers" in reasons["a.jpg#4"] and "not four numbers" in reasons["a.jpg#5"]
  assert {"x: annotation 5", "x: annotation 6", "a.jpg#7", "b.jpg#14", "b.jpg#15"} <= reasons.keys()
  assert person(source, 5)["box"][2:] == [50, 50]  # 200 pixels at scale 1
  assert "score" not in person(source, 9) and person(source, 9)["tag"] == "x"
  for i in range(len(source)):
    assert decoded(source, i).size
    json.dumps(source.annotations(i)[0], allow_nan=False)


def test_odd_images_are_left_out_by_name(tmp_path):
  root = _set(tmp_path / "set", [annotation(k, k, [20, 20, 40, 60]) for k in (1, 2, 3)])
  content = json.loads((root / "x.json").read_text())
  content["images"] += [
    {"id": 2, "file_name": "a.jpg"},
    {"id": 3, "file_name": "gone.jpg"},
    {"file_name": "a.jpg"},
    5,
    {"id": 4},
    {"id": 5, "file_name": "../../etc/passwd.jpg"},
  ]
  write_json(root / "x.json", content)
  source = _open(root, tmp_path)
  assert names(source) == ["a.jpg#1", "b.jpg#2"]
  assert [name for name, _ in source.left_out] == [
    "x: a.jpg",
    "gone.jpg",
    "x: image 4",
    "x: image 5",
    "x: image 6",
    "../../etc/passwd.jpg",
  ]


def test_joints_are_named_by_their_category_or_counted(tmp_path):
  categories = [
    {"id": 1, "name": "hand", "keypoints": ["wrist", "thumb"]},
    {"id": 2, "name": "face", "keypoints": []},
    {"id": 3, "name": "foot"},
  ]
  box = [20, 20, 40, 60]
  root = _set(
    tmp_path / "set",
    [
      annotation(1, 1, box, keypoints=[30, 30, 2, 40, 40, 1]),
      annotation(3, 1, box, category_id=3),
      annotation(2, 1, box, category_id=2, keypoints=[30, 30, 2] * 3),
      annotation(4, 1, box, category_id=2, keypoints=[30, 30, 2] * 5),
    ],
    categories=categories,
  )
  source = _open(root, tmp_path)
  assert source.legend["joints"] == {
    "hand": ["wrist", "thumb"],
    "face": ["joint_0", "joint_1", "joint_2"],
    "face_5": [f"joint_{k}" for k in range(5)],
  }
  lists = [(person(source, i).get("joints"), len(person(source, i).get("keypoints", ()))) for i in range(4)]
  assert lists == [("hand", 2), (None, 0), ("face", 3), ("face_5", 5)]


def test_the_person_category_is_read_and_without_one_all_are(tmp_path):
  boxes = [annotation(k, 1, [20, 20, 40, 60], category_id=k) for k in (1, 2)]
  with_person = [{"id": 1, "name": "dog"}, {"id": 2, "name": "Person"}]
  assert names(_open(_set(tmp_path / "a", boxes, categories=with_person), tmp_path)) == ["a.jpg#2"]
  without = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
  assert names(_open(_set(tmp_path / "b", boxes, categories=without), tmp_path)) == ["a.jpg#1", "a.jpg#2"]


def test_photos_are_found_by_path_by_its_end_and_by_base_name(tmp_path):
  root = tmp_path / "set"
  photos = [
    "images/train/1.jpg",
    "images/val/1.jpg",
    "images/val/video/2.jpg",
    "images/other/2.jpg",
    "deep/er/3.jpg",
    "x/4.jpg",
    "y/4.jpg",
    "masks/video/5.jpg",
  ]
  for name in photos:
    write_photo(root / name)
  stated = ["images/train/1.jpg", "1.jpg", "video/2.jpg", "3.jpg", "4.jpg", "clip1/5.jpg", "clip2/5.jpg"]
  write_json(
    root / "annotations" / "person_val.json",
    coco(
      [(k, name, 120, 160) for k, name in enumerate(stated)],
      [annotation(k, k, [20, 20, 40, 60]) for k in range(len(stated))],
    ),
  )
  source = _open(root, tmp_path)
  assert names(source) == ["deep/er/3.jpg#3", "images/train/1.jpg#0", "images/val/1.jpg#1", "images/val/video/2.jpg#2"]
  reasons = dict(source.left_out)
  assert "2 photos could be meant" in reasons["4.jpg"]
  # frames of two clips are called alike: a photo of that name in a third folder is neither
  assert reasons["clip1/5.jpg"] == reasons["clip2/5.jpg"] == "no such photo"


def test_links_to_folders_of_photos_are_followed_and_none_twice(tmp_path):
  root = tmp_path / "set"
  write_photo(tmp_path / "elsewhere" / "1.jpg")
  write_photo(root / "here" / "2.jpg")
  (root / "images").symlink_to(tmp_path / "elsewhere")
  (root / "a_again").symlink_to(root / "here")
  (root / "here" / "up").symlink_to(root)
  (root / "nowhere").symlink_to(root / "gone")
  write_json(
    root / "x.json",
    coco([(k, f"{k}.jpg", 120, 160) for k in (1, 2)], [annotation(k, k, [20, 20, 40, 60]) for k in (1, 2)]),
  )
  assert names(_open(root, tmp_path)) == ["here/2.jpg#2", "images/1.jpg#1"]


def test_the_annotation_file_is_chosen_by_split(tmp_path):
  root = tmp_path / "set"
  write_photo(root / "images" / "a.jpg")
  for k, name in enumerate(
    [
      "person_keypoints_train2017",
      "instances_train2017",
      "instances_val2017",
      "captions_train2017",
      "my_detections_train",
    ]
  ):
    write_json(
      root / "annotations" / f"{name}.json", coco([(1, "a.jpg", 120, 160)], [annotation(k, 1, [20, 20, 40, 60])])
    )
  assert names(_open(root, tmp_path)) == ["images/a.jpg#0"]
  assert _open(root, tmp_path, "train2017").identity == _open(root, tmp_path).identity
  assert names(_open(root, tmp_path, "val")) == ["images/a.jpg#2"]
  assert names(_open(root / "annotations" / "instances_train2017.json", tmp_path)) == ["images/a.jpg#1"]
  with pytest.raises(ValueError, match="no annotation file of split 'test'.*person_keypoints_train2017.json"):
    _open(root, tmp_path, "test")
  for name in ("train", "val"):
    (root / "annotations" / f"instances_{name}2017.json").rename(root / "annotations" / f"one_{name}_a.json")
  write_json(root / "annotations" / "one_val_b.json", {})
  with pytest.raises(ValueError, match="several.*one_val_a.json, one_val_b.json"):
    _open(root, tmp_path, "val")


def test_one_file_for_each_video_is_read_together(tmp_path):
  root = tmp_path / "set"
  for video in ("v1", "v2"):
    write_photo(root / "images" / video / "0.jpg")
    content = coco(
      [(0, f"images/{video}/0.jpg", 120, 160)], [annotation(k, 0, [20, 20, 40, 60], track_id=k) for k in range(2)]
    )
    content["images"][0]["vid_id"] = video
    write_json(root / "annotations" / "val" / f"{video}.json", content)
  for path, split in ((root, "val"), (root / "annotations" / "val", None), (root, None)):
    source = _open(path, tmp_path, split)
    assert names(source) == [f"images/{video}/0.jpg#{k}" for video in ("v1", "v2") for k in range(2)]
    assert [person(source, i)["identity"] for i in range(4)] == [0, 1, 2, 3]  # tracks are of one video each


@pytest.mark.parametrize(
  "content, message",
  [
    (b"", "is empty"),
    (b'{"images": [', "truncated JSON"),
    (b'{"images": "abc', "truncated JSON"),
    (b"\xff\xd8\xff", "not JSON"),
    (b"hello", "not JSON"),
    (b"[" * 100_000, "not JSON|truncated"),
    (b"5", "another kind"),
    (b"[]", "another kind"),
    (b'{"a": 1}', "another kind.*object of a"),
    (b'{"images": []}', "no list `annotations`"),
    (b'{"images": [], "annotations": []}', "no usable person"),
    (b'[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 1}]', "holds detections"),
  ],
)
def test_files_of_another_format_raise_one_line(tmp_path, content, message):
  (tmp_path / "x.json").write_bytes(content)
  with pytest.raises(ValueError, match=message) as error:
    _open(tmp_path / "x.json", tmp_path)
  assert "\n" not in str(error.value) and "--path" in str(error.value) and len(str(error.value)) < 600


def test_a_missing_path_is_refused(tmp_path):
  with pytest.raises(ValueError, match="--path=.*does not exist"):
    _open(tmp_path / "nowhere", tmp_path)
  with pytest.raises(ValueError, match="no annotation file"):
    _open(tmp_path, tmp_path)


def test_panoptic_masks_are_colors(tmp_path):
  cv2 = pytest.importorskip("cv2")
  root = tmp_path / "set"
  write_photo(root / "images" / "a.jpg")
  colors = np.zeros((120, 160, 3), np.uint8)
  colors[20:80, 20:60] = (3, 2, 1)  # blue, green, red
  (root / "annotations" / "panoptic_train").mkdir(parents=True)
  cv2.imwrite(str(root / "annotations" / "panoptic_train" / "a.png"), colors)
  number = 1 + 256 * 2 + 65536 * 3
  segments = [
    {"id": number, "category_id": 1, "bbox": [20, 20, 40, 60], "iscrowd": 0, "area": 2400},
    {"id": 5, "category_id": 2, "bbox": [0, 0, 160, 120], "iscrowd": 0},
    {"id": 6, "category_id": 1, "bbox": [0, 0, 160, 120], "iscrowd": 1},
  ]
  write_json(
    root / "annotations" / "panoptic_train.json",
    coco(
      [(1, "a.jpg", 120, 160)],
      [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
      [{"id": 1, "name": "person"}, {"id": 2, "name": "grass"}],
    ),
  )
  source = _open(root, tmp_path)
  assert names(source) == [f"images/a.jpg#{number}"] and "crowd" in dict(source.left_out)["images/a.jpg#6"]
  left, top, right, bottom = source.crop_box(0)
  assert (mask(source, 0) == (colors[top:bottom, left:right, 0] == 3)).all()


def test_mpii_counts_pixels_from_1(tmp_path):
  root = tmp_path / "set"
  write_photo(root / "images" / "a.jpg")
  joints = [[40 + k, 30 + 3 * k] for k in range(16)]
  write_json(
    root / "annotations" / "train.json",
    [
      {"image": "a.jpg", "joints": joints, "joints_vis": [1] * 15 + [0], "center": [50, 50], "scale": 0.3},
      {"image": "a.jpg", "joints": [[-1, -1]] * 16, "joints_vis": [0] * 16, "center": [50.5, 60.5], "scale": 0.3},
      {"image": "gone.jpg", "joints": joints},
      {"image": "a.jpg", "joints": [[1, 1]], "joints_vis": [0]},
      7,
    ],
  )
  source = _open(root, tmp_path)
  left, top, _, _ = source.crop_box(0)
  keypoints = person(source, 0)["keypoints"]
  assert keypoints[0] == [39.5 - left, 29.5 - top, 2] and keypoints[15] == [0, 0, 0]
  assert source.legend["joints"][0] == "right_ankle" and len(source.legend["joints"]) == 16
  assert person(source, 1)["box"][2:] == [60, 60] and source.crop_box(1)[:2] == (14, 24)
  assert [name for name, _ in source.left_out] == ["gone.jpg#2", "a.jpg#3", "train: person 4"]


def test_crowdhuman_uses_visible_boxes_and_leaves_out_ignored_ones(tmp_path):
  root = tmp_path / "set"
  write_photo(root / "Images" / "27_a.jpg")
  boxes = [
    {"tag": "person", "fbox": [10, 10, 50, 90], "vbox": [10, 10, 50, 40], "hbox": [20, 10, 9, 9], "extra": {}},
    {"tag": "person", "fbox": [10, 10, 50, 90], "extra": {"ignore": 1}},
    {"tag": "mask", "fbox": [1, 1, 90, 90]},
    {"tag": "person", "fbox": [60, 10, 50, 90]},
    {"tag": "person"},
    3,
  ]
  lines = [json.dumps({"ID": "27_a", "gtboxes": boxes}), json.dumps({"ID": "gone", "gtboxes": boxes}), "7"]
  (root / "annotation_train.odgt").write_text("\n".join(lines))
  source = _open(root, tmp_path)
  assert names(source) == ["Images/27_a.jpg#0", "Images/27_a.jpg#3"]
  assert person(source, 0)["box"][2:] == [50, 40] and person(source, 0)["boxes"]["full"][2:] == [50, 90]
  assert len(source.left_out) == 6


def test_a_set_in_a_bucket_has_the_same_identity(tmp_path):
  import fsspec

  root = _set(tmp_path / "set", [annotation(1, 1, [20, 20, 40, 60], keypoints=[30, 30, 2])])
  files = fsspec.filesystem("memory")
  files.put(str(root), "/annotated", recursive=True)
  try:
    here, there = _open(root, tmp_path), _open("memory://annotated", tmp_path)
    assert names(there) == names(here) and there.identity["digest"] == here.identity["digest"]
    assert there.read(0) == here.read(0) and there.annotations(0) == here.annotations(0)
    assert _open("memory://annotated/x.json", tmp_path).read(0) == here.read(0)
    files.rm("/annotated/a.jpg")
    with pytest.raises(OSError):
      there.read(0)
  finally:
    files.rm("/annotated", recursive=True)
