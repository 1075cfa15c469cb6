"""Persons without the annotation that a task needs are left out and counted, like crowds."""

import pytest

from saip_jax.evaluation.encoders import open_encoder
from saip_jax.evaluation.evaluate import evaluation_text, measure
from saip_jax.evaluation.splits import Data
from saip_jax.evaluation.tasks.correspondence import nearest_cells
from saip_jax.evaluation.tasks.keypoints import probe_coordinates, probe_heat_maps
from tests.support.annotated_photos import annotation, coco, write_json, write_photo

NAMES = ["nose", "left_shoulder", "right_shoulder"]


def _data(root, tmp_path, given):
  """24 photos of a person each; `given(k)` are the keypoints of the k-th."""
  annotations = []
  for k in range(24):
    write_photo(root / f"p{k}.jpg", seed=k)
    keypoints = given(k)
    annotations.append(annotation(k, k, [20, 20, 60, 90], **({} if keypoints is None else {"keypoints": keypoints})))
  write_json(
    root / "train.json",
    coco(
      [(k, f"p{k}.jpg", 120, 160) for k in range(24)], annotations, [{"id": 1, "name": "person", "keypoints": NAMES}]
    ),
  )
  return Data("coco", str(root), str(tmp_path / "cache"), 0, hold_out=True)


@pytest.mark.parametrize("nothing", [None, []])
def test_persons_without_keypoints_are_left_out_of_keypoint_tasks(tmp_path, nothing):
  data = _data(tmp_path / "set", tmp_path, lambda k: nothing if k % 3 == 2 else [50, 30, 2, 35, 60, 2, 65, 60, 2])
  encoder = open_encoder("histogram", image_hw=(64, 32))
  everybody = [len(part) for part in data.train_and_test()]
  without = [sum("keypoints" not in part.first_person(i) for i in range(len(part))) for part in data.train_and_test()]
  assert sum(everybody) == 24 and sum(without) == 8
  for protocol in (probe_coordinates, probe_heat_maps):
    facts = protocol(encoder, data).facts
    parts = [facts["train"], facts["test"]]
    assert [part["length"] for part in parts] == [all_ - none for all_, none in zip(everybody, without)]
    assert [part["left_out"] for part in parts if "left_out" in part] == [count for count in without if count]
    assert all("its person has no keypoints" in part["first_left_out"] for part in parts if "left_out" in part)
  assert nearest_cells(encoder, data).facts["test"]["length"] == everybody[1] - without[1]


def test_the_evaluation_reports_who_was_left_out_and_what_was_taken_for_a_person(tmp_path):
  data = _data(tmp_path / "set", tmp_path, lambda k: None if k % 3 == 2 else [50, 30, 2, 35, 60, 2, 65, 60, 2])
  printed = evaluation_text(measure(open_encoder("histogram", image_hw=(64, 32)), "keypoints", data, "coordinates"))
  assert "of the set left out, the first: p" in printed
  assert "Read as persons: annotations of 'person' (24)." in printed


def test_a_set_without_any_keypoints_is_refused_in_one_line(tmp_path):
  data = _data(tmp_path / "set", tmp_path, lambda k: None)
  with pytest.raises(ValueError, match="no image of 'set.*' has keypoints: choose other --data"):
    probe_coordinates(open_encoder("histogram", image_hw=(64, 32)), data)
