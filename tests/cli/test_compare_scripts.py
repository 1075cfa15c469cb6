"""The comparisons of modalities and of pairs: what they plan and write. Nothing is trained."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

import compare_modalities
import compare_pairs
from bench_methods import stated
from compare_presets import plan_runs


def _planned(recipe, arms, tmp_path):
  """Returns arm -> the config that it plans for one seed."""
  planned = {arm: plan_runs(f"arm={recipe} {settings}", [], 1, tmp_path)[0].config for arm, settings in arms.items()}
  assert len({str(config) for config in planned.values()}) == len(arms)
  return planned


@pytest.mark.parametrize("recipe", ["hcmoco_nano", "hcmoco_demo"])
def test_modalities_change_the_losses_and_the_crops(recipe, tmp_path):
  planned = _planned(recipe, compare_modalities.ARMS, tmp_path)
  used = {
    arm: {name for name in ("sample", "dense", "nodes", "joints") if getattr(config.method.weights, name)}
    for arm, config in planned.items()
  }
  assert used["samples"] == {"sample"} and used["samples, dense"] == {"sample", "dense"}
  assert used["all"] == used["all, wide crops"] == {"sample", "dense", "nodes", "joints"}
  assert planned["all, wide crops"].method.crop_area[0] < planned["all"].method.crop_area[0]


@pytest.mark.parametrize("recipe", ["croco_human_nano", "croco_human_demo"])
def test_pairs_are_of_as_many_images(recipe, tmp_path):
  planned = _planned(recipe, compare_pairs.arms(1024), tmp_path)
  shown = {arm: {part.people_composition for part in config.data.mixture.values()} for arm, config in planned.items()}
  assert shown == {"none": {"views", "clips"}, "view": {"views"}, "pose": {"clips"}, "both": {"views", "clips"}}
  for arm, config in planned.items():
    images = {(part.people_composition, part.people_count) for part in config.data.mixture.values()}  # shared by name
    assert sum(count for _, count in images) == 1024, arm
    assert config.method.second_image == (arm != "none")


def test_the_page_of_modalities_has_the_place_beside_the_maps():
  rows = {"all": [{"rgb -> depth": 0.08}, {"rgb -> depth": 0.10}], "samples": [{"rgb -> depth": 0.05}]}
  page = compare_modalities.page(rows, {"place in the picture": 0.083}, "hcmoco_nano", 1500)
  assert "| all | 9.0 +- 1.4 | 2 |" in page and "| samples | 5.0 | 1 |" in page
  assert "| place in the picture | 8.3 |" in page and "`hcmoco_nano`, 1,500 updates" in page


def test_the_page_of_pairs_has_what_another_person_adds():
  errors = {f"{kind} {what} true": 0.5 for kind in ("view", "pose") for what in ("all", "person")}
  errors |= {name.replace("true", "other"): 0.52 for name in errors}
  rows = {"both": [errors | {"MPJPE_mm": 190.0}], "mean pose": [{"MPJPE_mm": 204.2}]}
  page = compare_pairs.page(rows, "croco_human_nano", 1500)
  assert "| both | 0.500, +0.0200 | 0.500, +0.0200 | 0.500, +0.0200 | 0.500, +0.0200 | 190.0 | 1 |" in page
  assert "| mean pose |  |  |  |  | 204.2 | 1 |" in page


def test_an_unknown_row_is_named(monkeypatch):
  monkeypatch.setattr(sys, "argv", ["compare_modalities", "--work=w", "--out=o", "--arms=all;none"])
  with pytest.raises(ValueError, match="'none' is unknown; choose from: samples; "):
    compare_modalities.main()


def test_a_record_of_other_facts_is_refused(tmp_path):
  file = tmp_path / "run.json"
  record = stated(file, {"people": 512}, lambda: {"scores": {"rgb -> depth": 0.1}})
  assert record["people"] == 512 and record["commit"] and record["scores"] == {"rgb -> depth": 0.1}
  assert stated(file, {"people": 512}, lambda: pytest.fail("measured again")) == record
  with pytest.raises(ValueError, match="run.json is of other settings or data: delete it"):
    stated(file, {"people": 1024}, dict)
