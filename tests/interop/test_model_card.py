"""The model card fills itself: data, recipe, steps, scores, licenses."""

import json

import pytest

from saip_jax.interop.export import export_weights
from saip_jax.interop.history import run_history
from saip_jax.interop.terms import terms_of
from tests.support.trained_weights import backbone_weights


def make_run(folder, **changes):
  """Writes what a run's folder holds beside its weights."""
  step = folder / "checkpoints" / "40"
  (step / "fingerprint").mkdir(parents=True)
  config = {
    "seed": 7,
    "batch_size": 32,
    "precision": "float32",
    "total_steps": 100,
    "data": {
      "source": "mixture",
      "mixture": {"a": {"source": "coco", "path": "/secret/coco.json"}, "b": {"source": "people", "path": None}},
    },
    "method": {"name": "saip", "fidelity": "improved", "expert": None},
    "optimizer": {"name": "adamw", "learning_rate": 0.002, "weight_decay": 0.05},
    "init_from": None,
  }
  for name, value in changes.items():
    config[name] = config[name] | value if isinstance(value, dict) else value
  (folder / "config.json").write_text(json.dumps(config))
  (step / "fingerprint" / "metadata").write_text(json.dumps({"data": {"images": 12345}}))
  return folder


def score(task="reid", value=0.5, step=40, which="student", data="market", **encoder):
  return {
    "task": task,
    "protocol": "nearest",
    "encoder": {"checkpoint": f"step {step} of the run /secret/W", "which": which, "image_hw": [64, 32]} | encoder,
    "scores": {"mAP": value},
    "facts": {"gallery": {"name": data}},
  }


def test_the_history_of_a_run(tmp_path):
  about = run_history(make_run(tmp_path / "W"))
  assert about["history"] == {
    "method": "saip, fidelity improved",
    "recipe": "adamw, peak learning rate 0.002, weight decay 0.05, seed 7",
    "step": "40 of 100",
    "data": "coco (coco.json) + built-in people (the default set), 12,345 images",
    "images seen": "1,280 (batches of 32, float32)",
  }
  assert about["scores"] == about["terms"] == []


