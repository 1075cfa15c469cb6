"""Files of `saip prepare people --export` are read back as rendered."""

import numpy as np
import pytest

from input_pipeline.people import prepare as prepare_module
from input_pipeline.people.prepare import prepare_people
from input_pipeline.people.spec import SPLITS, SetSpec
from input_pipeline.sources.datasets.coco import open_coco
from input_pipeline.sources.datasets.reid import open_market1501
from tests.support.annotated_photos import decoded, mask, names, person
from tests.support.toy_people import toy_picture


@pytest.fixture(autouse=True)
def toy(monkeypatch):
  monkeypatch.setattr(prepare_module, "render_picture", toy_picture)


def test_coco_gives_every_person_back_to_the_pixel(tmp_path):
  spec = SetSpec("scenes", (96, 128), 0, 120)
  out = prepare_people(tmp_path / "set", spec, 12, "coco", progress=False, processes=1)
  seen = 0
  for split in SPLITS:
    source = open_coco(str(out), split, str(tmp_path / "work"), "--path", min_side=1)
    assert source.legend["attributes"] and len(source.legend["joints"]) == 17 and not source.left_out
    for i in range(len(source)):
      facts, found = person(source, i), source.annotations(i)[0]
      picture = toy_picture(spec, int(names(source)[i].split("/")[-1].split(".")[0]))
      assert picture.annotations["split"] == split and found["camera"] == picture.annotations["camera"]
      left, top, right, bottom = source.crop_box(i)
      x, y, width, height = facts["box"]
      [(k, truth)] = [
        (k, other)
        for k, other in enumerate(picture.annotations["people"], 1)
        if other["caption"] == facts["caption"]
        and other["area"]
        and other["box_visible"] == [x + left, y + top, width, height]
      ]
      assert {key: facts[key] for key in ("identity", "attributes", "area")} == {
        key: truth[key] for key in ("identity", "attributes", "area")
      }
      assert (mask(source, i) == (picture.instances == k)[top:bottom, left:right]).all()
      assert np.abs(decoded(source, i)[..., ::-1].astype(int) - picture.image_u8[top:bottom, left:right]).max() < 40
      for (x, y, v), (true_x, true_y, true_v) in zip(facts["keypoints"], truth["keypoints"]):
        if true_v and left <= true_x <= right and top <= true_y <= bottom:
          assert v == true_v and abs(x + left - true_x) < 0.002 and abs(y + top - true_y) < 0.002
        else:
          assert v == 0
      seen += 1
  assert seen == sum(
    bool(other["area"]) for index in range(12) for other in toy_picture(spec, index).annotations["people"]
  )


def test_market1501_gives_every_crop_back(tmp_path):
  spec = SetSpec("crops", (64, 32), 0, 10)
  out = prepare_people(tmp_path / "set", spec, 80, "market1501", progress=False, processes=1)
  seen = []
  for split in ("train", "val", "query", "gallery"):
    source = open_market1501(str(out), split, str(tmp_path / "work"), "--path")
    for i in range(len(source)):
      index = int(source.name(i).split("_")[2])
      truth, found = toy_picture(spec, index).annotations, source.annotations(i)[0]
      assert found["people"] == [{"identity": truth["people"][0]["identity"] + 1}]
      assert found["camera"] == truth["camera"]
      seen.append(index)
  assert sorted(seen) == list(range(80))
