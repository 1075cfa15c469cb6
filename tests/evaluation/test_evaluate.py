"""`saip evaluate`: scores, splits, and saved records."""

import dataclasses
import json

import numpy as np
import pytest

from input_pipeline.people import prepare
from input_pipeline.people.spec import SetSpec
from input_pipeline.sources.combined import SubsetSource
from saip_jax import cli
from saip_jax.evaluation import evaluate as evaluation
from saip_jax.evaluation.encoders import encode_images, encode_pooled, flip_tested, open_encoder, striped
from saip_jax.evaluation.resampling import bootstrap
from saip_jax.evaluation.splits import Data, LabeledImages
from saip_jax.evaluation.tasks import TASKS
from saip_jax.evaluation.tasks.base import facts_of
from tests.support.coded_people import CodedPictures, knowing_encoder
from tests.support.toy_people import toy_picture


@pytest.fixture
def people(tmp_path, monkeypatch):
  monkeypatch.setattr(prepare, "render_picture", toy_picture)
  out = tmp_path / "people"
  prepare.prepare_people(out, SetSpec("crops", (64, 32), 0, 20), 160, progress=False, processes=1)
  return f"people:{out}"


OF_SCENES, OF_RUNS = ("detection", "multi_parsing"), ("cross_modality",)


@pytest.mark.parametrize(
  "task, protocol", [(task, p) for task, t in TASKS.items() for p in t.protocols if task not in OF_SCENES + OF_RUNS]
)
def test_every_task_runs_on_the_built_in_people(people, monkeypatch, capsys, task, protocol):
  resampled = _resampled(monkeypatch)
  command = [
    "evaluate",
    "--checkpoint=constant",
    f"--task={task}",
    f"--data={people}",
    f"--protocol={protocol}",
    "--image-hw=64x32",
    "--json",
  ]
  assert cli.main(command) == 0
  record = json.loads(capsys.readouterr().out)
  assert record["task"] == task and record["protocol"] == protocol and record["left_out"] == []
  assert record["encoder"] == {"checkpoint": "constant", "image_hw": [64, 32]}
  assert all(np.isfinite(value) for value in record["scores"].values())
  _check_uncertainty(record, resampled)
  text = evaluation.evaluation_text(record)
  assert TASKS[task].summary in text and all(name in text for name in record["scores"])


def _resampled(monkeypatch):
  """Returns a list that gets each `Resampling` that is used."""
  found = []
  monkeypatch.setattr(
    evaluation, "bootstrap", lambda resampling, n: found.append(resampling) or bootstrap(resampling, n)
  )
  return found


def _check_uncertainty(record, resampled):
  """Every image once is the score itself; the interval is that of the main score and of several groups."""
  (resampling,), known = resampled, record["uncertainty"]
  value = record["scores"][known["score"]]
  assert known["score"] == next(iter(record["scores"])) and known["groups"] > 1 and known["draws"] == 500
  assert resampling.of(np.ones(len(resampling.groups))) == pytest.approx(value, abs=1e-12)
  assert known["low"] <= known["high"]


