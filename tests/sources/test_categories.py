"""Which categories are read as persons, and what is reported about the others."""

import json

import pytest

from input_pipeline.body import COCO_JOINTS
from input_pipeline.sources.annotated.categories import categories_text, is_person, key_of
from input_pipeline.sources.table import open_source
from saip_jax import cli
from tests.support.annotated_photos import annotation, coco, names, write_json, write_photo

BOX = [20, 20, 60, 80]


def _set(root, categories, ids, image_ids=None):
  """A photo and a person for each category id."""
  for k in range(len(ids)):
    write_photo(root / "images" / f"p{k}.jpg")
  annotations = [
    annotation(k, image_id, BOX, category_id=i)
    for k, (i, image_id) in enumerate(zip(ids, image_ids or range(len(ids))))
  ]
  write_json(
    root / "annotations" / "instances_train.json",
    coco([(k, f"p{k}.jpg", 120, 160) for k in range(len(ids))], annotations, categories),
  )
  return root


def _open(root, tmp_path, **options):
  return open_source("coco", str(root), cache_dir=str(tmp_path / "cache"), setting="--path", **options)


@pytest.mark.parametrize("one, other", [(1, 1.0), (1, "1"), ("1", 1.0), (" 1", "1.0"), (-2, "-2.00"), ("a", "a ")])
def test_ids_are_compared_by_value(one, other):
  assert key_of(one) == key_of(other)
  assert key_of(1) not in map(key_of, (10, 1.5, "01", True))


@pytest.mark.parametrize("ids, image_ids", [([1, 1.0, "1"], None), ([1, 1, 1], [0.0, "1", "2.0"])])
def test_persons_of_ids_in_any_form_are_read(tmp_path, ids, image_ids):
  source = _open(_set(tmp_path / "set", [{"id": 1, "name": "person"}], ids, image_ids), tmp_path)
  assert len(source) == 3 and source.left_out == [] and source.categories == {"persons": {"person": 3}, "others": {}}


def test_annotations_of_unlisted_and_of_other_categories_are_counted(tmp_path):
  categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
  source = _open(_set(tmp_path / "set", categories, [1, 0, 3, 1, 3, 3]), tmp_path)
  assert names(source) == ["images/p0.jpg#0", "images/p3.jpg#3"]
  assert source.left_out == [("instances_train: annotation 1", "it is of category 0, which the file does not list")]
  assert source.categories == {"persons": {"person": 2}, "others": {"car": 3}}
  whole = _open(tmp_path / "set", tmp_path, whole=True)
  assert whole.categories == source.categories and whole.left_out == source.left_out
  with pytest.raises(ValueError, match="6: it is of category 7, which the file does not list"):
    _open(_set(tmp_path / "none", categories, [7] * 6), tmp_path)
  with pytest.raises(ValueError, match=r"0 annotations left out; Not read: annotations of 'car' \(2\)"):
    _open(_set(tmp_path / "cars", categories, [3, 3]), tmp_path)


def test_panoptic_segments_follow_the_same_rule(tmp_path):
  write_photo(tmp_path / "p.jpg")
  segment = lambda k, category: {"id": k, "category_id": category, "bbox": BOX, "iscrowd": 0}
  write_json(
    tmp_path / "panoptic_train.json",
    coco(
      [(0, "p.jpg", 120, 160)],
      [{"image_id": 0.0, "file_name": "p.png", "segments_info": [segment(5, 1.0), segment(6, 2), segment(7, 99), 8]}],
      [{"id": 1, "name": "person"}, {"id": "2", "name": "sky"}],
    ),
  )
  source = _open(tmp_path, tmp_path)
  assert names(source) == ["p.jpg#5"] and source.categories == {"persons": {"person": 1}, "others": {"sky": 1}}
  assert source.left_out == [
    ("p.jpg#7", "it is of category 99, which the file does not list"),
    ("p.jpg: a segment", "it is not a JSON object"),
  ]


