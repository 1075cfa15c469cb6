"""The table that compares presets: what it runs, keeps and prints."""

import pathlib
import runpy

import pytest

_REPO = pathlib.Path(__file__).resolve().parents[2]


def test_the_script_plans_keeps_and_prints(tmp_path):
  script = runpy.run_path(str(_REPO / "scripts" / "compare_presets.py"))
  recipe = _REPO / "configs" / "saip_demo.py"
  runs = script["plan_runs"](f"short={recipe} --config.total_steps=7", ["--config.total_steps=9"], 2, tmp_path)
  assert [(run.preset, run.config.total_steps, run.config.seed) for run in runs] == [("short", 7, 0), ("short", 7, 1)]
  assert len({run.workdir for run in runs}) == 2
  longer = script["plan_runs"](f"short={recipe}", ["--config.total_steps=9"], 1, tmp_path)
  assert longer[0].workdir != runs[0].workdir  # other settings are another run, whatever they are called
  with pytest.raises(ValueError, match="expected .NAME=FILE"):
    script["plan_runs"](str(recipe), [], 1, tmp_path)

  calls = []
  record = lambda mAP: {"scores": {"mAP": mAP, "CMC@1": 1.0}}
  kept = [
    script["cached_record"](tmp_path / "new" / "row.json", lambda: calls.append(1) or record(0.5)) for _ in range(2)
  ]
  assert len(calls) == 1 and kept[0] == kept[1] == record(0.5)
  poses = [{"scores": {"MPJPE_mm": 81.26}}]
  lines = script["table"](
    {"a": {"reid": [record(0.5), record(0.6)], "joints3d": 2 * poses}, "b": {"reid": [record(0.5)], "joints3d": poses}}
  ).splitlines()
  assert lines[0] == "| preset | reid mAP | joints3d MPJPE_mm | seeds |"
  assert lines[2:] == ["| a | 55.00 % +- 7.07 % | 81.3 mm +- 0.0 mm | 2 |", "| b | 50.00 % | 81.3 mm | 1 |"]
