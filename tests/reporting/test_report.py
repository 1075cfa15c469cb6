"""`saip report`: its content, that it is self-contained, and that no file can break it."""

import json

import pytest
from PIL import Image

from saip_jax import cli
from saip_jax.interop import weights
from saip_jax.reporting import report as report_module
from saip_jax.reporting.report import write_report
from saip_jax.reporting.runs import read_run
from saip_jax.run_folder.reading import read_fingerprint
from tests.support.report_page import Page, toy_vit, two_cameras
from tests.support.toy_method import train_toy

_HOSTILE = "</script><script>alert(\"&amp;\")</script><img src=http://x.y/z onerror='a'>"


def report(run, *compare, **options) -> Page:
  path = write_report(run, compare, **options)
  page = Page(path.read_text("utf-8"))
  page.check_self_contained()
  return page


def evaluation(checkpoint="histogram", task="reid", score=0.25, **more):
  data = {"source": "people", "name": "people-test", "length": 52, "digest": "7"}
  record = {
    "task": task,
    "protocol": "nearest",
    "encoder": {"checkpoint": checkpoint, "image_hw": [64, 32]},
    "scores": {"mAP": score, "error_px": 3.25},
    "facts": {"query": data, "re_ranking": False},
    "left_out": [],
    "seconds": 1.5,
    "time": "2026-01-01T00:00:00+0000",
  }
  return record | more


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "trained"
  train_toy(folder, "panel_every=3")
  return folder


@pytest.fixture
def people():
  return two_cameras()


def test_a_page_of_a_whole_run(trained, tmp_path, people, monkeypatch):
  backbone = toy_vit()
  monkeypatch.setattr(weights, "load_backbone", lambda path: backbone)
  (trained / "evaluations.jsonl").write_text(
    "".join(
      json.dumps(evaluation("step 6 of the run /home/me/runs/trained", score=score)) + "\n" for score in (0.11, 0.5)
    )
  )
  Image.new("RGB", (2000, 100)).save(trained / "panels" / "000001_views.png")
  (trained / "damaged_images.txt").write_text("a.jpg: empty file\n")
  baselines = tmp_path / "baselines.json"
  baselines.write_text(json.dumps(evaluation(), indent=2) + "\n" + json.dumps(evaluation("random:vit_tiny", score=0.2)))
  page = report(trained, baselines, out=tmp_path / "new" / "page.html", data=people)

  assert [p.name for p in (tmp_path / "new").iterdir()] == ["page.html"]
  for words in (
    "toy",
    "vit_tiny at 32x16",
    "6 of 6",
    "40 images, digest abc",
    "1 skipped",
    "a.jpg: empty file",
    "devices 1 x cpu",
  ):
    assert words in page.text, words
  for name in ("loss/total", "loss/fit", "optim/lr", "monitor/index", "throughput, images/s", "input wait"):
    assert name in page.text, name
  assert page.count("svg") == page.count("figure", **{"class": "chart"}) >= 10
  assert "views, step 6" in page.text and page.count("img", **{"class": "panel"}) == 2  # and the first
  assert "First panel, step 1" in page.text
  for words in ("Person re-identification", "50.00 %", "25.00 %", "20.00 %", "3.2 px", "people-test", "re ranking"):
    assert words in page.text, words
  assert "trained, step 6, 64x32" in page.text and "random:vit_tiny, 64x32" in page.text and "error_px" not in page.text
  assert "11.00 %" not in page.text and "/home" not in page.text  # an older record, and where the run lay
  assert page.text.count("head 3") == 6 and page.text.count("features") > 8 and page.text.count("query") >= 8
  assert page.count("figure", **{"class": "right"}) + page.count("figure", **{"class": "wrong"}) == 8 * 6
  assert '"warmup_fraction"' in page.text