def test_yolo_classes_follow_the_same_rule(tmp_path):
  write_photo(tmp_path / "a.jpg")
  (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n1.0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n")
  (tmp_path / "data.yaml").write_text("train: .\nnames: {0: car, 1: Human}\n")
  source = open_source("yolo", str(tmp_path), cache_dir=str(tmp_path / "cache"))
  assert names(source) == ["a.jpg#2"] and source.categories == {"persons": {"Human": 1}, "others": {"car": 1}}
  assert [name for name, _ in source.left_out] == ["a.jpg#3"]


@pytest.mark.parametrize(
  "listed, taken",
  [
    (["person", "car"], ["person"]),
    (["human", "car"], ["human"]),
    (["persons", "car"], ["persons"]),
    (["person ", "car"], ["person "]),
    (["Pedestrian", "people"], ["Pedestrian", "people"]),
    (["man", "woman", "car"], ["car", "man", "woman"]),
    (["face"], ["face"]),
    ([None], ["category 0"]),
  ],
)
def test_which_categories_are_persons(tmp_path, listed, taken):
  categories = [{"id": k} | ({"name": name} if name else {}) for k, name in enumerate(listed)]
  source = _open(_set(tmp_path / "set", categories, list(range(len(listed)))), tmp_path)
  assert list(source.categories["persons"]) == taken and len(source) == len(taken)
  [first, *_] = categories_text(source.categories)
  assert first.startswith("Read as persons" if any(map(is_person, taken)) else "No category is called person, so all")
  assert all(repr(name) in first for name in taken)


def test_annotations_without_a_category_are_persons_and_counted(tmp_path):
  categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
  source = _open(_set(tmp_path / "set", categories, [1, 2, None]), tmp_path)
  assert len(source) == 2 and source.categories == {"persons": {"no category": 1, "person": 1}, "others": {"car": 1}}


def test_categories_as_an_object_are_read(tmp_path):
  root = _set(tmp_path / "set", [], [1, 2])
  file = root / "annotations" / "instances_train.json"
  file.write_text(json.dumps(json.loads(file.read_text()) | {"categories": {"1": "person", "2": {"name": "car"}}}))
  assert _open(root, tmp_path).categories == {"persons": {"person": 1}, "others": {"car": 1}}


def test_long_lists_of_categories_are_shortened_and_counted():
  [_, others] = categories_text({"persons": {"person": 1}, "others": {f"c{k}": 2 for k in range(13)}})
  assert "'c9' (2) and 3 more (6)" in others and categories_text({}) == []


def test_doctor_prepare_and_evaluate_print_the_person_categories(tmp_path, capsys):
  root = _set(tmp_path / "set", [{"id": 1, "name": "human"}, {"id": 3, "name": "car"}], [1, 3] * 12)
  assert cli.main(["doctor", str(root)]) == 0
  printed = capsys.readouterr().out
  assert "Read as persons: annotations of 'human' (12)." in printed and "of 'car' (12)." in printed
  assert cli.main(["prepare", "coco", f"--path={root}", f"--out={tmp_path / 'out'}", "--processes=1"]) == 0
  assert "Read as persons: annotations of 'human' (12)." in capsys.readouterr().out
  prepared = open_source("arrayrecord", str(tmp_path / "out"), cache_dir=str(tmp_path))
  assert prepared.categories == {"persons": {"human": 12}, "others": {"car": 12}}


JOINTS_21 = [*COCO_JOINTS, "left_finger", "right_finger", "left_toe", "right_toe"]


@pytest.mark.parametrize(
  "listed, joints",
  [
    (JOINTS_21, list(COCO_JOINTS)),
    ([name.replace("_", " ").title() for name in JOINTS_21], None),
    (JOINTS_21[::-1], [f"joint_{k}" for k in range(17)]),
  ],
)
def test_humanart_lists_more_names_than_joints(tmp_path, listed, joints):
  """21 names, of which 17 keypoints use COCO's, and a list of all 21 beside them."""
  write_photo(tmp_path / "a.jpg")
  person = annotation(
    0,
    0,
    BOX,
    num_keypoints=17,
    keypoints=sum([[30 + k, 30 + k, 2] for k in range(17)], []),
    keypoints_21=[1] * 63,
    area_class="x",
  )
  write_json(
    tmp_path / "training_humanart.json",
    coco([(0, "a.jpg", 120, 160)], [person], [{"id": 1, "name": "person", "keypoints": listed}]),
  )
  assert _open(tmp_path, tmp_path).legend["joints"] == (joints or listed[:17])
