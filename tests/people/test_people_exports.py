"""Exports of built-in people, read as the tools of each format read them."""

import collections
import functools
import json
import re

import cv2
import numpy as np
import pytest

from input_pipeline.people import prepare as prepare_module
from input_pipeline.people.compositions import render_picture
from input_pipeline.people.prepare import prepare_people
from input_pipeline.people.records import encode_jpeg
from input_pipeline.people.spec import SPLITS, SetSpec
from tests.support.toy_people import toy_picture

prepare = functools.partial(prepare_people, progress=False, processes=1)
SCENES = SetSpec("scenes", (96, 128), 0, 120)


@pytest.fixture
def toy(monkeypatch):
  monkeypatch.setattr(prepare_module, "render_picture", toy_picture)


def _coco(out, split):
  return pytest.importorskip("pycocotools.coco").COCO(str(out / "annotations" / f"person_keypoints_{split}.json"))


@pytest.mark.parametrize("render", [toy_picture, render_picture])
def test_pycocotools_reads_what_was_rendered(tmp_path, monkeypatch, render):
  monkeypatch.setattr(prepare_module, "render_picture", render)
  out = prepare(tmp_path / "set", SCENES, 4, "coco")
  assert sorted(path.name for path in out.iterdir()) == ["annotations", "images", "meta.json"]
  seen = []
  for split in SPLITS:
    coco = _coco(out, split)
    assert coco.getCatIds(catNms=["person"]) == [1]
    assert sorted(path.name for path in (out / "images" / split).iterdir()) == sorted(
      image["file_name"] for image in coco.imgs.values()
    )
    for image_id, image in coco.imgs.items():
      picture = render(SCENES, image_id)
      assert picture.annotations["split"] == split
      assert (out / "images" / split / image["file_name"]).read_bytes() == encode_jpeg(picture)
      assert image["file_name"] == f"{image_id:012d}.jpg" and (image["height"], image["width"]) == SCENES.image_hw
      annotations = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
      people = [(k, person) for k, person in enumerate(picture.annotations["people"], 1) if person["area"]]
      for annotation, (k, person) in zip(annotations, people, strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), picture.instances == k)
        _check_annotation(annotation, person)
      seen.append(image_id)
  assert sorted(seen) == [0, 1, 2, 3]


def _check_annotation(annotation, person):
  assert annotation["category_id"] == 1 and annotation["iscrowd"] == 0 and annotation["id"] > 0
  assert annotation["area"] == person["area"] and annotation["bbox"] == person["box_visible"]
  assert {key: annotation[key] for key in ("identity", "caption", "attributes")} == {
    key: person[key] for key in ("identity", "caption", "attributes")
  }
  np.testing.assert_allclose(annotation["bbox_full"], person["box_full"], atol=0.0001)
  keypoints = np.reshape(annotation["keypoints"], (17, 3))
  known = np.array([v > 0 for _, _, v in person["keypoints"]])
  expected = np.array(person["keypoints"]) - (0.5, 0.5, 0)  # pixel indices
  np.testing.assert_allclose(keypoints[known], expected[known], atol=0.0001)
  assert not keypoints[~known].any() and annotation["num_keypoints"] == known.sum()


def test_the_truth_scores_one_by_the_rules_of_coco(tmp_path, toy, capsys):
  evaluation = pytest.importorskip("pycocotools.cocoeval")
  coco = _coco(prepare(tmp_path / "set", SCENES, 12, "coco"), "train")
  results = [
    {key: annotation[key] for key in ("image_id", "category_id", "keypoints", "bbox")} | {"score": 1.0}
    for annotation in coco.anns.values()
  ]
  for kind in ("keypoints", "bbox"):
    scorer = evaluation.COCOeval(coco, coco.loadRes(results), kind)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    assert scorer.stats[0] > 0.999


