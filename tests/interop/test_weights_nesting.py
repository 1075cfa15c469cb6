"""Weights inside sections of training programs and under prefixes of modules: found, reported, never guessed."""

import argparse
import itertools

import numpy as np
import pytest

from saip_jax import cli
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.importing import import_summary
from saip_jax.interop.nesting import locate
from saip_jax.interop.tensor_files import write_safetensors
from saip_jax.interop.weights import open_weights
from tests.support.toy_weights import add_toy_backbone, assert_same, random_weights, save_pth

PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "base.", "encoder.")


@pytest.fixture(autouse=True)
def toy_backbone(monkeypatch):
  add_toy_backbone(monkeypatch)


@pytest.fixture(scope="module")
def weights():
  with pytest.MonkeyPatch.context() as monkeypatch:
    add_toy_backbone(monkeypatch)
    return random_weights()


def states(weights):
  return [DIALECTS["timm"].to_state(weights, which) for which in ("student", "teacher")]


def under(prefix, state):
  return {f"{prefix}{name}": a for name, a in state.items()}


def read(tmp_path, content, **asked):
  """Writes the content and opens it: the weights and the report."""
  if any(not isinstance(a, np.ndarray) for a in content.values()):
    pytest.importorskip("torch")
    path = save_pth(tmp_path / "a.pth", content)
  else:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, content)
  found = open_weights(path, **asked)
  return found, "\n".join(import_summary(found, "W"))


@pytest.mark.parametrize(
  "prefix",
  [
    *PREFIXES,
    *("".join(p) for p in itertools.permutations(PREFIXES[:3])),
    "student.backbone.",
    "model.model.",
    "module.module.",
    "net.visual.trunk.",
  ],
)
def test_prefixes_are_stripped_in_any_order_and_reported(tmp_path, weights, prefix):
  found, lines = read(tmp_path, under(prefix, states(weights)[0]))
  assert_same(
    {k: v for k, v in found.backbone().items() if k != "inter_norm"},
    {k: v for k, v in weights.backbone().items() if k != "inter_norm"},
  )
  assert f"stripped from the names: {prefix!r}" in lines and "not used" not in lines


def test_wrappers_inside_names_are_stripped(tmp_path, weights):
  state = {n.replace("blocks.3.", "blocks.3._orig_mod."): a for n, a in states(weights)[0].items()}
  found, lines = read(tmp_path, state)
  assert_same(found.backbone()["blocks"], weights.backbone()["blocks"])
  assert "stripped from the names: '_orig_mod.'" in lines
  twice = state | {"blocks.3.norm1.bias": state["blocks.3._orig_mod.norm1.bias"]}
  with pytest.raises(ValueError, match="twice.* wrappers"):
    read(tmp_path, twice)


def test_an_encoder_of_another_naming_is_no_prefix(tmp_path):
  names = (
    "embeddings.cls_token",
    "embeddings.patch_embeddings.projection.weight",
    "encoder.layer.0.attention.attention.query.weight",
  )
  with pytest.raises(ValueError, match="missing .*attn.k.weight"):
    read(tmp_path, {f"vit.{name}": np.zeros(3, np.float32) for name in names})


def test_other_modules_are_left_out_by_name(tmp_path, weights):
  others = {f"{name}.weight": np.zeros(3, np.float32) for name in ("classifier", "bottleneck", "b1.1.norm", "x.y")}
  _, lines = read(tmp_path, under("base.", states(weights)[0]) | others)
  assert "not used: 4 tensors of" in lines and "classifier" in lines


@pytest.mark.torch
@pytest.mark.parametrize(
  "plain, average",
  [
    ("state_dict", "state_dict_ema"),
    ("model", "model_ema"),
    ("model", "ema"),
    ("state_dict", None),
    ("model_state", None),
    (None, "state_dict_ema"),
    (None, "model_ema"),
  ],
)
def test_sections_and_moving_averages(tmp_path, weights, plain, average):
  student, teacher = states(weights)
  content = {"epoch": 3, "arch": "vit_toy", "optimizer": {"state": {"0": {"exp_avg": np.zeros(3, np.float32)}}}}
  content["optimizer"]["second_moments"] = student  # one for each tensor, under its name
  content |= {plain: student} if plain else {}
  content |= {average: teacher} if average else {}
  content["args"] = argparse.Namespace(lr=1e-3, model="vit_toy")
  found, lines = read(tmp_path, content)
  wanted = weights.student if plain else weights.teacher
  assert_same(found.backbone()["blocks"], wanted["backbone"]["blocks"])
  assert f"read from {plain or average!r}" in lines and "not used: optimizer" in lines and "args" not in lines
  if plain and average:
    assert f"took {plain}, not the moving average: --part={average}" in lines
    found, _ = read(tmp_path, content, part=average)
    assert_same(found.backbone()["blocks"], weights.teacher["backbone"]["blocks"])


