"""Crops: keypoints, boxes and masks in their pixels, what is left out, when the index is reused."""

import json
import os
import pickle
import time

import cv2
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from input_pipeline.sources.annotated import crops as crops_module
from input_pipeline.sources.annotated.crop_source import grown_box
from input_pipeline.sources.datasets.coco import open_coco
from tests.support.annotated_photos import annotation, coco, decoded, mask, names, person, write_json, write_photo


def _set(root, annotations, hw=(120, 160), photo=None, **further):
  """A data set with one photo."""
  if photo is None:
    write_photo(root / "images" / "a.png", hw)
  else:
    (root / "images").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / "images" / "a.png"), photo)
  write_json(root / "annotations" / "train.json", coco([(7, "a.png", *hw)], annotations, **further))
  for below, _, _ in os.walk(root):
    os.utime(below, (time.time() - 60,) * 2)
  return root


def _open(root, **further):
  return open_coco(str(root), None, str(root.parent / "work"), "data.path", **further)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.data())
def test_keypoints_in_the_box_fall_on_the_same_pixels_of_the_crop(tmp_path_factory, data):
  height, width = data.draw(st.integers(40, 90)), data.draw(st.integers(40, 90))
  # the box may reach beyond the picture on any side, and be wider than it
  x1, y1 = data.draw(st.floats(-20, width - 24)), data.draw(st.floats(-20, height - 24))
  x2, y2 = data.draw(st.floats(max(x1, 0) + 20, width + 20)), data.draw(st.floats(max(y1, 0) + 20, height + 20))
  margin = data.draw(st.sampled_from([0.0, 0.1, 0.5]))
  x = data.draw(st.integers(int(np.ceil(max(x1, 0))) + 1, int(min(x2, width)) - 2))
  y = data.draw(st.integers(int(np.ceil(max(y1, 0))) + 1, int(min(y2, height)) - 2))
  photo = np.zeros((height, width, 3), np.uint8)
  photo[y - 1 : y + 2, x - 1 : x + 2] = 255  # centered on pixel (x, y), as COCO counts
  root = _set(
    tmp_path_factory.mktemp("set"),
    [annotation(1, 7, [x1, y1, x2 - x1, y2 - y1], keypoints=[x, y, 2])],
    (height, width),
    photo,
  )
  source = _open(root, margin=margin)
  crop = decoded(source, 0).astype(float).sum(axis=2) > 300
  facts = person(source, 0)
  marker_y, marker_x = (np.mean(axis) + 0.5 for axis in np.nonzero(crop))  # in our frame
  [[key_x, key_y, v]] = facts["keypoints"]
  assert v == 2 and abs(key_x - marker_x) <= 0.5 and abs(key_y - marker_y) <= 0.5
  assert facts["box"][2:] == pytest.approx([x2 - x1, y2 - y1], abs=1e-2)
  left, top, right, bottom = source.crop_box(0)
  assert crop.shape == (bottom - top, right - left)
  assert 0 <= left <= max(x1, 0) and min(x2, width) <= right <= width  # all of the box that is in the picture
  assert 0 <= top <= max(y1, 0) and min(y2, height) <= bottom <= height


def test_a_box_grows_by_its_larger_side_clips_and_rounds_outward():
  assert grown_box((20.5, 30, 40, 70), (120, 160), 0.1) == (16, 26, 44, 74)
  assert grown_box((20.5, 30, 40, 70), (120, 160), 0.0) == (20, 30, 40, 70)
  assert grown_box((0, 0, 160, 120), (120, 160), 0.5) == (0, 0, 160, 120)


def test_crops_are_the_photos_pixels_and_the_same_bytes_every_time(tmp_path):
  source = _open(_set(tmp_path / "set", [annotation(1, 7, [30, 20, 40, 60])]))
  photo = cv2.imread(str(tmp_path / "set" / "images" / "a.png"))
  left, top, right, bottom = source.crop_box(0)
  assert (left, top, right, bottom) == (24, 14, 76, 86)
  assert np.abs(decoded(source, 0).astype(int) - photo[top:bottom, left:right]).mean() < 2
  assert source.read(0) == source.read(0) == pickle.loads(pickle.dumps(source)).read(0)
  assert len(pickle.dumps(source)) < 5000