def test_keys_are_those_of_coco(tmp_path, toy):
  out = prepare(tmp_path / "set", SCENES, 4, "coco")
  contents = {
    split: json.loads((out / "annotations" / f"person_keypoints_{split}.json").read_text()) for split in SPLITS
  }
  for content in contents.values():
    assert content.keys() == {"info", "licenses", "categories", "annotations", "images"}
    [category] = content["categories"]
    assert len(category["keypoints"]) == 17 and len(category["skeleton"]) == 19
    assert category["skeleton"][0] == [16, 14] and category["keypoints"][5] == "left_shoulder"
    for annotation in content["annotations"]:
      assert annotation.keys() >= {
        "id",
        "image_id",
        "category_id",
        "iscrowd",
        "area",
        "bbox",
        "keypoints",
        "num_keypoints",
        "segmentation",
      }
      assert sum(annotation["segmentation"]["counts"]) == 96 * 128 and annotation["area"] > 0
    ids = [annotation["id"] for annotation in content["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
  meta = json.loads((out / "meta.json").read_text())
  assert meta["annotations"] == {split: len(content["annotations"]) for split, content in contents.items()}
  assert {split: sizes["images"] for split, sizes in meta["splits"].items()} == {
    split: len(content["images"]) for split, content in contents.items()
  }


def test_an_empty_split_is_still_a_coco_file(tmp_path, toy):
  out = prepare(tmp_path / "set", SetSpec("crops", (64, 32), 0, 1), 3, "coco")
  assert len(_coco(out, "train").imgs) == 3 and len(_coco(out, "val").imgs) == 0


def _market(out, folder):
  """(identity, camera, file name) as torchreid, fast-reid and others read a folder of Market-1501."""
  names = sorted(path.name for path in (out / folder).iterdir())
  return [(*map(int, re.match(r"([-\d]+)_c(\d)", name).groups()), name) for name in names]


def test_market1501_is_read_as_reidentification_tools_do(tmp_path, toy):
  spec = SetSpec("crops", (64, 32), 0, 10)
  out = prepare(tmp_path / "set", spec, 80, "market1501")
  folders = {
    folder: _market(out, folder) for folder in ("bounding_box_train", "bounding_box_val", "bounding_box_test", "query")
  }
  meta = json.loads((out / "meta.json").read_text())
  assert meta["images"] == {folder: len(pictures) for folder, pictures in folders.items()}
  assert meta["queries_without_match"] == 0
  indices = []
  for folder, pictures in folders.items():
    for identity, camera, name in pictures:
      (number,) = re.fullmatch(r"\d{4}_c[1-6]s1_(\d{6})_00\.jpg", name).groups()
      picture = toy_picture(spec, int(number))
      labels = picture.annotations
      assert (identity, camera) == (labels["people"][0]["identity"] + 1, labels["camera"] + 1)
      assert folder.removeprefix("bounding_box_") == labels["split"] or (folder, labels["split"]) == ("query", "test")
      assert (out / folder / name).read_bytes() == encode_jpeg(picture)
      indices.append(int(number))
  assert sorted(indices) == list(range(80))
  queries = collections.Counter((identity, camera) for identity, camera, _ in folders["query"])
  gallery = {(identity, camera) for identity, camera, _ in folders["bounding_box_test"]}
  assert set(queries.values()) == {1} and queries.keys() >= gallery
  for identity, camera in queries:
    assert any(other == identity and at != camera for other, at in gallery)


def test_queries_that_nothing_matches_are_counted(tmp_path, toy):
  out = prepare(tmp_path / "set", SetSpec("crops", (64, 32), 0, 10), 80 - 7, "market1501")
  queries, gallery = _market(out, "query"), _market(out, "bounding_box_test")
  unmatched = [
    1 for identity, camera, _ in queries if not any(other == identity and at != camera for other, at, _ in gallery)
  ]
  assert json.loads((out / "meta.json").read_text())["queries_without_match"] == len(unmatched)


def test_rendered_crops_make_a_benchmark(tmp_path):
  """Every query of a complete set has a match: the same person by another camera, in other pixels."""
  spec = SetSpec("crops", (64, 32), 0, 4)
  out = prepare(tmp_path / "set", spec, 32, "market1501")
  meta = json.loads((out / "meta.json").read_text())
  assert meta["queries_without_match"] == 0
  assert meta["images"] == {"bounding_box_train": 16, "bounding_box_val": 8, "bounding_box_test": 4, "query": 4}
  for path in out.rglob("*.jpg"):
    assert cv2.imread(str(path)).shape == (64, 32, 3)