def test_tables_of_one_task_frozen_first_and_what_was_averaged(tmp_path, people):
  (tmp_path / "config.json").write_text("{}")
  mirrored = {"checkpoint": "step 6 of the run W", "image_hw": [64, 32], "flip_test": True}
  records = [evaluation(protocol="finetune", score=0.9), evaluation(), evaluation(encoder=mirrored)]
  (tmp_path / "evaluations.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  page = report(tmp_path, data=people)
  frozen, tuned = map(page.text.index, ("Person re-identification protocol nearest", "re-identification, fine-tuned"))
  assert frozen < tuned
  assert "step 6, 64x32, flip test" in page.text and "run W" not in page.text


def test_a_run_that_has_nothing_yet_names_the_commands(tmp_path, people):
  (tmp_path / "config.json").write_text("{}")
  page = report(tmp_path, data=people)
  for words in (
    "no evaluations yet",
    f"saip evaluate --checkpoint={tmp_path}",
    "random:vit_tiny",
    "no records yet",
    "no complete checkpoint yet",
    "--config.panel_every=N",
  ):
    assert words in page.text, words
  assert page.count("img") == page.count("svg") == 0


def test_what_a_person_or_a_file_says_is_text(tmp_path, people):
  run = tmp_path / "<b>&run"
  (run / "panels").mkdir(parents=True)
  (run / "config.json").write_text(json.dumps({"method": {"name": _HOSTILE}, _HOSTILE: [_HOSTILE]}))
  (run / "metrics.jsonl").write_text(json.dumps({"step": 1, _HOSTILE: 1.0, "loss/" + _HOSTILE: 2.0}) + "\n")
  (run / "evaluations.jsonl").write_text(
    json.dumps(
      evaluation(
        _HOSTILE,
        _HOSTILE,
        protocol=_HOSTILE,
        scores={_HOSTILE: 0.5},
        facts={_HOSTILE: {_HOSTILE: [_HOSTILE]}},
        left_out=[_HOSTILE],
      )
    )
    + "\n"
  )
  (run / "damaged_images.txt").write_text(_HOSTILE + "\n")
  (run / "panels" / "000001_<img>.png").write_bytes(b"no picture")
  page = report(run, run, data=people)
  assert page.text.count("onerror") >= 12 and "<b>&run" in page.text and "cannot be read" in page.text


def test_torn_and_corrupt_lines(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  good = [json.dumps({"step": step, "loss/total": float(step)}) for step in (1, 2, 3)]
  lines = [good[0], "x" * 500, good[1], "[1]", '{"loss/total": 7.0}', '{"step": 4, "loss/total": NaN}', good[2]]
  (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 5, "lo')
  (tmp_path / "evaluations.jsonl").write_text(json.dumps(evaluation()) + '\n{"task": "reid"}\n')
  (tmp_path / "goodput.json").write_text("")
  run = read_run(tmp_path)
  assert run.series["loss/total"].steps.tolist() == [1, 2, 3] and run.series["loss/total"].left_out == 1
  assert len(run.evaluations) == 1 and run.goodput == {}
  faults = "\n".join(run.faults)
  for words in ("line 2 is not a", "line 4 is not a", "incomplete line", "1 records have no step", "jsonl, line 2"):
    assert words in faults, words
  assert len(run.faults) == 5 and max(map(len, run.faults)) < 200
  page = report(tmp_path)
  assert "incomplete line" in page.text and "1 values that are not finite" in page.text

  (tmp_path / "metrics.jsonl").write_text("corrupt\n" * 1000)
  assert len(read_run(tmp_path).faults) < 20 and "990 more lines" in report(tmp_path).text


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["nowhere"], ["W=nowhere", "does not exist", "--workdir"]),
    (["RUN/.."], ["has no config.json"]),
    (["RUN", "--compare", "histogram"], ["--compare=histogram", "saip evaluate --json"]),
    (["RUN", "--compare", "RUN/config.json"], ["config.json", "saip evaluate --json"]),
    (["RUN", "--compare", "RUN/metrics.jsonl"], ["line 2", "saip evaluate --json"]),
    (["RUN", "--compare", *["RUN"] * 8], ["--compare", "8", "at most 7"]),
    (["RUN", "--data=moon:x"], ["--data=moon:x", "people"]),
  ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, arguments, words):
  run = tmp_path / "run"
  run.mkdir()
  (run / "config.json").write_text("{}")
  (run / "metrics.jsonl").write_text("\nno JSON\n")
  assert cli.main(["report", *(a.replace("RUN", str(run)) for a in arguments)]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and all(word in error for word in words), error
  assert not (run / "report.html").exists()


def test_the_command_replaces_its_page(tmp_path, capsys):
  (tmp_path / "config.json").write_text("{}")
  (tmp_path / "report.html").write_text("old")
  assert cli.main(["report", str(tmp_path), "--compare", str(tmp_path)]) == 0
  assert str(tmp_path / "report.html") in capsys.readouterr().out
  assert "No setting differs" in Page((tmp_path / "report.html").read_text()).text


def test_the_command_passes_on_which_images_to_show(tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr(report_module, "write_report", lambda *args: asked.append(args) or tmp_path)
  assert cli.main(["report", "W", "--data=market1501:M", "--hold-out", "--compare", "A", "B", "--out=page.html"]) == 0
  ((workdir, compare, out, data),) = asked
  assert (workdir, compare, out) == ("W", ["A", "B"], "page.html")
  assert (data.kind, data.path, data.hold_out) == ("market1501", "M", True)


def test_settings_that_differ_come_first(tmp_path):
  for name, rate in (("a", 0.1), ("b", 0.3)):
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").write_text(json.dumps({"seed": 7, "optimizer": {"learning_rate": rate}}))
  text = report(tmp_path / "a", tmp_path / "b").text
  assert "1 settings differ setting a b optimizer.learning_rate 0.1 0.3 All settings" in text


def test_a_checkpoint_that_cannot_be_used_is_named(trained, people, capsys):
  page = report(trained, data=people, out=trained / "report.html")  # its model.json describes no known backbone
  assert "newest checkpoint cannot be used" in page.text and "checkpoints/6" in capsys.readouterr().err


def test_a_fingerprint_is_read_without_the_program_that_wrote_it(trained, tmp_path):
  fingerprint = read_fingerprint(trained / "checkpoints" / "6")
  assert fingerprint["data"] == {"source": "toy", "digest": "abc", "images": 40}
  with pytest.raises(ValueError, match="no fingerprint"):
    read_fingerprint(tmp_path)
