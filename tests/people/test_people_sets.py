"""Prepared sets of built-in people: every label is read back, splits share no identity."""

import json
import pickle

import numpy as np
import pytest

from input_pipeline.decode import decode_image
from input_pipeline.people import prepare as prepare_module, records
from input_pipeline.people.compositions import render_picture
from input_pipeline.people.dataset import PeopleSource, open_people
from input_pipeline.people.records import decode_picture, encode_picture
from input_pipeline.people.spec import COMPOSITIONS, SPLITS, split_of_picture
from input_pipeline.records import decode_record
from tests.support.toy_people import HW, prepare, spec_of, toy_picture


@pytest.fixture
def toy(monkeypatch):
  """Shards of 4 toy pictures."""
  monkeypatch.setattr(records, "SHARD_LENGTH", 4)
  monkeypatch.setattr(prepare_module, "render_picture", toy_picture)


@pytest.mark.parametrize("composition", COMPOSITIONS)
@pytest.mark.parametrize("render", [toy_picture, render_picture])
def test_a_record_holds_the_whole_picture(render, composition):
  spec = spec_of(composition, hw=(96, 128) if composition == "scenes" else HW)
  picture = render(spec, 5)
  record = encode_picture(picture)
  assert record == encode_picture(render(spec, 5))
  again = decode_picture(record)
  for plane in ("instances", "parts"):
    np.testing.assert_array_equal(getattr(again, plane), getattr(picture, plane), strict=True)
  assert again.depth.dtype == np.float32
  np.testing.assert_allclose(again.depth, np.minimum(picture.depth, 65.535), atol=0.00051)
  np.testing.assert_array_equal(again.depth > 0, picture.depth > 0)
  assert again.image_u8.shape == picture.image_u8.shape
  assert np.abs(again.image_u8.astype(int) - picture.image_u8).mean() < 12
  assert again.jpeg_quality == picture.jpeg_quality and again.annotations.keys() == picture.annotations.keys()
  camera = np.array(again.annotations["camera_matrix"])
  for person, before in zip(again.annotations["people"], picture.annotations["people"], strict=True):
    assert person.keys() == before.keys()
    assert all(person[key] == before[key] for key in ("identity", "facing", "area", "attributes", "caption"))
    keypoints = np.array(person["keypoints"])
    np.testing.assert_allclose(keypoints, before["keypoints"], atol=0.0001)
    projected = np.array(person["landmarks_xyz"])[:17] @ camera.T
    in_front = projected[:, 2] > 0.1
    np.testing.assert_allclose((projected[:, :2] / projected[:, 2:])[in_front], keypoints[in_front, :2], atol=0.001)