def test_masks_and_all_positions_move_with_the_crop(tmp_path):
  square = [[40, 30, 60, 30, 60, 50, 40, 50]]
  root = _set(
    tmp_path / "set",
    [
      annotation(
        1,
        7,
        [30, 20, 40, 60],
        segmentation=square,
        face_box=[40, 30, 10, 10],
        bbox_head=[41, 31, 5, 5],
        keypoints=[45, 35, 2, 150, 110, 2, 0, 0, 0],
        lefthand_kpts=[50, 40, 1],
        track_id=3,
        caption="one",
        center=[1, 2],
      )
    ],
    categories=[{"id": 1, "name": "person", "keypoints": ["nose", "left ankle", "right ankle"]}],
  )
  source = _open(root)
  facts, left, top = person(source, 0), 24, 14
  assert facts["box"] == [30 - left, 20 - top, 40, 60]
  assert facts["boxes"] == {"face": [40 - left, 30 - top, 10, 10], "head": [41 - left, 31 - top, 5, 5]}
  # a joint outside of the crop is unknown there
  assert facts["keypoints"] == [[45.5 - left, 35.5 - top, 2], [0, 0, 0], [0, 0, 0]]
  assert facts["more_keypoints"] == {"lefthand": [[50.5 - left, 40.5 - top, 1]]}
  assert facts["identity"] == 0 and facts["caption"] == "one" and "center" not in facts
  assert facts["joints"] == "person"
  assert source.legend == {"joints": {"person": ["nose", "left ankle", "right ankle"], "lefthand": ["joint_0"]}}
  expected = np.zeros((72, 52), np.uint8)
  expected[30 - top : 50 - top, 40 - left : 60 - left] = 1
  found = mask(source, 0)
  assert found.shape == expected.shape and (found != expected).sum() <= 40  # COCO's own edge of a polygon
  json.dumps(facts, allow_nan=False)


def test_compressed_and_plain_runs_give_the_same_mask(tmp_path):
  coco_masks = pytest.importorskip("pycocotools.mask")
  pixels = np.zeros((120, 160), np.uint8)
  pixels[30:90, 40:70], pixels[40, 50] = 1, 0
  packed = coco_masks.encode(np.asfortranarray(pixels))
  columns = np.concatenate([[0], pixels.T.ravel()])
  counts = np.diff(np.flatnonzero(np.diff(columns)), prepend=0, append=pixels.size).tolist()
  root = _set(
    tmp_path / "set",
    [
      annotation(1, 7, [40, 30, 30, 60], segmentation={"size": [120, 160], "counts": packed["counts"].decode()}),
      annotation(2, 7, [40, 30, 30, 60], segmentation={"size": [120, 160], "counts": counts}),
    ],
  )
  source = _open(root)
  left, top, right, bottom = source.crop_box(0)
  assert (mask(source, 0) == pixels[top:bottom, left:right]).all() and (mask(source, 0) == mask(source, 1)).all()


@pytest.mark.parametrize(
  "segmentation",
  [
    {"size": [120, 160], "counts": "nonsense"},
    {"size": [120, 160], "counts": [5, 6]},
    {"size": [120, 160], "counts": [-5, 19205]},
    {"size": [120, 160], "counts": "\x7f\x00"},
  ],
)
def test_damaged_runs_raise(tmp_path, segmentation):
  source = _open(_set(tmp_path / "set", [annotation(1, 7, [40, 30, 30, 60], segmentation=segmentation)]))
  assert source.read(0)
  with pytest.raises(OSError, match="runs of the mask"):
    source.annotations(0)


