"""Whole photos with all persons; facts that scores need: head boxes, crowding, 133 joints, 3D joints."""

import json
import pickle

import cv2
import numpy as np
import pytest
import scipy.io

from input_pipeline.body import WHOLE_BODY_JOINTS, whole_body_keypoints
from input_pipeline.sources.table import open_source
from tests.support.annotated_photos import annotation, coco, names, write_json, write_photo


def _open(kind, path, cache, split=None, **further):
  return open_source(kind, path, split=split, cache_dir=cache, setting="--path", **further)


def _photos(source):
  """Name -> facts."""
  return {source.name(i): source.annotations(i)[0] for i in range(len(source))}


def _instances(source, i):
  return cv2.imdecode(np.frombuffer(source.annotations(i)[1]["instances.png"], np.uint8), cv2.IMREAD_UNCHANGED)


def _coco(root):
  for name in "abc":
    write_photo(root / "images" / f"{name}.jpg")
  square = lambda x, y, side: [[x, y, x + side, y, x + side, y + side, x, y + side]]
  return write_json(
    root / "instances_val.json",
    coco(
      [(k, f"{name}.jpg", 120, 160) for k, name in enumerate("abcd")],
      [
        annotation(7, 0, [20, 20, 40, 40], segmentation=square(20, 20, 40)),
        annotation(8, 0, [30, 30, 8, 8], segmentation=square(30, 30, 8), keypoints=[33, 33, 2]),
        annotation(9, 0, [100, 10, 50, 50], iscrowd=1, segmentation=square(100, 10, 50)),
        annotation(7, 1, [20, 20, 40, 40]),
        annotation(7, 1, [60, 60, 40, 40]),
        annotation(11, 1, [0, 0, 0, 5]),
      ],
    ),
  )


def test_a_whole_photo_has_all_persons_crowds_or_none(tmp_path):
  pytest.importorskip("pycocotools")
  source = _open("coco", _coco(tmp_path / "set"), tmp_path / "work", whole=True)
  photos = _photos(source)
  assert list(photos) == ["images/a.jpg", "images/b.jpg", "images/c.jpg"]
  small, big, crowd = sorted(photos["images/a.jpg"]["people"], key=lambda person: person["id"] != "8")
  assert small["box"] == [30, 30, 8, 8] and small["keypoints"] == [[33.5, 33.5, 2]]
  assert "ignore" not in big and crowd["ignore"] is True and crowd["id"] == "9"
  assert photos["images/c.jpg"]["people"] == []  # looked through, and so a place for false alarms
  assert [person["id"] for person in photos["images/b.jpg"]["people"]] == ["7", "7(2)"]
  assert dict(source.left_out) == {"d.jpg": "no such photo", "images/b.jpg#11": "its box has no area"}
  persons = _instances(source, 0)
  assert persons[34, 34] == 2 and persons[25, 25] == 1 and persons[30, 120] == 3 and persons[5, 5] == 0
  assert source.read(0) == (tmp_path / "set" / "images" / "a.jpg").read_bytes()
  assert source.identity["protocol"] == {"photos": "whole"} and len(pickle.dumps(source)) < 5000
  crops = _open("coco", tmp_path / "set" / "instances_val.json", tmp_path / "work")
  assert dict(crops.left_out)["images/a.jpg#9"] == "a crowd, not one person"
  assert names(crops) == ["images/a.jpg#7", "images/b.jpg#7", "images/b.jpg#7(2)"]
  with pytest.raises(ValueError, match="--whole: folder cuts no persons out"):
    _open("folder", tmp_path / "set", tmp_path / "work", whole=True)


def _odgt(root, *lines):
  for name in ("273271,c9db000d5146c15", "b"):
    write_photo(root / "Images" / f"{name}.jpg")
  (root / "annotation_val.odgt").write_text("\n".join(lines))
  return root


def _box(tag="person", **further):
  return {
    "tag": tag,
    "fbox": [-5, 10, 40, 90],
    "vbox": [2, 10, 30, 60],
    "hbox": [5, 10, 9, 9],
    "head_attr": {"ignore": 0},
    "extra": {"box_id": 0},
  } | further