@pytest.mark.torch
def test_lightning_and_compiled_dino(tmp_path, weights):
  student, teacher = states(weights)
  lightning = {
    "state_dict": under("model.", student),
    "pytorch-lightning_version": "2.4",
    "callbacks": {"x": {"y": 1}},
    "hyper_parameters": {"lr": 1.0},
    "optimizer_states": [{"state": {}}],
  }
  found, lines = read(tmp_path, lightning)
  assert_same(found.backbone()["blocks"], weights.backbone()["blocks"])
  assert "read from 'state_dict'; stripped from the names: 'model.'" in lines

  head = {"_orig_mod.module.head.mlp.0.weight": np.zeros((2, 24), np.float32)}
  dino = {"student": under("_orig_mod.module.backbone.", student) | head, "teacher": under("module.backbone.", teacher)}
  for content in (dino, {"state_dict": under("student.backbone.", student) | under("teacher.backbone.", teacher)}):
    found, lines = read(tmp_path, content)
    assert "(dino)" in lines
    for who in ("student", "teacher"):
      assert_same(found.backbone(who)["blocks"], weights.backbone(who)["blocks"])
  assert "not used" not in lines


@pytest.mark.parametrize(
  "one, other", [("module.base_encoder.", "module.momentum_encoder."), ("backbone.", "depth_backbone."), ("", "copy.")]
)
def test_several_encoders_are_never_guessed(tmp_path, weights, capsys, one, other):
  student, teacher = states(weights)
  path = tmp_path / "a.safetensors"
  write_safetensors(path, under(one, student) | under(other, teacher))
  assert cli.main(["import", f"--from={path}", f"--out={tmp_path / 'W'}"]) == 2
  error = capsys.readouterr().err
  assert "it holds 2 encoders" in error and "--part=" in error and error.count("\n") == 1
  assert not (tmp_path / "W").exists()
  part = other.rstrip(".").split(".")[-1]
  assert cli.main(["import", f"--from={path}", f"--out={tmp_path / 'W'}", f"--part={part}"]) == 0
  assert_same(open_weights(tmp_path / "W").backbone()["blocks"], weights.teacher["backbone"]["blocks"])
  with pytest.raises(ValueError, match="--part=neck: .*no encoder"):
    open_weights(path, part="neck")
  with pytest.raises(ValueError, match="--part=teacher is for files"):
    open_weights(tmp_path / "W", part="teacher")


def test_a_decoder_is_no_encoder(weights):
  student, _ = states(weights)
  decoder = {n: a for n, a in student.items() if not n.startswith(("patch_embed", "cls_token"))}
  located = locate(under("encoder.", student) | under("decoder.", decoder))
  assert located.student.prefix == "encoder." and located.teacher is None


def test_a_flat_file_with_maes_decoder_is_maes(tmp_path, weights):
  decoder = {"decoder_embed.weight": np.zeros((16, 24), np.float32)}
  decoder["decoder_pos_embed"] = np.zeros((1, 33, 16), np.float32)
  _, lines = read(tmp_path, states(weights)[0] | decoder)
  assert "(mae)" in lines and "not used: 2 tensors of decoder_embed, decoder_pos_embed" in lines


@pytest.mark.parametrize("dialect", ["mae", "dino", "timm"])
def test_a_flat_file_is_read_by_any_dialect_of_its_names(tmp_path, weights, dialect):
  """All is used but what has no place, a mask token for one."""
  _, lines = read(tmp_path, states(weights)[0], dialect=dialect)
  assert "not used" not in lines
  _, lines = read(tmp_path, states(weights)[0] | {"mask_token": np.zeros((1, 1, 24), np.float32)}, dialect=dialect)
  assert "not used: 1 tensors of mask_token" in lines
