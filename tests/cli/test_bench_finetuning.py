"""The comparison of fine-tuned encoders: what it runs, records and concludes. Nothing is trained."""

import json
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

import bench_finetuning


def test_a_task_has_a_recipe_and_settings_of_its_own():
  text = "LSPET, a sample=lsp:DIR@keypoints=finetune_keypoints_demo --config.total_steps=200"
  parsed = ("LSPET, a sample", "lsp:DIR", "keypoints", "finetune_keypoints_demo", ["--config.total_steps=200"])
  assert bench_finetuning.parse_task(text) == parsed


@pytest.mark.parametrize(
  "text, words",
  [
    ("Market=market1501:DIR@reid", "expected .TITLE=DATA@TASK=RECIPE"),
    ("market1501:DIR@reid=R", "expected .TITLE=DATA@TASK=RECIPE"),
    ("Market=market1501:DIR@rid=R", "rid"),
  ],
)
def test_mistakes_are_named(text, words):
  with pytest.raises(ValueError, match=words):
    bench_finetuning.parse_task(text)


def test_each_encoder_is_trained_on_each_share_from_each_seed(tmp_path, monkeypatch, capsys):
  runs = []

  def finetune(checkpoint, task, data, recipe, settings, workdir, image_hw, seed, keep_draws):
    runs.append((checkpoint, data.train_fraction, seed, settings))
    value = (0.4 if checkpoint == "W" else 0.1) * data.train_fraction**0.1 + 0.001 * seed
    draws = (value + np.random.default_rng(1).normal(0, 0.001, 500)).tolist()
    record = {"task": task, "protocol": "finetune", "scores": {"mAP": value}, "seconds": 1.0, "time": "now"}
    return record | {"uncertainty": {"score": "mAP", "draws": draws}}

  monkeypatch.setattr(bench_finetuning, "finetune", finetune)
  out = tmp_path / "finetuning"
  command = [f"--work={tmp_path}/work", f"--out={out}", "--image-hw=64x32", "--encoder=model=W"]
  command += ["--encoder=untrained=random:vit_nano", "--on=Market=market1501:DIR@reid=finetune_reid --config.x=1"]
  monkeypatch.setattr(sys, "argv", ["bench_finetuning", *command, "--config.y=2"])
  bench_finetuning.main()
  assert [run[:3] for run in runs] == [(c, f, s) for c in ("W", "random:vit_nano") for f in (0.1, 1) for s in range(3)]
  assert runs[1][3] == ["--config.y=2", "--config.x=1", "--config.seed=1"]
  assert runs[-1][3] == ["--config.y=2", "--config.x=1"]  # its seed is an argument
  page = out.with_suffix(".md").read_text()
  assert "| | model | untrained |" in page and "| 100 % of the labels: mAP | **40.10 % +- 0.10 %** |" in page
  assert "| untrained | 2: 10 % of the labels, 100 % of the labels | 0 | 0 |" in page
  record = json.loads(next(out.glob("*model_0_1_seed2.json")).read_text())
  assert (record["fraction"], record["seed"], record["recipe"]) == (0.1, 2, "finetune_reid")
  bench_finetuning.main()  # everything is recorded
  assert len(runs) == 12 and out.with_suffix(".md").read_text() == page
  monkeypatch.setattr(sys, "argv", ["bench_finetuning", *command, "--config.y=3"])
  with pytest.raises(ValueError, match="is of other settings"):
    bench_finetuning.main()