@pytest.mark.parametrize("segmentation", [None, [], [[]], [[1, 2]], "x", {}, {"size": [1, 2]}, [[float("nan")] * 6]])
def test_a_person_without_a_usable_mask_is_kept(tmp_path, segmentation):
  source = _open(_set(tmp_path / "set", [annotation(1, 7, [40, 30, 30, 60], segmentation=segmentation)]))
  assert source.annotations(0)[1] == {} and source.read(0)


def test_small_and_outside_boxes_are_left_out_by_name(tmp_path):
  root = _set(
    tmp_path / "set",
    [
      annotation(1, 7, [40, 30, 30, 60]),
      annotation(2, 7, [40, 30, 15, 60]),
      annotation(3, 7, [150, 30, 60, 60]),
      annotation(4, 7, [200, 30, 60, 60]),
      annotation(5, 7, [40, 30, 0, 60]),
    ],
  )
  source = _open(root)
  assert names(source) == ["images/a.png#1"]
  reasons = dict(source.left_out)
  assert "too small" in reasons["images/a.png#2"] and "too small" in reasons["images/a.png#3"]  # 10 px are in it
  assert "outside" in reasons["images/a.png#4"] and "no area" in reasons["images/a.png#5"]
  assert names(_open(root, min_side=10)) == ["images/a.png#1", "images/a.png#2", "images/a.png#3"]


@pytest.mark.parametrize("further", [{"margin": -0.1}, {"margin": float("nan")}, {"min_side": -1}])
def test_errors_name_options_out_of_range(tmp_path, further):
  with pytest.raises(ValueError, match="--m[a-z-]+"):
    _open(_set(tmp_path / "set", [annotation(1, 7, [40, 30, 30, 60])]), **further)


def test_margin_and_smallest_side_are_part_of_the_identity(tmp_path):
  root = _set(tmp_path / "set", [annotation(1, 7, [40, 30, 30, 60]), annotation(2, 7, [40, 30, 18, 60])])
  digests = [_open(root, **further).identity["digest"] for further in ({}, {"margin": 0.2}, {"min_side": 20}, {})]
  assert len(set(digests)) == 3 and digests[0] == digests[3]


def test_the_index_of_persons_is_reused_until_something_changes(tmp_path, monkeypatch):
  root = _set(tmp_path / "set", [annotation(1, 7, [40, 30, 30, 60])])
  first = _open(root)
  with monkeypatch.context() as patched:
    patched.setattr(crops_module, "Photos", lambda root: pytest.fail("listed again"))
    again = _open(root)
    assert again.identity == first.identity and again.read(0) == first.read(0)
  write_json(root / "annotations" / "train.json", coco([(7, "a.png", 120, 160)], [annotation(1, 7, [41, 30, 30, 60])]))
  moved = _open(root)
  assert moved.identity["digest"] != first.identity["digest"]
  (root / "images" / "a.png").unlink()
  with pytest.raises(ValueError, match="no such photo"):
    _open(root)


@pytest.mark.parametrize("stated_hw, upright", [((120, 160), False), ((160, 120), True)])
def test_coordinates_are_in_the_orientation_with_the_given_size(tmp_path, stated_hw, upright):
  root = tmp_path / "set"
  write_photo(root / "a.jpg", (120, 160), exif_orientation=6)  # upright it is 160 high and 120 wide
  write_json(root / "x.json", coco([(7, "a.jpg", *stated_hw)], [annotation(1, 7, [10, 20, 40, 30])]))
  source = open_coco(str(root), None, str(tmp_path / "work"), "data.path", margin=0)
  flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
  photo = cv2.imread(str(root / "a.jpg"), flags)
  assert photo.shape[:2] == stated_hw
  assert np.abs(decoded(source, 0).astype(int) - photo[20:50, 10:50]).mean() < 3


def test_a_photo_of_another_size_than_in_its_annotation_is_left_out(tmp_path):
  root = tmp_path / "set"
  write_photo(root / "a.jpg", (60, 80))
  write_photo(root / "b.jpg", (120, 160))
  write_json(
    root / "x.json",
    coco(
      [(1, "a.jpg", 120, 160), (2, "b.jpg", 120, 160)],
      [annotation(1, 1, [10, 20, 40, 30]), annotation(2, 2, [10, 20, 40, 30])],
    ),
  )
  source = open_coco(str(root), None, str(tmp_path / "work"), "data.path")
  assert names(source) == ["b.jpg#2"]
  assert source.left_out == [("a.jpg#1", "its photo has 80 x 60 pixels, the annotation is for 160 x 120")]


