"""The functions of scripts/bench_evaluation.py that read and show what was measured."""

import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

from bench_evaluation import Measured, largest_difference, measure, scores_of, table


def _record(task, protocol, **scores):
  return json.dumps({"task": task, "protocol": protocol, "scores": scores}, indent=2) + "\n"


def test_the_records_of_several_tasks_are_read_from_one_output():
  output = _record("reid", "nearest", mAP=0.25, mINP=0.5) + _record("parsing", "linear", mIoU=0.125)
  assert scores_of(output) == {"reid:nearest": {"mAP": 0.25, "mINP": 0.5}, "parsing:linear": {"mIoU": 0.125}}
  assert scores_of("") == {}


def test_the_largest_difference_is_that_of_any_score_between_any_two_versions():
  scores = {
    "one": {"reid:nearest": {"mAP": 0.5, "mINP": 0.25}, "depth:linear": {"delta1": 1.0}},
    "two": {"reid:nearest": {"mAP": 0.5, "mINP": 0.125}},
    "three": {"reid:nearest": {"mAP": 0.375, "mINP": 0.5}},
  }
  assert largest_difference(scores) == {"reid:nearest": 0.375}  # depth was measured by one version only


def test_the_table_has_the_least_and_the_median_and_a_gap_where_a_version_cannot():
  measured = lambda *seconds: [Measured(value, value / 2, "") for value in seconds]
  text = table({"report": {"a": measured(3.0, 1.0, 2.0), "b": measured(4.0)}, "together": {"b": measured(6.0)}})
  assert text.splitlines() == [
    "| | a | b |",
    "|---|---:|---:|",
    "| report | 1.0 (2.0) s, cpu 0.5 s | 4.0 (4.0) s, cpu 2.0 s |",
    "| together | - | 6.0 (6.0) s, cpu 3.0 s |",
  ]


def test_a_command_is_measured_to_its_end_or_to_a_sign_and_a_failure_has_no_figures(tmp_path):
  (tmp_path / "own_module.py").write_text("name = 'own'\n")
  done = measure(tmp_path, ["-c", "import own_module, time; time.sleep(0.2); print(own_module.name)"])
  assert done.output == "own\n" and done.seconds >= 0.2
  assert measure(tmp_path, ["-c", "raise SystemExit(3)"]) is None
  sign = tmp_path / "sign"
  endless = f"import pathlib, time; pathlib.Path({str(sign)!r}).write_text(''); time.sleep(600)"
  assert measure(tmp_path, ["-c", endless], sign.exists).seconds < 60


@pytest.mark.parametrize("cache", [None, "compiled"])
def test_a_command_sees_the_given_compilation_cache_only(tmp_path, monkeypatch, cache):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "another")
  shown = measure(tmp_path, ["-c", "import os; print(os.environ.get('JAX_COMPILATION_CACHE_DIR'))"], cache=cache)
  assert shown.output == f"{cache}\n"