def test_crowdhuman_marks_ignored_persons(tmp_path):
  line = json.dumps(
    {"ID": "273271,c9db000d5146c15", "gtboxes": [_box(), _box("mask"), _box(extra={"ignore": 1}), _box(vbox=[1, 2])]}
  )
  root = _odgt(tmp_path / "set", line, "", json.dumps({"ID": "gone", "gtboxes": []}))
  source = _open("crowdhuman", root, tmp_path / "work", "val", whole=True)
  [facts] = _photos(source).values()
  assert [person.get("ignore", False) for person in facts["people"]] == [False, True, True, False]
  assert facts["people"][0] == {
    "id": "0",
    "boxes": {"full": [-5, 10, 40, 90], "head": [5, 10, 9, 9]},
    "box": [2, 10, 30, 60],
  }
  assert facts["people"][3]["box"] == [-5, 10, 40, 90]  # its visible box is damaged
  assert source.left_out == [("gone", "no such photo")]
  assert source.identity["protocol"] == {"photos": "whole", "split": "val"}
  assert source.identity["source"] == "crowdhuman"
  assert names(_open("crowdhuman", root, tmp_path / "work", "val")) == [
    "Images/273271,c9db000d5146c15.jpg#0",
    "Images/273271,c9db000d5146c15.jpg#3",
  ]
  _odgt(root, line, "{nonsense")
  with pytest.raises(ValueError, match="line 2 of .*annotation_val.odgt is not JSON"):
    _open("crowdhuman", root, tmp_path / "work", "val", whole=True)
  with pytest.raises(ValueError, match="has the splits train, val"):
    _open("crowdhuman", root, tmp_path / "work", "test", whole=True)


def test_crowdpose_gives_the_crowding_of_a_photo(tmp_path):
  root = tmp_path / "set"
  content = json.loads(_coco(root).read_text())
  for image in content["images"]:
    image["crowdIndex"] = 0.25
  write_json(root / "instances_val.json", content)
  assert _open("coco", root, tmp_path / "work", "val").annotations(0)[0]["crowd_index"] == 0.25
  photos = _photos(_open("coco", root, tmp_path / "work", "val", whole=True))
  assert photos["images/c.jpg"] == {"crowd_index": 0.25, "people": []}


def _mpii(root, name, mat, heads):
  persons = [
    {
      "image": f"{k}.jpg",
      "joints": [[40 + 3 * j, 30 + 2 * j] for j in range(16)],
      "joints_vis": [1] * 16,
      "center": [60, 60],
      "scale": 0.5,
    }
    for k in range(heads.shape[-1])
  ]
  for k in range(len(persons)):
    write_photo(root / "images" / f"{k}.jpg")
  scipy.io.savemat(root / "annotations" / mat, {"headboxes_src": heads})
  return write_json(root / "annotations" / name, persons)


@pytest.mark.parametrize("name, mat", [("mpii_val.json", "mpii_gt_val.mat"), ("valid.json", "gt_valid.mat")])
def test_mpii_gets_its_head_boxes_from_the_file_beside(tmp_path, name, mat):
  (tmp_path / "set" / "annotations").mkdir(parents=True)
  heads = np.array([[[41.0, 50], [31, 20]], [[51, 80], [46, 60]]])
  file = _mpii(tmp_path / "set", name, mat, heads)
  photos = _photos(_open("coco", file, tmp_path / "work", whole=True))
  found = [photos[f"images/{k}.jpg"]["people"][0]["boxes"]["head"] for k in (0, 1)]
  assert found == [[40.5, 30.5, 10, 15], [49.5, 19.5, 30, 40]]  # diagonals as the file has them, corners from the edge
  crop = _open("coco", file, tmp_path / "work")
  left, top, _, _ = crop.crop_box(0)
  assert crop.annotations(0)[0]["people"][0]["boxes"]["head"] == [40.5 - left, 30.5 - top, 10, 15]
  scipy.io.savemat(tmp_path / "set" / "annotations" / mat, {"headboxes_src": heads[..., :1]})
  with pytest.raises(ValueError, match=f"{mat} has headboxes_src of shape .2, 2.; expected .* 2 persons of {name}"):
    _open("coco", file, tmp_path / "work")


@pytest.mark.parametrize("point", [7.0, np.nan])
def test_a_head_box_without_a_size_is_named_by_its_file_and_row(tmp_path, point):
  (tmp_path / "set" / "annotations").mkdir(parents=True)
  heads = np.full((2, 2, 3), point)
  heads[..., 0], heads[1, 0, 2] = [[41, 31], [51, 46]], point + 3  # the last is a line, whose diagonal has a length
  source = _open("coco", _mpii(tmp_path / "set", "valid.json", "gt_valid.mat", heads), tmp_path / "work")
  people = [source.annotations(i)[0]["people"][0] for i in range(3)]
  lost = [1, 2] if np.isnan(point) else [1]
  assert [k for k in range(3) if "boxes" not in people[k]] == lost
  assert source.left_out == [
    (f"gt_valid.mat: head box of person {k}", "it has no size; the person is left out of PCKh") for k in lost
  ]