def test_damaged_photos_are_left_out_or_fail_by_name_when_read(tmp_path):
  root = tmp_path / "set"
  for name in ("empty.jpg", "text.jpg", "cut.jpg", "good.jpg"):
    write_photo(root / name, (120, 160))
  (root / "empty.jpg").write_bytes(b"")
  (root / "text.jpg").write_text("not a photo")
  (root / "cut.jpg").write_bytes((root / "cut.jpg").read_bytes()[:2000])
  images = ["empty.jpg", "text.jpg", "cut.jpg", "good.jpg"]
  write_json(
    root / "x.json",
    coco(
      [(k, name, 120, 160) for k, name in enumerate(images)], [annotation(k, k, [10, 20, 40, 30]) for k in range(4)]
    ),
  )
  source = open_coco(str(root), None, str(tmp_path / "work"), "data.path")
  assert names(source) == ["cut.jpg#2", "good.jpg#3"] and {name for name, _ in source.left_out} == {
    "empty.jpg#0",
    "text.jpg#1",
  }
  with pytest.raises(OSError, match="cut.jpg: truncated"):
    source.read(0)
  write_photo(root / "good.jpg", (60, 80))
  with pytest.raises(OSError, match="80 x 60 pixels; it had 160 x 120"):
    source.read(1)


def test_a_crop_has_facts_of_joints_and_persons_outside(tmp_path):
  """Joints outside the crop, and persons without a crop, in pixels of the photo."""
  crowd = annotation(2, 7, [60, 10, 90, 90], keypoints=[0] * 6, area=4000.0, num_keypoints=0) | {"iscrowd": 1}
  source = _open(
    _set(
      tmp_path / "set",
      [
        annotation(1, 7, [20, 20, 30, 60], keypoints=[30, 30, 2, 99, 40, 1], num_keypoints=1, area=900.0),
        crowd,
        annotation(3, 7, [5, 5, 8, 9], keypoints=[7, 8, 2, 0, 0, 0], area=50.0),
        annotation(4, 7, [5, 5, 0, 9], keypoints=[70, 80, 2, 90, 90, 2]),
      ],
    )
  )
  assert names(source) == ["images/a.png#1"] and person(source, 0)["num_keypoints"] == 1
  facts, _ = source.annotations(0)
  assert facts["people"][0]["keypoints"][1] == [0, 0, 0]
  assert facts["outside"] == {"keypoints": [[0, 0, 0], [99.5, 40.5, 1]]}
  many, small, flat = facts["not_cut_out"]
  assert many == {
    "box": [60, 10, 90, 90],
    "area": 4000.0,
    "num_keypoints": 0,
    "crowd": True,
    "reason": "a crowd, not one person",
  }
  assert small["keypoints"] == [[7.5, 8.5, 2], [0, 0, 0]] and not small["crowd"] and "too small" in small["reason"]
  assert flat["keypoints"][0] == [70.5, 80.5, 2] and flat["reason"] == "its box has no area"
  assert [name for name, _ in source.left_out] == [f"images/a.png#{k}" for k in (2, 3, 4)]
  alone = _open(_set(tmp_path / "alone", [annotation(1, 7, [20, 20, 30, 60], keypoints=[30, 30, 2])]))
  assert not {"outside", "not_cut_out"} & alone.annotations(0)[0].keys() and "box_from" not in person(alone, 0)


def test_a_box_made_from_keypoints_is_marked(tmp_path):
  own = annotation(1, 7, None, keypoints=[30, 30, 2, 60, 80, 2])
  del own["bbox"]
  assert person(_open(_set(tmp_path / "set", [own])), 0)["box_from"] == "keypoints"
