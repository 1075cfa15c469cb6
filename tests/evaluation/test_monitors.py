"""Monitors: they measure fixed images and change nothing."""

from typing import get_args

import jax
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from input_pipeline.people import prepare
from input_pipeline.people.spec import SetSpec
from saip_jax.config import MonitorName
from saip_jax.evaluation import monitors
from saip_jax.evaluation.encoders import encoder_of, untrained_backbone as started_backbone
from saip_jax.evaluation.evaluate import measure
from saip_jax.evaluation.fixed_set import FixedSet
from saip_jax.evaluation.splits import Data
from saip_jax.interop.spec import BackboneSpec
from saip_jax.reporting.curves import curves_html
from saip_jax.reporting.runs import read_run
from saip_jax.training.metrics import read_metrics
from tests.support.coded_people import GRID, HW, CodedData, CodedPictures, knowing_encoder
from tests.support.processes import TOY, run
from tests.support.toy_method import toy_config, train_toy
from tests.support.toy_people import toy_picture

METRICS = {"monitor/reid_mAP", "monitor/attributes_mA", "monitor/parts_mIoU"}
FIT, TEST = range(80), range(80, 140)
PLACES = tuple(2 * n for n in GRID)  # 2x2 under each cell


@pytest.fixture
def people(tmp_path, monkeypatch):
  monkeypatch.setattr(prepare, "render_picture", toy_picture)
  prepare.prepare_people(tmp_path / "people", SetSpec("crops", (64, 32), 0, 20), 160, progress=False, processes=1)
  return f"people:{tmp_path / 'people'}"


def _labels(number):
  return np.random.default_rng(number).integers(0, 4, PLACES).astype(np.uint8)


