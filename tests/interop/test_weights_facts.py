"""What is known of weights besides their tensors: the size of the positions, facts beside a file."""

import argparse
import json

import pytest

from saip_jax.interop.identify import size_of_positions
from saip_jax.interop.weights import open_weights
from tests.support.toy_weights import add_toy_backbone, official_states, published, random_weights, save_pth, timm_file

torch_only = pytest.mark.torch


@pytest.fixture(autouse=True)
def toy_backbone(monkeypatch):
  add_toy_backbone(monkeypatch)


@pytest.fixture
def torch():
  return pytest.importorskip("torch")


@pytest.mark.parametrize(
  "patches, stated, asked, hw, assumed",
  [
    (128, None, None, (256, 128), True),
    (32, None, None, (128, 64), True),
    (196, None, None, (224, 224), True),
    (192, None, (256, 192), (256, 192), False),
    (128, None, (128, 256), (128, 256), False),
    (192, (256, 192), None, (256, 192), False),
    (128, (256, 128), (256, 128), (256, 128), False),
  ],
)
def test_the_size_of_positions(patches, stated, asked, hw, assumed):
  found, note = size_of_positions(patches, 16, stated, asked)
  assert found == hw and bool(note) == assumed and (not note or "--image-hw" in note)


@pytest.mark.parametrize(
  "patches, stated, asked, words",
  [
    (192, None, None, "--image-hw=HxW"),
    (192, None, (256, 128), "256x128"),
    (192, (256, 128), None, "file .* 256x128"),
    (128, (256, 128), (128, 256), "--image-hw=128x256, but the file .* 256x128"),
    (128, None, (250, 128), "multiples of the patch"),
    (0, None, None, "0 positions"),
  ],
)
def test_a_wrong_size_of_positions_is_refused(patches, stated, asked, words):
  with pytest.raises(ValueError, match=words):
    size_of_positions(patches, 16, stated, asked)


def beside(folder, config=None, facts=None):
  """Writes toy weights and the files that lie around them; returns the file of weights."""
  path = timm_file(folder / "model.safetensors")
  if config:
    (folder / "config.json").write_text(json.dumps(config))
  if facts:
    record = {"model": facts, "files": {path.name: {"bytes": path.stat().st_size}}}
    (folder / "parity.json").write_text(json.dumps(record))
  return path


def timm_config(architecture="vit_toy_patch16_224", **arguments):
  mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
  return {"architecture": architecture, "model_args": arguments, "pretrained_cfg": {"mean": mean, "std": std}}


def test_facts_beside_a_file_are_taken(tmp_path):
  facts = random_weights().spec.facts() | {"pos_interpolation": "flat1d"}
  weights = open_weights(beside(tmp_path, timm_config(img_size=[128, 64], num_heads=3, act_layer="gelu"), facts))
  assert weights.spec == random_weights().spec and not any("assumed" in note for note in weights.notes)


@pytest.mark.parametrize(
  "config, facts, words",
  [
    (timm_config(num_heads=6), None, ["num_heads is 6, here 3"]),
    (timm_config(act_layer="quick_gelu"), None, ["act_layer is 'quick_gelu', here 'exact'"]),
    (timm_config(act_layer="gelu_tanh", num_heads=4), None, ["act_layer", "num_heads"]),
    (timm_config(patch_size=14), None, ["patch_size is 14"]),
    (timm_config(img_size=224), None, ["224x224", "32 positions"]),
    (timm_config("vit_toy_patch16_clip_quickgelu_224"), None, ["vit_toy_patch16_clip_quickgelu_224"]),
    (timm_config("vit_small_patch16_224"), None, ["vit_small_patch16_224"]),
    (None, {"norm_eps": 1e-5, "heads": 12, "gelu": "tanh"}, ["heads is 12", "gelu is 'tanh'"]),
    (None, {"tapped_block": 5}, ["tapped_block is 5, here 6"]),
  ],
)
def test_another_model_is_refused_by_name(tmp_path, config, facts, words):
  path = beside(tmp_path, config, facts)
  with pytest.raises(ValueError) as error:
    open_weights(path)
  assert all(word in str(error.value) for word in words) and str(path) in str(error.value), error.value


@torch_only
def test_another_number_of_heads_in_args_is_refused(tmp_path, torch):
  student, _ = official_states()
  path = save_pth(tmp_path / "a.pth", published(student, None), args=argparse.Namespace(num_heads=12))
  with pytest.raises(ValueError, match="num_heads is 12, here 3"):
    open_weights(path, image_hw=(128, 64))


def test_another_epsilon_is_read(tmp_path):
  weights = open_weights(beside(tmp_path, None, {"norm_eps": 1e-5}))
  assert weights.spec.build().norm_eps == 1e-5 and weights.spec.facts()["norm_eps"] == 1e-5


def test_a_record_of_another_file_is_not_believed(tmp_path):
  path = beside(tmp_path, None, {"heads": 12})
  record = json.loads((tmp_path / "parity.json").read_text())
  record["files"][path.name]["bytes"] += 1
  (tmp_path / "parity.json").write_text(json.dumps(record))
  open_weights(path)