def test_whole_body_keypoints_have_the_order_of_the_data_set(tmp_path):
  assert len(WHOLE_BODY_JOINTS) == 133 and WHOLE_BODY_JOINTS[17] == "left_big_toe"
  assert [WHOLE_BODY_JOINTS.index(name) for name in ("face_0", "left_hand_0", "right_hand_0")] == [23, 91, 112]
  write_photo(tmp_path / "set" / "a.jpg")
  triples = lambda count, x: [number for k in range(count) for number in (x, k, 2)]
  write_json(
    tmp_path / "set" / "x.json",
    coco(
      [(1, "a.jpg", 120, 160)],
      [
        annotation(
          1,
          1,
          [0, 0, 160, 120],
          keypoints=triples(17, 10),
          foot_kpts=triples(6, 20),
          face_kpts=triples(68, 30),
          lefthand_kpts=[0] * 63,
          righthand_kpts=triples(21, 50),
        )
      ],
    ),
  )
  source = _open("coco", tmp_path / "set", tmp_path / "work", whole=True)
  [person] = source.annotations(0)[0]["people"]
  points = np.array(whole_body_keypoints(person))
  assert points.shape == (133, 3) and source.legend["joints"]["foot"][2] == "left_heel"
  assert points[:, 0].tolist() == [10.5] * 17 + [20.5] * 6 + [30.5] * 68 + [0] * 21 + [50.5] * 21
  with pytest.raises(ValueError, match="16 points in 'keypoints'; COCO-WholeBody has 17"):
    whole_body_keypoints(person | {"keypoints": person["keypoints"][:16]})


def _joints(count=2, **change):
  places = np.random.default_rng(0).normal(0, 0.4, (count, 3, 3)) + [0, 0, 4]
  places[0, 1, 2] = np.nan
  return {
    "image": np.array([f"courtyard/{k}.jpg" for k in range(count)]),
    "joints_xyz": places,
    "joints": np.array(["pelvis", "head", "left_wrist"]),
    "identity": np.arange(count) + 5,
    "keypoints": np.array([[[40, 30, 2], [90, 90, 2], [60, 60, 0]]] * count, float),
  } | change


def _npz(root, name="3dpw_train.npz", **change):
  for k in range(2):
    write_photo(root / "imageFiles" / "courtyard" / f"{k}.jpg")
  np.savez(root / name, **{key: value for key, value in _joints(**change).items() if value is not None})
  return root


def test_crops_have_3d_joints_in_meters(tmp_path):
  root = _npz(tmp_path / "set")
  source = _open("joints3d", root, tmp_path / "work")
  [person] = source.annotations(0)[0]["people"]
  places = _joints()["joints_xyz"][0].tolist()
  assert person["joints_xyz"] == [places[0], None, places[2]] and person["identity"] == 5
  assert source.legend == {"joints": ["pelvis", "head", "left_wrist"]}
  left, top, _, _ = source.crop_box(0)
  assert person["keypoints"] == [[40 - left, 30 - top, 2], [90 - left, 90 - top, 2], [0, 0, 0]]
  whole = _open("joints3d", root / "3dpw_train.npz", tmp_path / "work", whole=True)
  assert whole.annotations(1)[0]["people"][0]["joints_xyz"] == _joints()["joints_xyz"][1].tolist()
  boxed = _npz(tmp_path / "boxed", keypoints=None, box=np.array([[10.0, 10, 50, 60]] * 2))
  assert _open("joints3d", boxed, tmp_path / "work").annotations(0)[0]["people"][0]["box"][2:] == [50, 60]


@pytest.mark.parametrize(
  "change, message",
  [
    ({"joints_xyz": np.full((2, 3, 3), 4000.0) * np.arange(3)[:, None]}, "expected meters, not millimeters"),
    ({"joints_xyz": np.full((2, 3, 3), np.nan)}, "no usable person.*none of its joints"),
    ({"joints_xyz": np.zeros((2, 4, 3))}, r"joints_xyz of shape \(2, 4, 3\); expected \(2, 3, 3\)"),
    ({"keypoints": None}, "has no keypoints or box"),
    ({"joints": None}, "has no joints"),
    ({"image": np.array([{"a": 1}, 2], object)}, "not a .npz of plain arrays: Object arrays"),
  ],
)
def test_malformed_joints_raise_one_line(tmp_path, change, message):
  root = _npz(tmp_path / "set", **change)
  with pytest.raises(ValueError, match=message) as error:
    _open("joints3d", root, tmp_path / "work")
  assert "\n" not in str(error.value) and "--path" in str(error.value)


def test_joints_are_never_read_from_pickles(tmp_path):
  root = _npz(tmp_path / "set", "3dpw_test.npz")
  (root / "downtown_00.pkl").write_bytes(pickle.dumps({"jointPositions": []}))
  with pytest.raises(ValueError, match="is a pickle.*a .npz of plain arrays"):
    _open("joints3d", root / "downtown_00.pkl", tmp_path / "work")
  with pytest.raises(ValueError, match="0 files train.npz .*It has 3dpw_test.npz"):
    _open("joints3d", root, tmp_path / "work")
  assert len(_open("joints3d", root, tmp_path / "work", "test")) == 2
  (root / "3dpw_test.npz").write_bytes(pickle.dumps({"joints_xyz": []}))
  with pytest.raises(ValueError, match="3dpw_test.npz is not a .npz of plain arrays"):
    _open("joints3d", root / "3dpw_test.npz", tmp_path / "work")