def test_ten_thousand_crops_fit_in_250_megabytes():
  spec = spec_of(identities=24, hw=(256, 128))
  assert sum(len(encode_picture(render_picture(spec, i))) for i in range(24)) / 24 < 24_500


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_prepared_set_reads_back(tmp_path, toy, composition):
  spec = spec_of(composition, seed=1)
  out = prepare(tmp_path / "set", spec, 24)
  meta = json.loads((out / "meta.json").read_text())
  assert {key: meta[key] for key in ("composition", "count", "image_hw", "seed", "identities", "export")} == {
    "composition": composition,
    "count": 24,
    "image_hw": [64, 32],
    "seed": 1,
    "identities": spec.identities,
    "export": None,
  }
  assert [shard["records"] for shard in meta["shards"].values()] == [4] * 6
  assert all(0 <= attribute["frequency"] <= 1 for attribute in meta["attributes"].values())
  assert len(meta["parts"]) == 20 and len(meta["keypoints"]) == 17
  source = PeopleSource(out)
  assert len(source) == 24 and source.name(9) == f"people-{composition}-24-64x32-seed1[9]"
  assert source.identity["length"] == 24 and source.identity["source"] == "people"
  for source in (source, pickle.loads(pickle.dumps(source))):
    for i in (23, 0, 4):
      picture = toy_picture(spec, i)
      annotations, files = decode_record(source.record_bytes(i))
      assert annotations["index"] == i and annotations["split"] == split_of_picture(spec, i)
      assert list(files) == ["image.jpg", "depth.png", "parts.png"] + ["instances.png"] * (composition == "scenes")
      assert source.read(i) == files["image.jpg"]
      np.testing.assert_array_equal(decode_image(source.read(i), HW)[0], source.picture(i).image_u8)
      np.testing.assert_array_equal(source.picture(i).parts, picture.parts)
      assert len(annotations["people"][0]["attributes"]) == len(meta["attributes"])
      assert len(annotations["people"][0]["landmarks_xyz"]) == len(meta["landmarks"])
  with pytest.raises(IndexError):
    source.read(-1)
  with pytest.raises(IndexError):
    source.read(24)


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_splits_are_whole_and_share_no_identity(tmp_path, toy, composition):
  spec = spec_of(composition)
  out = prepare(tmp_path / "set", spec, 32)
  everything, splits = PeopleSource(out), {split: PeopleSource(out, split) for split in SPLITS}
  meta = json.loads((out / "meta.json").read_text())
  assert {split: len(source) for split, source in splits.items()} == {
    split: sizes["images"] for split, sizes in meta["splits"].items()
  }
  numbers = {split: [source.annotations(i)[0]["index"] for i in range(len(source))] for split, source in splits.items()}
  assert sorted(sum(numbers.values(), [])) == list(range(32))
  for split, source in splits.items():
    assert numbers[split] == sorted(numbers[split])
    assert source.read(len(source) - 1) == everything.read(numbers[split][-1])
    assert source.name(0) == everything.name(numbers[split][0])
    again = pickle.loads(pickle.dumps(source))
    assert again.read(1) == source.read(1) and again.identity == source.identity
  assert len({source.identity["name"] for source in (everything, *splits.values())}) == 4
  assert sum(sizes["identities"] for sizes in meta["splits"].values()) == spec.identities


def test_a_source_travels_light(tmp_path, toy):
  source = PeopleSource(prepare(tmp_path / "set", spec_of(identities=10), 80), "train")
  assert len(pickle.dumps(source)) < 1500 + 60 * 20  # names of shards


def test_a_split_without_pictures_is_an_error(tmp_path, toy):
  out = prepare(tmp_path / "set", spec_of(identities=1), 4)
  assert len(PeopleSource(out, "train")) == 4
  with pytest.raises(ValueError, match="no image of a val identity"):
    PeopleSource(out, "val")
  with pytest.raises(ValueError, match="split='valid' is unknown; choose one of: train, val, test"):
    PeopleSource(out, "valid")


def test_training_sees_the_train_split_alone(tmp_path, toy):
  out = prepare(tmp_path / "set", spec_of(), 32)
  source = open_people(str(out), 0)
  assert {source.annotations(i)[0]["split"] for i in range(len(source))} == {"train"}
  assert source.identity == PeopleSource(out, "train").identity


@pytest.mark.parametrize("export", [None, "coco", "market1501"])
def test_a_whole_set_is_used_as_it_is_and_another_refused(tmp_path, toy, monkeypatch, export):
  out = prepare(tmp_path / "set", spec_of(), 6, export)
  before = {path.name: path.stat().st_mtime_ns for path in out.rglob("*")}
  monkeypatch.setattr(prepare_module, "render_picture", lambda *_: pytest.fail("rendered again"))
  prepare(out, spec_of(), 6, export)
  assert {path.name: path.stat().st_mtime_ns for path in out.rglob("*")} == before
  with pytest.raises(ValueError, match=r"different set .*count 6 there, 7 asked for; seed 0 there, 1 asked for"):
    prepare(out, spec_of(seed=1), 7, export)
  with pytest.raises(ValueError, match=r"different set .*composition crops there, clips asked for"):
    prepare(out, spec_of("clips"), 8, export if export == "coco" else None)
  with pytest.raises(ValueError, match=r"different set .*export .* there"):
    prepare(out, spec_of(), 6, None if export else "coco")