def _facts(number):
  attributes = [number % 2, int(number % 3 == 0), None if number < 9 else number // 2 % 2, 1]
  return {"camera": number % 4, "people": [{"identity": number % 10, "attributes": attributes}]}


def _pictures(numbers):
  return CodedPictures(
    numbers,
    _facts,
    {"attributes": ["a", "b", "c", "all"], "parts": list("abcd")},
    lambda number: {"parts.png": np.kron(_labels(number), np.ones((4, 4), np.uint8))},
  )


def _scores(encoder, data=None, most=80):
  """Returns the value of each monitor for an encoder."""
  chosen = FixedSet(data or CodedData(_pictures(FIT), _pictures(TEST)), HW, most)
  found = {name: find_labels(chosen, GRID) for name, (_, find_labels) in monitors._MONITORS.items()}
  features = encoder.apply(chosen.pictures)
  return {name: score(*features) for name, score in found.items()}


def test_features_that_know_the_answer_and_features_that_know_nothing():
  of_places = lambda n: np.eye(4)[_labels(n)].reshape(8, 2, 4, 2, 4).transpose(0, 2, 1, 3, 4).reshape(*GRID, -1)
  knowing = _scores(knowing_encoder(lambda n: [n % 2, n % 3 == 0, n // 2 % 2], of_places))
  assert knowing["attributes"] == 1.0 and knowing["parts"] == 1.0
  assert _scores(knowing_encoder(lambda n: np.eye(10)[n % 10]))["reid"] == 1.0
  blind = _scores(knowing_encoder())
  # each place has one of four parts, all as frequent; "all" is true of every person and does not count
  assert blind["attributes"] == 0.5 and blind["parts"] < 0.15 and blind["reid"] < 0.3


def test_pictures_are_few_evenly_chosen_and_encoded_once():
  data = CodedData(_pictures(FIT), _pictures(TEST))
  chosen = FixedSet(data, HW, 28)
  fit, test = chosen.fit_and_test
  assert [chosen.pictures[row, 0, 0, 1] for row in fit.rows[:4]] == [0, 2, 5, 8] and len(test.rows) == 28
  query, gallery = chosen.query_and_gallery
  persons = {
    side: [p.images.first_person(i)["identity"] for i in range(len(p.images))]
    for side, p in (("query", query), ("gallery", gallery))
  }
  assert set(persons["query"]) == set(persons["gallery"]) == {0, 5}  # with all their pictures, of 14 each
  assert len(query.rows) == 16 and len(gallery.rows) == 12
  rows = np.concatenate([part.rows for part in (fit, test, query, gallery)])
  assert len(chosen.pictures) == len(set(rows)) < len(rows)
  assert all(chosen.pictures[row, 0, 0, 1] % 10 in (0, 5) for row in query.rows)


def test_damaged_pictures_are_left_out_with_their_labels():
  class Damaged(CodedPictures):
    def read(self, i):
      return b"" if self._numbers[i] == 3 else super().read(i)

  chosen = FixedSet(CodedData(Damaged(range(6), _facts), _pictures(TEST)), HW, 80)
  fit, _ = chosen.fit_and_test
  assert [fit.images.source.name(i) for i in range(len(fit.images))] == [f"picture {n}" for n in (0, 1, 2, 4, 5)]
  assert len(chosen.damaged) == 1 and chosen.damaged[0].startswith("picture 3: ")


def test_reidentification_is_that_of_the_task(people):
  backbone = started_backbone(BackboneSpec("vit_tiny", (32, 16), "grid2d"), 0)
  config = toy_config("monitors=('reid',)", f"monitor_data='{people}'", "monitor_hold_out=True")
  data = Data.parse(people, cache_dir="", people_count=0, hold_out=True)
  expected = measure(encoder_of(backbone, {}), "reid", data)["scores"]["mAP"]
  measured = monitors.Monitors(config, backbone.module.clone(dtype="bfloat16"), backbone.params)
  assert measured.measure(backbone.params) == {"monitor/reid_mAP": pytest.approx(expected, rel=1e-6)}


def _monitored(workdir):
  """Returns step -> values."""
  records = read_metrics(workdir / "metrics.jsonl")
  return {r["step"]: {name: r[name] for name in METRICS} for r in records if METRICS <= r.keys()}


def test_they_change_nothing_and_come_back_after_a_stop(people, tmp_path, capsys, monkeypatch):
  opened, real = [], monitors.Monitors
  monkeypatch.setattr(monitors, "Monitors", lambda *args: opened.append(real(*args)) or opened[-1])
  on = (
    "monitor_every=2",
    f"monitor_data='{people}'",
    "optimizer.warmup_fraction=0",
    "optimizer.min_learning_rate=0.01",
  )
  seen = train_toy(tmp_path / "seen", "total_steps=5", *on)
  unseen = train_toy(tmp_path / "unseen", "total_steps=5", *on[1:])
  assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), seen, unseen))
  assert [each._features._cache_size() for each in opened] == [1]  # programs
  values = _monitored(tmp_path / "seen")
  assert list(values) == [0, 2, 4, 5] and not _monitored(tmp_path / "unseen")
  assert values[0] != values[5] and all(0 < value < 1 for each in values.values() for value in each.values())
  events = EventAccumulator(str(tmp_path / "seen" / "tensorboard")).Reload().Scalars("monitor/reid_mAP")
  assert [(e.step, e.value) for e in events] == [
    (step, pytest.approx(value["monitor/reid_mAP"])) for step, value in values.items()
  ]
  output = capsys.readouterr().out
  assert "monitors reid, attributes, parts on" in output and f"reid_mAP {values[4]['monitor/reid_mAP']:.4f}" in output

  train_toy(tmp_path / "parts", "total_steps=3", *on)
  train_toy(tmp_path / "parts", "total_steps=5", *on)
  assert list(_monitored(tmp_path / "parts")) == [0, 2, 3, 4, 5]  # the first half ended at 3
  assert {step: v for step, v in _monitored(tmp_path / "parts").items() if step != 3} == values

  page = curves_html([read_run(tmp_path / "seen")])
  assert all(words in page for words in ("Monitors", "re-identification, mAP", "attributes, mA", "parts, mIoU"))


def test_a_run_that_starts_anew_measures_the_start_once(people, tmp_path):
  on = ("monitor_every=4", f"monitor_data='{people}'", "monitors=('reid',)", "checkpoint_every=100")
  with pytest.raises(ValueError, match="non-finite"):
    train_toy(tmp_path / "run", *on, black_step=2)
  train_toy(tmp_path / "run", *on)
  records = [r["step"] for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "monitor/reid_mAP" in r]
  assert records == [0, 4, 6]


def test_a_shared_state_is_measured_whole(people, tmp_path):
  settings = ("monitor_every=3", f"monitor_data='{people}'", "method.width=4096", "batch_size=16")
  for fsdp in (1, 4):
    train_toy(tmp_path / str(fsdp), *settings, f"fsdp={fsdp}", devices=8)
  whole, shared = _monitored(tmp_path / "1"), _monitored(tmp_path / "4")
  assert list(whole) == [0, 3, 6] and whole[0] == shared[0]
  for step in whole:
    assert whole[step] == pytest.approx(shared[step], abs=0.02)


@pytest.mark.distributed
def test_two_processes_measure_as_one(people, tmp_path):
  on = ["monitor_every=2", f"monitor_data='{people}'"]
  first, second = run([*TOY, f"--workdir={tmp_path / 'together'}", *(f"--config.{s}" for s in on)], 2)
  assert "step 6, reid_mAP" in first and "reid" not in second
  train_toy(tmp_path / "alone", *on, devices=8)
  together, alone = (_monitored(tmp_path / name) for name in ("together", "alone"))
  assert list(together) == [0, 2, 4, 6] == list(alone) and together[0] == alone[0]
  for step in alone:
    assert together[step] == pytest.approx(alone[step], abs=0.02)


@pytest.mark.parametrize(
  "settings, words",
  [
    (["monitors=('reid', 'juggling')"], r"config.monitors\[1\] is 'juggling'; choices: attributes, parts, reid"),
    (["monitor_every=-1"], "config.monitor_every is -1: it must be positive, or 0 for never"),
    (["monitor_images=0"], "config.monitor_images is 0: it must be positive"),
    (["monitor_data='moon:x'"], "config.monitor_data=moon:x: .*'moon' is .*expected SOURCE:PATH"),
    (["monitor_data='people:nowhere'"], "config.monitor_data=people:nowhere: "),
  ],
)
def test_errors_are_one_line(tmp_path, settings, words):
  with pytest.raises(ValueError, match=words) as caught:
    train_toy(tmp_path, "monitor_every=2", *settings)
  assert "\n" not in str(caught.value)
  assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
  "monitor, words", [("reid", "has no identity"), ("attributes", "has no attributes"), ("parts", "names no parts")]
)
def test_data_without_the_labels(tmp_path, monitor, words):
  for i in range(12):
    Image.new("RGB", (4, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
  with pytest.raises(ValueError, match=f"config.monitor_data=folder:{tmp_path}: .* {words}") as caught:
    train_toy(tmp_path / "run", "monitor_every=2", f"monitors=('{monitor}',)", f"monitor_data='folder:{tmp_path}'")
  assert "\n" not in str(caught.value)


def test_every_name_of_the_settings_is_measured():
  assert set(get_args(MonitorName)) == set(monitors._MONITORS)