@pytest.mark.parametrize("task", OF_SCENES)
def test_some_are_measured_on_whole_scenes(tmp_path, monkeypatch, capsys, task):
  resampled = _resampled(monkeypatch)
  monkeypatch.setattr(prepare, "render_picture", toy_picture)
  prepare.prepare_people(tmp_path / "scenes", SetSpec("scenes", (64, 96), 0, 120), 60, progress=False, processes=1)
  command = ["evaluate", "--checkpoint=constant", f"--task={task}", f"--data=people:{tmp_path / 'scenes'}", "--json"]
  assert cli.main(command) == 0
  record = json.loads(capsys.readouterr().out)
  assert record["encoder"]["image_hw"] == [256, 384] and record["facts"]["persons"] > 12
  if task == "detection":
    _check_uncertainty(record, resampled)
  else:
    assert record["uncertainty"] is None


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--task=juggling"], ["--task=juggling", "reid"]),
    (["--protocol=guess"], ["--protocol=guess", "nearest"]),
    (["--data=moon:x"], ["--data=moon:x", "people"]),
    (["--data=market1501"], ["market1501:PATH"]),
    (["--checkpoint=random:vit_huge"], ["vit_huge", "vit_tiny"]),
    (["--checkpoint=nowhere"], ["--checkpoint=nowhere", "no such file"]),
    (["--test-split=exam"], ["exam", "train, val, test"]),
    (["--hold-out", "--test-split=val"], ["--hold-out", "--test-split=val"]),
    (["--task=attributes", "--train-split=test"], ["both 'test'", "--hold-out"]),
  ],
)
def test_a_mistake_is_one_line(people, capsys, arguments, words):
  command = ["evaluate", "--checkpoint=histogram", "--task=reid", f"--data={people}"]
  assert cli.main([*command, *arguments]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and all(word in error for word in words)


def test_a_flip_test_is_told_with_the_score(people, capsys):
  command = ["evaluate", "--checkpoint=histogram", "--task=reid", f"--data={people}", "--image-hw=64x32"]
  records = []
  for flag in ([], ["--flip-test"]):
    assert cli.main([*command, *flag, "--json"]) == 0
    records.append(json.loads(capsys.readouterr().out))
  assert [record["facts"]["flip_test"] for record in records] == [False, True]
  assert records[0]["encoder"] | {"flip_test": True} == records[1]["encoder"]
  assert cli.main([*command, "--flip-test"]) == 0
  assert "flip test  True" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--task=joints3d"], ["--task=keypoints", "--protocol=coordinates"]])
def test_tasks_without_a_flip_test_refuse_it(people, capsys, arguments):
  assert cli.main(["evaluate", "--checkpoint=histogram", f"--data={people}", "--flip-test", *arguments]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "--flip-test" in error and "keypoints (heatmap)" in error


def test_several_tasks_are_measured_as_each_alone(people, monkeypatch, capsys):
  opened, open_one = [], TASKS["reid"].open
  open_counted = lambda *args: (opened.append(args), open_one(*args))[1]
  for task in ("reid", "attributes", "parsing"):
    monkeypatch.setitem(TASKS, task, dataclasses.replace(TASKS[task], open=open_counted))

  def records(tasks):
    command = ["evaluate", "--checkpoint=histogram", f"--data={people}", "--image-hw=64x32", "--json"]
    assert cli.main([*command, f"--task={tasks}"]) == 0
    found = json.loads("[" + capsys.readouterr().out.replace("}\n{", "},{") + "]")
    return [{name: value for name, value in record.items() if name not in ("seconds", "time")} for record in found]

  together = records("reid,attributes:knn,parsing")
  assert len(opened) == 1
  assert together == [*records("reid"), *records("attributes:knn"), *records("parsing")]
  assert [record["protocol"] for record in together] == ["nearest", "knn", "linear"]


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--task=reid,attributes", "--protocol=stripes"], ["--protocol=stripes", "NAME:PROTOCOL"]),
    (["--task=reid,juggling"], ["--task=juggling", "reid"]),
    (["--task=reid,"], ["--task= "]),
    (["--task=reid:linear"], ["--protocol=linear", "nearest"]),
  ],
)
def test_mistakes_among_several_tasks_are_one_line_before_anything_is_measured(people, capsys, arguments, words):
  assert cli.main(["evaluate", "--checkpoint=histogram", f"--data={people}", *arguments]) == 2
  found = capsys.readouterr()
  assert not found.out and found.err.count("\n") == 1 and all(word in found.err for word in words)


def test_help_names_every_task(capsys):
  with pytest.raises(SystemExit):
    cli.main(["evaluate", "--help"])
  text = capsys.readouterr().out
  assert all(task in text for task in TASKS)


def test_a_run_remembers_what_was_measured(tmp_path, people, monkeypatch):
  run = tmp_path / "run"
  (run / "checkpoints" / "4").mkdir(parents=True)
  (run / "config.json").write_text("{}")
  monkeypatch.setattr(evaluation, "checkpoint_steps", lambda folder: [4])
  open_any = lambda *args: open_encoder("histogram", image_hw=(64, 32))
  monkeypatch.setitem(TASKS, "reid", dataclasses.replace(TASKS["reid"], open=open_any))
  data = Data.parse(people, cache_dir=str(tmp_path), people_count=0)
  records = [evaluation.evaluate(str(where), "reid", data) for where in (run, run / "checkpoints" / "4")]
  assert [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()] == records


