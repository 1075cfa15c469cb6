"""scripts/bench_export.py: one command from checkpoints to a table of sizes, cosines, scores and latencies."""

import importlib.util
import json
import pathlib
import sys

import pytest

from input_pipeline.people import prepare
from input_pipeline.people.spec import SetSpec
from saip_jax.interop.precision import LEAST_COSINE
from tests.support.exports import traced_once
from tests.support.toy_people import toy_picture
from tests.support.trained_weights import backbone_weights

pytestmark = [pytest.mark.torch, pytest.mark.compile]
SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "bench_export.py"
HW = (64, 32)


@pytest.fixture
def bench(monkeypatch):
  spec = importlib.util.spec_from_file_location("bench_export", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  monkeypatch.setitem(sys.modules, "bench_export", module)  # dataclasses look there
  spec.loader.exec_module(module)
  return module


@pytest.mark.slow
def test_a_checkpoint_becomes_a_table(tmp_path, bench, monkeypatch, capsys):
  for package in ("onnx", "onnxscript", "onnxruntime", "timm"):
    pytest.importorskip(package)
  monkeypatch.setattr(prepare, "render_picture", toy_picture)
  prepare.prepare_people(tmp_path / "people", SetSpec("crops", HW, 0, 20), 160, progress=False, processes=1)
  monkeypatch.setattr(bench, "open_weights", lambda path: backbone_weights("vit_nano", HW))
  monkeypatch.setattr(bench, "timms_vit", lambda folder: bench.Row(bench.TWIN, HW, 5_500_000, "float32"))
  monkeypatch.setattr(bench, "RUNS", 3)
  people = f"people:{tmp_path / 'people'}"
  flags = [f"--data={people}", f"--calibration={people}", "--tasks=reid", f"--json={tmp_path / 'bench.json'}"]
  monkeypatch.setattr(sys, "argv", ["bench_export.py", "--checkpoint=W", "--precisions=float32,int8", *flags])
  with traced_once():
    bench.main()
  found = json.loads((tmp_path / "bench.json").read_text())
  twin, float32, int8 = found["rows"]
  assert twin["network"] == bench.TWIN and not twin["milliseconds"] and not twin["scores"]
  assert 0.45e6 < int8["parameters"] < 0.5e6 and int8["megabytes"] < 0.4 * float32["megabytes"]
  assert float32["cosine"] == 1 > int8["cosine"] >= LEAST_COSINE
  for row in (float32, int8):
    assert list(row["scores"]) == ["reid:nearest mAP"] and row["milliseconds"].keys() == {"1", "2"}
    assert all(0 < times["least"] <= times["median"] for times in row["milliseconds"].values())
  table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
  assert "reid:nearest mAP" in table[0] and len(table) == 5 and len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--precisions=int4"], "--precisions: 'int4' is unknown"),
    (["vit_huge"], "'vit_huge' is unknown"),
    (["vit_nano", "--tasks=sport"], "--task=sport"),
    (["vit_nano", "--calibration=none"], "--calibration=none"),
  ],
)
def test_a_mistake_is_named_before_anything_runs(bench, monkeypatch, flags, words):
  monkeypatch.setattr(sys, "argv", ["bench_export.py", *flags])
  with pytest.raises(ValueError, match=words):
    bench.main()
