"""The numbers of attention heads of a file: stated, known by a name, asked for, or assumed with a note."""

import argparse
import functools
import json

import numpy as np
import pytest

from saip_jax import cli
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.tensor_files import write_safetensors
from saip_jax.interop.weights import open_weights
from tests.support.toy_weights import add_toy_backbone, assert_same, random_weights, save_pth

ASSUMED = "assumed 3 attention heads in every block, as vit_tiny has"


@pytest.fixture(autouse=True)
def toy_backbone(monkeypatch):
  add_toy_backbone(monkeypatch)


@functools.cache
def state(name="vit_tiny") -> dict:
  return DIALECTS["timm"].to_state(random_weights(name, (64, 32), teacher=False))


def halves(norm=True, **beside):
  """A file as SAIP's and DINO's training programs save it, with a backbone alone unless something is named."""
  own = dict(state()) | ({f"inter_norm.{n}": np.ones(192, np.float32) for n in ("weight", "bias")} if norm else {})
  student = {f"module.backbone.{name}": a for name, a in own.items()}
  student |= {f"module.{name}": np.zeros((2, 2), np.float32) for name in beside}
  return {"student": student, "teacher": {name.removeprefix("module."): a for name, a in student.items()}}


def heads(path, **asked):
  weights = open_weights(path, **asked)
  module = weights.spec.build()
  return module.heads, module.last_heads or module.heads, "\n".join(weights.notes)


def flat(tmp_path, names=None, **beside):
  path = tmp_path / "a.safetensors"
  write_safetensors(path, dict(names or state()) | {name: np.zeros((2, 2), np.float32) for name in beside})
  return path


def test_a_plain_file_is_assumed_to_be_the_usual_one_and_says_so(tmp_path):
  assert heads(flat(tmp_path))[:2] == (3, 3) and ASSUMED in heads(flat(tmp_path))[2]
  assert "--heads and --last-heads" in heads(flat(tmp_path))[2]


def test_flags_state_them_and_the_import_remembers(tmp_path, capsys):
  path, out = flat(tmp_path), tmp_path / "W"
  command = ["import", f"--from={path}", f"--out={out}", "--heads=6", "--last-heads=12"]
  assert cli.main(command) == 0
  assert "assumed 3" not in capsys.readouterr().out
  facts = json.loads((out / "model.json").read_text())["facts"]
  assert (facts["heads"], facts["last_heads"]) == (6, 12)
  assert heads(out)[:2] == (6, 12) and "attention heads" not in heads(out)[2]
  assert open_weights(out).spec == open_weights(path, heads=6, last_heads=12).spec
  assert_same(open_weights(out).backbone(), open_weights(path).backbone())
  with pytest.raises(ValueError, match="--heads=3, but these weights have 6"):
    open_weights(out, heads=3)
  assert cli.main([*command[:3], "--heads=7"]) == 2
  assert "heads is 7: expected a divisor of the width of vit_tiny, which is 192" in capsys.readouterr().err


def test_an_import_made_before_last_heads_existed_is_read(tmp_path):
  assert cli.main(["import", f"--from={flat(tmp_path)}", f"--out={tmp_path / 'W'}"]) == 0
  model = json.loads((tmp_path / "W" / "model.json").read_text())
  del model["facts"]["last_heads"]
  (tmp_path / "W" / "model.json").write_text(json.dumps(model))
  assert heads(tmp_path / "W")[:2] == (3, 3)


@pytest.mark.torch
@pytest.mark.parametrize(
  "stated, expected",
  [
    ({"args": argparse.Namespace(model="csl_kd_vit_tiny")}, (6, 12)),
    ({"args": argparse.Namespace(arch="saipv1_kd_vit_tiny", lr=1.0)}, (6, 12)),
    ({"arch": "kd_vit_tiny"}, (6, 12)),
    ({"hyper_parameters": {"model_name": "CSL_KD_ViT_Tiny"}}, (6, 12)),
    ({"args": argparse.Namespace(model="csl_vit_tiny")}, (3, 3)),
    ({"arch": "vit_tiny_patch16_224"}, (3, 3)),
    ({"args": {"num_heads": 3}}, (3, 3)),
    ({"args": {"num_heads": 6, "last_heads": 12}}, (6, 12)),
  ],
)
def test_names_and_numbers_in_the_file_are_believed(tmp_path, stated, expected):
  pytest.importorskip("torch")
  path = save_pth(tmp_path / "a.pth", halves(), **stated)
  *found, notes = heads(path)
  assert tuple(found) == expected and "assumed 3" not in notes
  if "args" not in stated or "last_heads" not in vars(argparse.Namespace(**stated)).get("args", {}):
    assert ("12 in the last block; --heads and --last-heads" in notes) == (expected == (6, 12))