def test_a_share_is_of_the_training_part_alone(people, tmp_path):
  data = lambda fraction: Data.parse(people, cache_dir=str(tmp_path), people_count=0, train_fraction=fraction)
  (train, test), (few, again) = data(1.0).train_and_test(), data(0.5).train_and_test()
  assert 0 < len(few) < len(train) and again.source.identity == test.source.identity
  assert "0.5 of its identities" in few.source.identity["name"]
  assert data(0.5).test().source.identity == test.source.identity
  for fraction in (0, 1.5, float("nan")):
    with pytest.raises(ValueError, match=f"--train-fraction={fraction}: expected more than 0 and at most 1"):
      data(fraction)


def test_damaged_images_are_left_out_and_named():
  class Damaged(CodedPictures):
    def read(self, i):
      return b"" if i % 3 == 0 else super().read(i)

  damaged = []
  rows, features = encode_images(knowing_encoder(lambda n: [n]), Damaged(range(9), lambda n: {}), damaged)
  assert rows.tolist() == [1, 2, 4, 5, 7, 8] == features[:, 0].tolist() and len(damaged) == 3
  assert damaged[1] == "picture 3: empty file (zero bytes)"
  with pytest.raises(ValueError, match="none of the 1 images"):
    encode_images(knowing_encoder(), Damaged([5], lambda n: {}), [])


def test_what_a_data_set_left_out_is_told_with_the_score():
  class Incomplete(CodedPictures):
    left_out = [("gone.jpg", "no such photo"), ("torn.jpg", "no labels")]

  facts = facts_of(
    **{
      name: LabeledImages(kind(range(4), lambda n: {}))
      for name, kind in (("train", CodedPictures), ("test", Incomplete))
    }
  )
  assert "left_out" not in facts["train"] and facts["test"]["left_out"] == 2
  record = {
    "task": "reid",
    "protocol": "nearest",
    "encoder": {"checkpoint": "W", "image_hw": [64, 32]},
    "facts": facts,
    "left_out": [],
    "scores": {"mAP": 0.5},
  }
  assert "2 of the set left out, the first: gone.jpg: no such photo" in evaluation.evaluation_text(record)


@pytest.mark.parametrize(
  "task, protocol",
  [("reid", "nearest"), ("reid", "stripes"), ("text", "linear"), ("attributes", "knn"), ("parsing", "linear")],
)
def test_features_that_are_all_equal_are_told_with_the_score(people, task, protocol):
  data = Data.parse(people, cache_dir="", people_count=0)
  noise = lambda n, shape: 1 + 1e-7 * np.random.default_rng(n).normal(size=shape)  # of float32
  same = dataclasses.replace(knowing_encoder(lambda n: noise(n, 8), lambda n: noise(n, (8, 4, 8))), image_hw=(64, 32))
  record = json.loads(json.dumps(evaluation.measure(same, task, data, protocol)))
  text = evaluation.evaluation_text(record)
  images = sum(
    record["facts"][part]["length"] for part in ("train", "test", "query", "gallery") if part in record["facts"]
  )
  assert f"warning    all features are equal: the encoder gives the same ones for each of {images} images" in text
  if task == "reid":
    named = dataclasses.replace(same, facts=same.facts | {"checkpoint": "constant"})
    assert "warning" not in evaluation.measure(named, task, data, protocol)["facts"]
    assert "warning" not in evaluation.measure(open_encoder("histogram"), task, data, protocol)["facts"]