def test_scores_are_the_newest_of_this_network_at_this_step(tmp_path):
  run = make_run(tmp_path / "W")
  lines = [
    score(value=0.1),
    score(value=0.2),
    score(value=0.3, step=39),
    score(value=0.4, step=400),
    score(value=0.6, which="teacher"),
    score(value=0.7, data="msmt"),
    score(checkpoint="W/export/model.onnx"),
    {"task": "reid", "encoder": {"checkpoint": "histogram"}},
  ]
  (run / "evaluations.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"cut of')
  found = run_history(run)["scores"]
  assert [(each["data"], each["scores"]["mAP"]) for each in found] == [("market", 0.2), ("msmt", 0.7)]
  assert [each["scores"]["mAP"] for each in run_history(run, which="teacher")["scores"]] == [0.6]


def test_the_card_of_a_run(tmp_path, monkeypatch):
  run = make_run(tmp_path / "W", method={"expert": "/secret/dinov3_vitb16.pth"}, init_from="/secret/x/hap.pth")
  (run / "evaluations.jsonl").write_text(json.dumps(score()) + "\n")
  weights = backbone_weights("vit_nano", (64, 32))
  monkeypatch.setattr("saip_jax.interop.export.open_weights", lambda path, **_: weights)
  record = export_weights(str(run), "stablehlo", tmp_path / "out")
  card = (tmp_path / "out" / "README.md").read_text()
  for words in (
    "| reid | nearest | market | 64x32 | mAP 0.5 |",
    "12,345 images",
    "| expert | dinov3_vitb16.pth |",
    "| started from | hap.pth |",
    "unstated; set --license",
    "taken for DINOv3 by its file name, 'dinov3_vitb16.pth': its license, the DINOv3 License of Meta, follows",
    "(started from: hap.pth), of no family whose license is known here",
  ):
    assert words in card, words
  assert "secret" not in card + json.dumps(record)
  # An export of the export tells the same, and its own license.
  again = export_weights(str(tmp_path / "out"), "stablehlo", tmp_path / "again", license="CC BY-NC 4.0")
  assert {name: again[name] for name in ("history", "scores", "terms")} == {
    name: record[name] for name in ("history", "scores", "terms")
  }
  assert (tmp_path / "again" / "README.md").read_text().rpartition("## License")[2].startswith("\n\nCC BY-NC 4.0\n")


@pytest.mark.parametrize(
  "license, lines",
  [
    (None, "license: unknown\n"),
    ("apache-2.0", "license: apache-2.0\n"),
    ("My: own", 'license: other\nlicense_name: "My: own"\n'),
  ],
)
def test_the_front_matter_states_the_license(tmp_path, license, lines):
  export_weights(backbone_weights("vit_nano", (64, 32)), "timm", tmp_path / "out", license=license)
  front = (tmp_path / "out" / "README.md").read_text().split("---\n")[1]
  assert lines in front
  config = json.loads((tmp_path / "out" / "config.json").read_text())
  assert config["pretrained_cfg"].get("license") == license


@pytest.mark.parametrize(
  "name, family",
  [
    ("mae_pretrain_vit_base.pth", "MAE"),
    ("vit_base_patch16_224.mae", "MAE"),
    ("EUPE-ViT-T.pth", "EUPE"),
    ("vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m", "EUPE"),
    ("dinov3_vits16.pth", "DINOv3"),
    ("dinov2_vitb14.pth", None),
    ("normae.pth", None),
  ],
)
def test_families_are_recognized_by_name(name, family):
  sentence = terms_of("expert", {"its file name": name})
  assert (f"taken for {family} by" if family else "of no family") in sentence and name in sentence


def test_a_configuration_tells_more_than_the_name_of_the_file(tmp_path):
  (tmp_path / "expert").mkdir()
  config = {"architecture": "vit_base_patch16_224", "pretrained_cfg": {"tag": "mae"}}
  (tmp_path / "expert" / "config.json").write_text(json.dumps(config))
  (tmp_path / "expert" / "model.safetensors").touch()
  for place in (tmp_path / "expert", tmp_path / "expert" / "model.safetensors"):
    run = make_run(tmp_path / place.name / "W", method={"expert": str(place)})
    (sentence,) = run_history(run)["terms"]
    assert "taken for MAE by the config.json beside it, 'vit_base_patch16_224.mae'" in sentence


def test_weights_of_own_runs_tell_how_they_were_made_and_of_what(tmp_path):
  """A run that starts from another, which starts from published weights: their license follows."""
  first = make_run(tmp_path / "mae", method={"name": "mae", "fidelity": None}, init_from="/secret/dinov3_vits16.pth")
  config = json.loads((first / "config.json").read_text())
  del config["method"]["fidelity"]
  (first / "config.json").write_text(json.dumps(config))
  expert = make_run(tmp_path / "expert", method={"name": "finetune", "task": "reid"}, init_from=str(first))
  run = make_run(tmp_path / "W", method={"expert": str(expert)}, init_from=str(first))
  about = run_history(run)
  started = about["history"]["started from"]
  assert started.startswith("mae (mae, coco (coco.json) + built-in people") and "40 of 100 updates" in started
  assert "started from dinov3_vits16.pth" in started
  assert about["history"]["expert"].startswith("expert (finetune with the labels of reid, ")
  (sentence,) = about["terms"]  # once, though two paths lead to it
  assert "taken for DINOv3 by its file name" in sentence
  again = run_history(make_run(tmp_path / "V", method={"expert": str(expert)}, init_from=str(expert)))["history"]
  assert again["started from"].startswith("expert (finetune") and again["expert"] == "the weights that it started from"


def test_a_model_of_this_package_is_known_by_its_name(tmp_path):
  about = run_history(make_run(tmp_path / "W", init_from="saip_nano_people"))
  assert about["history"]["started from"].startswith("saip_nano_people (saip, ") and about["terms"] == []
