"""The models of this package: named like a path, small, trained, and the same in every command and in PyTorch."""

import json

import numpy as np
import pytest
from PIL import Image

import saip_jax
from saip_jax.cli import main
from saip_jax.interop.pretrained import pretrained_folder, pretrained_models
from saip_jax.interop.weights import load_backbone, open_weights

NAME = "saip_nano_people"


def test_a_model_is_small_and_has_a_card_with_scores():
  folder = pretrained_models()[NAME]
  assert sum(file.stat().st_size for file in folder.rglob("*")) < 2_000_000
  card = (folder / "README.md").read_text()
  for text in ("license: apache-2.0", "built-in people", "| reid | nearest |", "| keypoints | heatmap |"):
    assert text in card
  for text in ("/tmp", "/home", "/work", "/root"):  # no path of the machine that trained it
    assert not any(text in file.read_text() for file in folder.rglob("*") if file.suffix in (".md", ".json"))


def test_a_name_is_opened_unless_a_file_has_it(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  weights = open_weights(NAME)
  assert (weights.spec.name, weights.spec.image_hw) == ("vit_nano", (64, 32)) and weights.normalization
  assert saip_jax.load_backbone(NAME).module.feature_width == weights.spec.build().feature_width
  (tmp_path / NAME).mkdir()
  assert pretrained_folder(NAME) is None
  with pytest.raises(ValueError, match="does not hold exactly one file of weights"):
    open_weights(NAME)


def test_an_unknown_name_lists_the_models(capsys):
  assert main(["evaluate", "--checkpoint=saip_nano_peple", "--task=reid", "--data=people"]) == 2
  assert f"no such file, folder or model of this package ({NAME}" in capsys.readouterr().err


@pytest.mark.compile
def test_fine_tuning_starts_from_its_weights(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)  # the name is no path
  command = ["evaluate", f"--checkpoint={NAME}", "--task=reid", "--data=people", "--people-count=256"]
  flags = ["--finetune=expert_people", "--workdir=tuned", "--train-fraction=0.5", "--json"]
  still = ["--config.total_steps=1", "--config.optimizer.learning_rate=1e-9"]
  assert main([*command, *flags, *still]) == 0
  tuned = json.loads(capsys.readouterr().out)["scores"]["mAP"]
  assert main([*command, "--json"]) == 0
  assert tuned == pytest.approx(json.loads(capsys.readouterr().out)["scores"]["mAP"], rel=0.05)  # its head is a norm


@pytest.mark.compile
def test_it_has_learned(capsys):
  """Joints are found better, and persons, than by the untrained network: on people that no training has seen."""

  def score(checkpoint, task):
    image = [] if checkpoint == NAME else ["--image-hw=64x32"]
    common = ["--data=people", "--people-count=512", "--json"]
    assert main(["evaluate", f"--checkpoint={checkpoint}", f"--task={task}", *common, *image]) == 0
    return next(iter(json.loads(capsys.readouterr().out)["scores"].values()))

  for task, factor in (("reid", 3), ("keypoints", 1)):  # places of joints: most of the score is their usual place
    assert score(NAME, task) > factor * score("random:vit_nano", task)


@pytest.mark.compile
@pytest.mark.torch
def test_its_folder_is_what_timm_loads():
  timm = pytest.importorskip("timm")
  import torch
  from safetensors.torch import load_file

  folder = pretrained_models()[NAME]
  config = json.loads((folder / "config.json").read_text())
  model = timm.create_model(config["architecture"], num_classes=0, **config["model_args"])
  model.load_state_dict(load_file(folder / "model.safetensors"))
  loaded = load_backbone(NAME)
  images = np.random.default_rng(0).normal(size=(2, *loaded.preprocessing.image_hw, 3)).astype(np.float32)
  with torch.inference_mode():
    expected = model.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
  features = loaded.module.apply(loaded.variables, images, ("cls",)).cls
  np.testing.assert_allclose(features, expected, atol=1e-4)


@pytest.mark.compile
def test_a_run_starts_from_it(tmp_path, capsys):
  flags = ["--config.total_steps=1", "--config.batch_size=8", "--config.panel_every=0", "--config.data.people_count=64"]
  start = f"--config.init_from={NAME}"
  assert main(["pretrain", "--config=mae_nano", f"--workdir={tmp_path / 'W'}", start, *flags]) == 0
  assert "tensors of the student (backbone)" in capsys.readouterr().out


@pytest.mark.compile
@pytest.mark.torch
def test_it_is_exported_again_as_it_is(tmp_path, capsys):
  pytest.importorskip("timm")
  assert main(["export", f"--checkpoint={NAME}", "--dialect=timm", f"--out={tmp_path / 'E'}"]) == 0
  exported, shipped = (folder / "model.safetensors" for folder in (tmp_path / "E", pretrained_models()[NAME]))
  assert exported.read_bytes() == shipped.read_bytes()
  without_proof = lambda path: [line for line in path.read_text().splitlines() if not line.startswith("| proof |")]
  cards = [without_proof(file.with_name("README.md")) for file in (exported, shipped)]
  assert cards[0] == cards[1]  # scores, history and license too


@pytest.mark.compile
def test_it_embeds_a_folder(tmp_path, capsys):
  (tmp_path / "photos").mkdir()
  rng = np.random.default_rng(0)
  for name in ("a.png", "b.png"):
    Image.fromarray(rng.integers(0, 256, (80, 40, 3), np.uint8)).save(tmp_path / "photos" / name)
  out = tmp_path / "features.npz"
  assert main(["embed", f"--checkpoint={NAME}", f"--images={tmp_path / 'photos'}", f"--out={out}"]) == 0
  with np.load(out) as file:
    assert file["cls"].shape == (2, 96) and not np.allclose(*file["cls"])