@pytest.mark.torch
@pytest.mark.parametrize(
  "content, stated, reason",
  [
    (halves, {}, "a saip file with a backbone alone"),
    (lambda: halves(norm=False), {}, "a dino file with a backbone alone"),
    (lambda: {"teacher": halves(norm=False)["teacher"]}, {"epoch": 3}, "a dino file with a backbone alone"),
    (lambda: halves(**{"adapter.mlp.0.weight": 0}), {}, "tensors of an adapter"),
    (lambda: halves(**{"adapter.mlp.0.weight": 0}), {"arch": "vit_tiny"}, "tensors of an adapter"),
    (halves, {"args": argparse.Namespace(model="dpal_vit_tiny")}, "args.model is 'dpal_vit_tiny'"),
    (halves, {"args": argparse.Namespace(model="vit_base")}, "args.model is 'vit_base', while its width is"),
    (halves, {"args": argparse.Namespace(expert_path="path_b.pth")}, "args.expert_path is set"),
  ],
)
def test_what_may_be_a_distilled_student_is_asked_about(tmp_path, capsys, content, stated, reason):
  pytest.importorskip("torch")
  path = save_pth(tmp_path / "a.pth", content(), **stated)
  command = ["import", f"--from={path}", f"--out={tmp_path / 'W'}"]
  assert cli.main(command) == 2
  error = capsys.readouterr().err
  for words in ("do not determine the number of attention heads", reason, "--heads=3", "--heads=6 --last-heads=12"):
    assert words in error, error
  assert error.count("\n") == 1 and not (tmp_path / "W").exists()
  assert cli.main([*command, "--heads=6", "--last-heads=12"]) == 0
  assert heads(tmp_path / "W")[:2] == (6, 12)
  assert cli.main([*command, "--heads=3"]) == 0 and heads(tmp_path / "W")[:2] == (3, 3)


@pytest.mark.torch
@pytest.mark.parametrize("head", ["head.mlp.0.weight", "dino_head.mlp.0.weight"])
def test_a_head_of_pretraining_shows_that_it_is_none(tmp_path, head):
  pytest.importorskip("torch")
  path = save_pth(tmp_path / "a.pth", halves(norm=False, **{head: 0}))
  assert heads(path)[:2] == (3, 3) and ASSUMED in heads(path)[2]


@pytest.mark.torch
def test_an_export_in_dinos_layout_states_them(tmp_path):
  pytest.importorskip("torch")
  weights = random_weights("vit_tiny", (64, 32), teacher=False)
  path = save_pth(tmp_path / "a.pth", DIALECTS["dino"].to_state(weights))
  assert heads(path)[:2] == (3, 3) and "heads" not in heads(path)[2]
  assert open_weights(path).spec == weights.spec


def test_flat_files_with_signs_are_asked_about_too(tmp_path):
  with pytest.raises(ValueError, match="2 tensors of an adapter"):
    open_weights(
      flat(tmp_path, {f"backbone.{n}": a for n, a in state().items()}, **{"adapter.0.weight": 0, "adapter.0.bias": 0})
    )
  path = flat(tmp_path).rename(tmp_path / "lupsub_kd_300e_vit_tiny.safetensors")
  with pytest.raises(ValueError, match="the file's name is that of a distilled student"):
    open_weights(path)
  assert heads(path, heads=6, last_heads=12)[:2] == (6, 12)


def test_a_timm_folder_states_the_usual_ones(tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))
  assert heads(flat(tmp_path))[0] == 3 and "heads" not in heads(flat(tmp_path))[2]


def test_networks_of_stages_have_none_to_state(tmp_path):
  weights = random_weights("swin_tiny", (64, 64), teacher=False)
  path = flat(tmp_path, DIALECTS["timm"].to_state(weights))
  with pytest.raises(ValueError, match="heads is 6: swin_tiny has the attention heads of its stages"):
    open_weights(path, heads=6)
