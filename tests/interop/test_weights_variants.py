"""Forms of a ViT that the network here computes exactly, and those that it does not; values that are not finite."""

import os
import sys

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from saip_jax import cli
from saip_jax.interop import weights as weights_module
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.tensor_files import write_safetensors
from saip_jax.interop.torch_model import why_missing
from saip_jax.interop.variants import plain_vit
from saip_jax.interop.weights import open_weights
from tests.support.toy_weights import add_toy_backbone, random_weights, timm_file

HW = (128, 64)


@pytest.fixture(autouse=True)
def toy_backbone(monkeypatch):
  add_toy_backbone(monkeypatch)


def toy_state():
  return DIALECTS["timm"].to_state(random_weights(teacher=False))


def opened(tmp_path, state, **asked):
  path = tmp_path / "a.safetensors"
  write_safetensors(path, state)
  return open_weights(path, **asked)


@pytest.mark.torch
@pytest.mark.parametrize(
  "options, words",
  [
    ({"init_values": 0.3}, "LayerScale was multiplied"),
    ({"qkv_bias": False}, "zeros here: attn.qkv of every block"),
    ({"proj_bias": False}, "zeros here: attn.proj, mlp.fc1, mlp.fc2 of every block"),
    ({"no_embed_class": True}, "the class token has no position"),
    ({"no_embed_class": True, "init_values": 1.0, "qkv_bias": False}, "LayerScale"),
  ],
)
def test_the_features_are_those_of_timms_model(tmp_path, options, words):
  """What timm computes with an argument that changes the form of its model."""
  missing = why_missing(("torch", "timm"))
  if missing:
    pytest.skip(missing)
  import timm
  import torch

  torch.manual_seed(0)
  sizes = dict(img_size=HW, patch_size=16, embed_dim=24, depth=8, num_heads=3, num_classes=0)
  model = timm.models.VisionTransformer(**sizes, **options).eval()
  for parameter in model.parameters():  # no block is idle, no scale is one
    torch.nn.init.normal_(parameter, 0.0, 0.3)
  used = {"class_token": True} if "no_embed_class" in options else {}
  weights = opened(tmp_path, {n: t.numpy() for n, t in model.state_dict().items()}, **used)
  assert words in "\n".join(weights.notes) and weights.spec.image_hw == HW
  images = np.random.default_rng(0).standard_normal((2, *HW, 3)).astype(np.float32)
  ours = weights.spec.build().apply({"params": weights.backbone()}, images, ("cls", "tokens"))
  with torch.no_grad():
    theirs = model.forward_features(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
  np.testing.assert_allclose(ours.cls, theirs[:, 0], atol=2e-4)
  np.testing.assert_allclose(ours.tokens, theirs[:, 1:], atol=2e-4)


@pytest.mark.parametrize("names", [("q", "k", "v"), ("q_proj", "k_proj", "v_proj")])
def test_separate_queries_keys_and_values_are_joined(tmp_path, names):
  state = toy_state()
  for name in [n for n in state if ".attn.qkv." in n]:
    for part, values in zip(names, np.split(state.pop(name), 3)):
      state[name.replace("qkv", part)] = values
  weights = opened(tmp_path, state)
  for name, wanted in random_weights().backbone()["blocks"]["qkv"].items():
    np.testing.assert_array_equal(weights.backbone()["blocks"]["qkv"][name], wanted)
  assert "queries, keys and values were separate tensors; joined" in weights.notes


def test_biases_that_only_some_blocks_lack_are_missing(tmp_path):
  state = toy_state()
  del state["blocks.2.attn.qkv.bias"]
  with pytest.raises(ValueError, match=r"missing \['blocks.2.attn.qkv.bias'\]"):
    opened(tmp_path, state)


@pytest.mark.parametrize(
  "hw, asked, row",
  [
    ((128, 64), None, False),  # 32 patches: twice as high as wide
    ((96, 80), (96, 80), False),  # 30 patches, as only the user knows
    ((128, 64), None, True),
  ],
)
def test_positions_with_and_without_a_row_for_the_class_token(tmp_path, hw, asked, row):
  state = DIALECTS["timm"].to_state(random_weights(image_hw=hw, teacher=False))
  table = state["pos_embed"]
  if not row:
    state["pos_embed"] = table[:, 1:]
  if not row:
    with pytest.raises(ValueError, match="--class-token=used .* --class-token=unused"):
      opened(tmp_path, state, image_hw=asked)
  weights = opened(tmp_path, state, image_hw=asked, class_token=None if row else True)
  assert weights.spec.image_hw == hw
  np.testing.assert_array_equal(weights.backbone()["pos_embed"][0, 0], table[0, 0] if row else 0 * table[0, 0])
  np.testing.assert_array_equal(weights.backbone()["pos_embed"][0, 1:], table[0, 1:])
  assert any("class token has no position" in note for note in weights.notes) != row


@pytest.mark.parametrize(
  "change, words",
  [
    (lambda s: s | {"reg_token": np.zeros((1, 4, 24), np.float32)}, "4 tokens beside the class token"),
    (lambda s: s | {"register_tokens": np.zeros((1, 2, 24), np.float32)}, "2 tokens beside the class token"),
    (lambda s: s | {"dist_token": np.zeros((1, 1, 24), np.float32)}, "a distillation token (dist_token)"),
    (lambda s: {n: a for n, a in s.items() if n != "cls_token"}, "missing ['cls_token']"),
    (
      lambda s: {n: a for n, a in s.items() if n != "cls_token"} | {"pos_embed": s["pos_embed"][:, 1:]},
      "missing ['cls_token']",
    ),
    (lambda s: {n.replace("norm.", "fc_norm.") if n.startswith("norm.") else n: a for n, a in s.items()}, "fc_norm"),
    (
      lambda s: s | {f"blocks.{i}.attn.q_norm.weight": np.ones(8, np.float32) for i in range(8)},
      "norms of queries and keys, or of mixed values: 'blocks.0.attn.q_norm.weight'",
    ),
    (lambda s: {n: a.astype(np.int32) for n, a in s.items()}, "and 96 more]"),
  ],
)
def test_what_computes_something_else_is_one_short_line(tmp_path, capsys, change, words):
  path = tmp_path / "a.safetensors"
  write_safetensors(path, change(toy_state()))
  assert cli.main(["import", f"--from={path}", f"--out={tmp_path / 'W'}"]) == 2
  error = capsys.readouterr().err
  assert words in error and error.count("\n") == 1 and len(error) < 1000, error
  assert "--image-hw" not in error and not (tmp_path / "W").exists()


def test_forms_change_no_tensor_of_the_file():
  state = toy_state() | {f"blocks.{i}.ls1.gamma": np.full(24, 2, np.float32) for i in range(8)}
  before = {name: a.copy() for name, a in state.items()}
  changed, notes, _ = plain_vit(state)
  assert len(notes) == 1 and len(changed) == len(state) - 8
  assert state.keys() == before.keys() and all((state[name] == a).all() for name, a in before.items())


def test_double_precision_is_rounded_with_a_note(tmp_path):
  weights = opened(tmp_path, {name: a.astype(np.float64) for name, a in toy_state().items()})
  assert weights.backbone()["norm"]["scale"].dtype == np.float32
  np.testing.assert_array_equal(weights.backbone()["pos_embed"], random_weights().backbone()["pos_embed"])
  assert "float64 values are rounded to float32" in weights.notes


@pytest.mark.parametrize(
  "dtype, value",
  [
    (np.float32, np.nan),
    (np.float32, np.inf),
    (np.float16, -np.inf),
    (ml_dtypes.bfloat16, np.nan),
    (np.float64, 1e300),
  ],
)
def test_values_that_are_not_finite_are_refused_by_name_and_count(tmp_path, dtype, value):
  state = {name: a.astype(dtype) for name, a in toy_state().items()}
  state["blocks.3.attn.proj.weight"][0, :5] = value
  state["norm.bias"][:] = value
  with pytest.raises(ValueError) as error:
    opened(tmp_path, state)
  for words in (
    "2 tensors hold NaN or infinity",
    "blocks.3.attn.proj.weight (5 of 576 values)",
    "norm.bias (24 of 24 values)",
  ):
    assert words in str(error.value)
  opened(tmp_path, toy_state() | {"head.weight": np.full((2, 24), np.nan, np.float32)})  # not used: no matter


@pytest.mark.parametrize(
  "command",
  [
    ["import", "--from={path}", "--out={tmp}/W"],
    ["embed", "--checkpoint={path}", "--images={tmp}/images", "--out={tmp}/f.npz"],
    ["evaluate", "--checkpoint={path}", "--task=reid", "--data=folder:{tmp}/images"],
    ["export", "--checkpoint={path}", "--dialect=safetensors", "--out={tmp}/E"],
    [
      "pretrain",
      "--config=configs/saip_demo.py",
      "--workdir={tmp}/R",
      "--config.model.backbone=vit_toy",
      "--config.method.expert={path}",
      "--config.method.teacher=expert",
      "--config.method.csm.attention_weight=0.0",
    ],
  ],
)
def test_no_command_takes_them(tmp_path, capsys, command):
  (tmp_path / "images").mkdir()
  Image.new("RGB", (64, 128)).save(tmp_path / "images" / "a.png")
  state = toy_state()
  state["blocks.3.attn.proj.weight"][:] = np.nan
  path = tmp_path / "a.safetensors"
  write_safetensors(path, state)
  assert cli.main([part.format(path=path, tmp=tmp_path) for part in command]) == 2
  error = capsys.readouterr().err
  assert "not finite: 1 tensor holds NaN or infinity: blocks.3.attn.proj.weight (576 of 576 values)" in error, error
  assert error.count("\n") == 1 and sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "images"]


def test_a_run_that_holds_them_is_refused():
  weights = random_weights()
  weights.teacher["backbone"]["norm"]["scale"][2] = np.inf
  with pytest.raises(ValueError, match="teacher/backbone/norm/scale .1 of 24 values"):
    weights_module._check_backbones(weights)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_imports_and_exports_follow_umask(tmp_path, monkeypatch, mask):
  monkeypatch.setitem(sys.modules, "torch", None)
  source = timm_file(tmp_path / "a.safetensors")
  before = os.umask(mask)
  try:
    assert cli.main(["import", f"--from={source}", f"--out={tmp_path / 'W'}"]) == 0
    assert cli.main(["export", f"--checkpoint={source}", "--dialect=timm", f"--out={tmp_path / 'E'}"]) == 0
  finally:
    os.umask(before)
  for folder in (tmp_path / "W", tmp_path / "E"):
    for path in (folder, *folder.rglob("*")):
      assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path