@pytest.mark.parametrize(
  "task, protocol",
  [
    ("reid", "nearest"),
    ("reid", "stripes"),
    ("text", "linear"),
    ("attributes", "knn"),
    ("keypoints", "heatmap"),
    ("joints3d", "linear"),
  ],
)
def test_what_a_constant_scores_does_not_depend_on_the_order_of_files(people, task, protocol):
  class Shuffled(Data):
    def open(self, split, whole=False):
      source = super().open(split, whole).source
      return LabeledImages(SubsetSource(source, np.random.default_rng(7).permutation(len(source)), "shuffled"))

  scores = [
    evaluation.measure(
      open_encoder("constant", image_hw=(64, 32)), task, kind.parse(people, cache_dir="", people_count=0), protocol
    )["scores"]
    for kind in (Data, Shuffled)
  ]
  assert scores[1] == pytest.approx(scores[0], abs=1e-9)


def test_a_constant_scores_chance_in_retrieval_of_text(people):
  """One caption per person: equal features find the persons by chance, whatever the captions."""
  data = Data.parse(people, cache_dir="", people_count=0)
  found = evaluation.measure(open_encoder("constant"), "text", data)
  count = found["facts"]["test"]["length"]
  assert found["facts"]["queries_with_ties"] == found["facts"]["queries"]
  persons = data.test().of_first_persons("identity", "text")
  shown = np.array([persons.count(person) for person in persons])
  assert found["scores"]["R@1"] == pytest.approx(np.mean(shown / count))


def test_a_picture_without_a_size_is_named():
  class NoImage(CodedPictures):
    def read(self, i):
      return b"no image"

  with pytest.raises(ValueError, match="picture 5 of 'coded' cannot be read: it is not an image$"):
    LabeledImages(NoImage([5], lambda n: {})).size_hw(0)


def test_pooled_cells_are_means():
  cells = lambda n: np.arange(16 * 4, dtype=float).reshape(16, 4, 1)
  _, features = encode_pooled(knowing_encoder(lambda n: [7.0], cells), CodedPictures([1], lambda n: {}), [])
  assert features.shape == (1, 1 + 8 * 4) and features[0, :3].tolist() == [7.0, 2.0, 3.0]  # rows 0 and 1: means of 0, 4


def test_stripes_hold_what_is_along_them_wherever_it_is():
  cells = lambda n: np.stack([np.arange(64.0), -np.arange(64.0)], 1).reshape(16, 4, 2)
  picture = CodedPictures([1], lambda n: {})
  knowing, moved = knowing_encoder(lambda n: [7.0], cells), knowing_encoder(cells=lambda n: cells(n)[:, ::-1])
  deviation = np.std(np.arange(16.0))
  for pools, expected in {
    ("maxima",): [15, 0, 31, -16, 47, -32, 63, -48],
    ("deviations",): [deviation] * 8,
    ("maxima", "deviations"): [15, 0, 31, -16, 47, -32, 63, -48] + [deviation] * 8,
  }.items():
    encoder = striped(knowing, *pools)
    for seen in (encoder, striped(moved, *pools), flip_tested(encoder)):
      np.testing.assert_allclose(encode_images(seen, picture, [])[1], [expected], rtol=1e-6)
    assert encoder.image_features == f"{' and '.join(pools)} of the cells of 4 stripes"


def test_random_weights_depend_on_the_seed_alone():
  images = np.random.default_rng(0).integers(0, 255, (2, 64, 32, 3), np.uint8)
  features = [open_encoder("random:convnext_femto", image_hw=(64, 32), seed=seed).apply(images) for seed in (0, 0, 1)]
  assert features[0][1].shape[:3] == (2, 2, 1) and np.array_equal(features[0][0], features[1][0])
  assert not np.allclose(features[0][0], features[2][0])


def test_histograms_count_colors_per_stripe_and_cell():
  picture = np.zeros((1, 64, 32, 3), np.uint8)
  picture[0, :16] = (255, 0, 31)
  stripes, cells = open_encoder("histogram", image_hw=(64, 32)).apply(picture)
  assert {i: round(float(stripes[0, i]) ** 2) for i in np.flatnonzero(stripes[0])} == {
    7 * 64: 512,
    512: 512,
    2 * 512: 512,
    3 * 512: 512,
  }
  assert cells.shape == (1, 4, 2, 512) and cells[0, 0, 1, 7 * 64] == cells[0, 3, 0, 0] == 16
