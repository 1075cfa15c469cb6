"""`saip import`: its folder, and its messages of faults."""

import json

import numpy as np
import pytest

from saip_jax import cli
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.tensor_files import write_safetensors
from saip_jax.interop.weights import open_weights
from tests.support.toy_weights import (
  add_toy_backbone,
  assert_same,
  official_states,
  published,
  random_weights,
  save_pth,
  timm_file,
)


@pytest.fixture(autouse=True)
def toy_backbone(monkeypatch):
  add_toy_backbone(monkeypatch)


@pytest.fixture
def torch():
  return pytest.importorskip("torch")


def test_import_writes_a_folder_once_and_again(tmp_path, capsys):
  source, out = timm_file(tmp_path / "a.safetensors"), tmp_path / "W"
  for _ in range(2):
    assert cli.main(["import", f"--from={source}", f"--out={out}", "--dialect=timm"]) == 0
  output = capsys.readouterr().out
  assert "student: backbone 102 tensors" in output and f"--config.init_from={out}" in output
  assert sorted(p.name for p in out.iterdir()) == ["model.json", "weights.safetensors"]
  assert sorted(p.name for p in tmp_path.iterdir()) == ["W", "a.safetensors"]
  assert_same(open_weights(out).student, open_weights(source).student)
  assert open_weights(out).new == open_weights(source).new != ()
  model = json.loads((out / "model.json").read_text())
  assert model["facts"]["heads"] == 3 and len(model["sha256"]["source"]) == 64

  timm_file(out / "weights.safetensors", random_weights())
  with pytest.raises(ValueError, match="not the file that was imported"):
    open_weights(out)


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--out={tmp}"], ["holds other files", "--out"]),
    (["--out={tmp}/a.safetensors"], ["is a file"]),
    (["--dialect=vitpose"], ["--dialect=vitpose cannot be read", "saip", "mae"]),
    (["--dialect=saip"], ["no ViT in the names of --dialect=saip", "begins with blocks.0.attn"]),
    (["--image-hw=64x64"], ["--image-hw", "64x64", "32 positions"]),
    (["--from={tmp}/b.safetensors"], ["b.safetensors: no such file"]),
    (["--from={tmp}"], ["a.safetensors, c.pth", "name the file itself"]),
    (["--form=x"], ["--form=x", "--help"]),
  ],
)
def test_an_error_is_one_line(tmp_path, capsys, arguments, words):
  timm_file(tmp_path / "a.safetensors")
  (tmp_path / "c.pth").touch()
  command = ["import", f"--from={tmp_path}/a.safetensors", f"--out={tmp_path}/W"]
  assert cli.main(command + [a.format(tmp=tmp_path) for a in arguments]) == 2
  error = capsys.readouterr().err
  assert error.startswith("saip import: error: ") and error.count("\n") == 1, error
  assert all(word in error for word in words), error
  assert not (tmp_path / "W").exists()


def test_faults_of_student_and_teacher_are_reported_together(tmp_path):
  student, teacher = official_states()
  del student["backbone.norm.bias"], teacher["csm_decoder.mlp.0.bias"]
  path = tmp_path / "a.pth"
  pytest.importorskip("torch")
  save_pth(path, published(student, teacher))
  with pytest.raises(ValueError, match="student: .*backbone.norm.bias.*teacher: .*csm_decoder.mlp.0.bias"):
    open_weights(path)


@pytest.mark.parametrize(
  "names",
  [
    ("pos_embed", "norm.bias"),
    ("patch_embed.proj.weight", "cls_token"),
    ("blocks.7.norm1.weight", "blocks.0.norm1.bias"),
  ],
)
def test_what_is_missing_is_listed_whatever_it_is(tmp_path, names):
  state = DIALECTS["timm"].to_state(random_weights())
  for name in names:
    del state[name]
  write_safetensors(tmp_path / "a.safetensors", state)
  with pytest.raises(ValueError, match="student: .*missing") as error:
    open_weights(tmp_path / "a.safetensors")
  assert all(repr(name) in str(error.value) for name in names) and "unexpected none" in str(error.value)


def test_a_missing_last_block_is_named(tmp_path):
  state = DIALECTS["timm"].to_state(random_weights())
  write_safetensors(tmp_path / "a.safetensors", {k: a for k, a in state.items() if not k.startswith("blocks.7.")})
  with pytest.raises(ValueError, match=r"missing \['blocks.7.norm1.weight', .*unexpected none"):
    open_weights(tmp_path / "a.safetensors")


def test_an_unknown_width_is_reported(tmp_path):
  state = DIALECTS["timm"].to_state(random_weights())
  state |= {
    "pos_embed": np.zeros((1, 33, 25), np.float32),
    "patch_embed.proj.weight": np.zeros((25, 3, 16, 16), np.float32),
  }
  write_safetensors(tmp_path / "a.safetensors", state)
  with pytest.raises(ValueError, match="25 wide with 8 blocks and patch 16 is none of vit_tiny .192 wide"):
    open_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize("place", ["extra", "."], ids=["of this version", "of 0.1"])
def test_the_tapped_norm_of_a_timm_file_is_read(tmp_path, place):
  weights = random_weights()
  path = timm_file(tmp_path / "model.safetensors", weights)
  norm = weights.backbone()["inter_norm"]
  side = {"inter_norm.weight": norm["scale"], "inter_norm.bias": norm["bias"]}
  (tmp_path / place).mkdir(exist_ok=True)
  write_safetensors(tmp_path / place / "inter_norm.safetensors", side)
  assert_same(open_weights(tmp_path).backbone(), weights.backbone())
  assert open_weights(path).new == ()
