"""Opening weights: runs, folders and files; what is assumed, what is refused, and that nothing in a file is run."""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_saip import TINY
from toy_weights import (
    FIXTURE, add_toy_backbone, official_states, published, random_weights, save_pth,
)

import saip_jax
from saip_jax import cli
from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.config import parse_config
from saip_jax.interop import saip
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.identify import size_of_positions
from saip_jax.interop.importing import import_weights, report
from saip_jax.interop.parity import replay
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.tables import flatten
from saip_jax.interop.tensor_files import read_tensors, write_safetensors
from saip_jax.interop.weights import load_backbone, open_weights
from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe
from saip_jax.training.checkpoint import Checkpoints, write_config
from saip_jax.training.state import TrainState
from saip_jax.typed import to_dict

REPO = pathlib.Path(__file__).resolve().parent.parent
torch_only = pytest.mark.torch


@pytest.fixture(autouse=True)
def toy_backbone(monkeypatch):
  add_toy_backbone(monkeypatch)


@pytest.fixture
def torch():
  return pytest.importorskip("torch")


def assert_same(ours: dict, theirs: dict):
  ours, theirs = flatten(ours), flatten(theirs)
  assert ours.keys() == theirs.keys()
  for path, value in theirs.items():
    np.testing.assert_array_equal(ours[path], value, err_msg=path)


def timm_file(path, weights=None, **metadata) -> pathlib.Path:
  """Writes the backbone as a safetensors file in timm's names."""
  write_safetensors(path, DIALECTS["timm"].to_state(weights or random_weights()), metadata)
  return path


# Published weights.


@pytest.mark.slow
@torch_only
def test_published_weights_give_the_published_losses(tmp_path, torch):
  """A published file imported, written again by the export's dialect and replayed: every recorded number holds."""
  student, teacher = official_states()
  source = save_pth(
      tmp_path / "published.pth", published(student, teacher), epoch=3, optimizer={"state": {}},
      args=argparse.Namespace(num_heads=3, decoder_num_heads=4, lr=1e-3), csm_loss={"center": torch.zeros(1, 256)},
  )
  weights = import_weights(source, "saip", tmp_path / "W", image_hw=(128, 64))
  assert_same(weights.student, saip.read(student))
  assert_same(weights.teacher, saip.read(teacher))
  assert weights.head_counts == {"csr_heads": 4, "css_heads": 4}
  assert "student: backbone 104, csm 7, csr 32, css 54 tensors" in "\n".join(report(weights, "W"))
  assert "not used: optimizer, csm_loss, epoch" in weights.notes

  reopened = open_weights(tmp_path / "W")
  assert_same(reopened.student, weights.student)
  assert_same(reopened.teacher, weights.teacher)
  assert reopened.spec == weights.spec and reopened.head_counts == weights.head_counts

  with np.load(FIXTURE) as archive:
    arrays = dict(archive)
  content = DIALECTS["saip"].to_state(reopened)
  for who in ("student", "teacher"):
    again = {f"{who}/{name.removeprefix('module.')}": a for name, a in content[who].items()}
    assert again.keys() == {name for name in arrays if name.startswith(f"{who}/")}
    arrays |= again
  np.savez(tmp_path / "again.npz", **arrays)
  checks = replay(str(tmp_path / "again.npz"))
  assert [c for c in checks if c.name.startswith(("loss/", "out/")) and not c.passed] == []


@torch_only
def test_what_was_not_used_is_told(tmp_path, torch):
  content = DIALECTS["mae"].to_state(random_weights())
  content["model"] |= {f"decoder_blocks.{i}.norm1.weight": np.zeros(3, np.float32) for i in range(9)}
  path = save_pth(tmp_path / "mae.pth", content, epoch=1)
  lines = "\n".join(report(open_weights(path), "W"))
  for words in ("vit_toy for 128x64", "(mae)", "student: backbone 102 tensors", "teacher: none in the file",
                "assumed 32 positions to be for 128x64 pixels; --image-hw=HxW", "not used: epoch",
                "not used: 9 tensors of decoder_blocks.0.norm1, decoder_blocks.1.norm1", "and 3 more",
                "as in a new model: student/backbone/inter_norm/scale, student/backbone/inter_norm/bias"):
    assert words in lines, lines


# The size of the positions.


@pytest.mark.parametrize("patches, stated, asked, hw, assumed", [
    (128, None, None, (256, 128), True),
    (32, None, None, (128, 64), True),
    (196, None, None, (224, 224), True),
    (192, None, (256, 192), (256, 192), False),
    (128, None, (128, 256), (128, 256), False),
    (192, (256, 192), None, (256, 192), False),
    (128, (256, 128), (256, 128), (256, 128), False),
])
def test_the_size_of_positions(patches, stated, asked, hw, assumed):
  found, note = size_of_positions(patches, 16, stated, asked)
  assert found == hw and bool(note) == assumed and (not note or "--image-hw" in note)


@pytest.mark.parametrize("patches, stated, asked, words", [
    (192, None, None, "--image-hw=HxW"),
    (192, None, (256, 128), "256x128"),
    (192, (256, 128), None, "the file states 256x128"),
    (128, (256, 128), (128, 256), "--image-hw=128x256, but the file states"),
    (128, None, (250, 128), "multiples of the patch"),
    (0, None, None, "0 positions"),
])
def test_a_wrong_size_of_positions_is_refused(patches, stated, asked, words):
  with pytest.raises(ValueError, match=words):
    size_of_positions(patches, 16, stated, asked)


# Facts that no tensor tells.


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


@pytest.mark.parametrize("config, facts, words", [
    (timm_config(num_heads=6), None, ["num_heads is 6, here 3"]),
    (timm_config(act_layer="quick_gelu"), None, ["act_layer is 'quick_gelu', here 'exact'"]),
    (timm_config(act_layer="gelu_tanh", num_heads=4), None, ["act_layer", "num_heads"]),
    (timm_config(patch_size=14), None, ["patch_size is 14"]),
    (timm_config(img_size=224), None, ["the file states 224x224"]),
    (timm_config("vit_toy_patch16_clip_quickgelu_224"), None, ["vit_toy_patch16_clip_quickgelu_224"]),
    (timm_config("vit_small_patch16_224"), None, ["vit_small_patch16_224"]),
    (None, {"norm_eps": 1e-5, "heads": 12, "gelu": "tanh"}, ["norm_eps is 1e-05", "heads is 12", "gelu is 'tanh'"]),
    (None, {"tapped_block": 5}, ["tapped_block is 5, here 6"]),
])
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


def test_another_normalisation_is_told(tmp_path):
  config = timm_config()
  config["pretrained_cfg"]["mean"] = [0.5, 0.5, 0.5]
  assert any("mean [0.5, 0.5, 0.5]" in note for note in open_weights(beside(tmp_path, config)).notes)


def test_a_record_of_another_file_is_not_believed(tmp_path):
  path = beside(tmp_path, None, {"heads": 12})
  record = json.loads((tmp_path / "parity.json").read_text())
  record["files"][path.name]["bytes"] += 1
  (tmp_path / "parity.json").write_text(json.dumps(record))
  open_weights(path)


# Safety.


class Malicious:
  """A pickle of it creates a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


def edited(path, edit):
  """Rewrites the entries of a PyTorch file."""
  with zipfile.ZipFile(path) as archive:
    entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
  with zipfile.ZipFile(path, "w") as archive:
    for name, content in entries.items():
      archive.writestr(name, edit(name, content))


@torch_only
@pytest.mark.parametrize("where", ["top", "args", "deep"])
def test_no_pickled_object_is_run(tmp_path, torch, where):
  executed = tmp_path / "executed"
  evil = Malicious(executed)
  others = {"top": {"x": evil}, "args": {"args": argparse.Namespace(x=evil)}, "deep": {"x": {"y": [evil]}}}[where]
  path = save_pth(tmp_path / "evil.pth", published(official_states()[0], None), **others)
  with pytest.raises(ValueError, match="refused: .*posix.mkdir.*nothing was run"):
    import_weights(path, "saip", tmp_path / "W")
  assert not executed.exists() and not (tmp_path / "W").exists()
  torch.load(path, weights_only=False)  # the file does what it threatens
  assert executed.exists()


@torch_only
def test_what_claims_more_than_it_holds_is_refused(tmp_path, torch):
  def save(tensor=None):
    torch.save({"cls_token": torch.ones(2000) if tensor is None else tensor}, tmp_path / "a.pth")
    return tmp_path / "a.pth"

  for count in (1, 2):  # the pickle tells the size twice: of the storage, then of the tensor
    def edit(name, content):
      assert not name.endswith("data.pkl") or content.count(b"M\xd0\x07") == 2
      return content.replace(b"M\xd0\x07", b"J\xff\xff\xff\x7f", count)  # 2000 becomes 2**31 - 1
    edited(save(), edit)
    if count == 1:  # a storage is as long as the file, whatever it claims
      assert read_tensors(tmp_path / "a.pth")[0]["cls_token"].shape == (2000,)
      continue
    with pytest.raises(ValueError, match="no whole PyTorch file"):
      read_tensors(tmp_path / "a.pth")
  with pytest.raises(ValueError, match="claim 4,000,000,000,000 bytes"):
    read_tensors(save(torch.ones(1).expand(10**12)))
  with pytest.raises(ValueError, match="no plain tensor"):
    read_tensors(save(torch.eye(3).to_sparse()))


@torch_only
@pytest.mark.parametrize("content, words", [
    (b"", "is empty"),
    (b"<!doctype html>", "truncated, or something else"),
    (b"\x80\x04cposix\nmkdir\n", "bare pickle"),
    ("cut", "truncated, or something else"),
    ("compressed", "entries are compressed"),
    ("program", "TorchScript program"),
    ("list", "holds a list"),
    ("zip", "no data.pkl"),
])
def test_a_broken_pth_is_one_line(tmp_path, torch, capsys, content, words):
  path = tmp_path / "a.pth"
  if isinstance(content, bytes):
    path.write_bytes(content)
  elif content == "zip":
    with zipfile.ZipFile(path, "w") as archive:
      archive.writestr("a", "b")
  elif content == "program":
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
  elif content == "list":
    torch.save([torch.ones(2)], path)
  else:
    save_pth(path, published(official_states()[0], None))
  if content == "cut":
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  if content == "compressed":
    with zipfile.ZipFile(path) as archive:
      entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
      for name, data in entries.items():
        archive.writestr(name, data)
  refused(tmp_path, path, words, capsys)


def header(entries: dict, data: bytes = b"", length: int | None = None) -> bytes:
  text = json.dumps(entries).encode()
  return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
  return {"cls_token": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.mark.parametrize("content", [
    b"\x01",
    b"\xff" * 8 + b"{}",  # a header of 18 exabytes
    header({}, length=10**9),
    header(entry(), b"\0" * 7),  # cut
    header(entry(), b"\0" * 9),  # more than it tells
    header(entry(shape=(2**40,), offsets=(0, 2**42))),
    header(entry(shape=(2**40,)), b"\0" * 8),  # overflow
    header(entry(offsets=(8, 0)), b"\0" * 8),
    header(entry("F99"), b"\0" * 8),
    b"PK\x03\x04 a zip",
    "cut",
])
def test_a_broken_safetensors_file_is_one_line(tmp_path, capsys, content):
  path = tmp_path / "a.safetensors"
  if content == "cut":
    timm_file(path)
    content = path.read_bytes()[:-1]
  path.write_bytes(content)
  refused(tmp_path, path, "no whole safetensors file", capsys)


def refused(tmp_path, path, words, capsys):
  """The command says one line about the file and leaves nothing behind."""
  before = sorted(tmp_path.iterdir())
  assert cli.main(["import", f"--from={path}", f"--out={tmp_path / 'W'}"]) == 2
  error = capsys.readouterr().err
  assert error.startswith("saip import: error: ") and error.count("\n") == 1, error
  assert words in error and str(path) in error, error
  assert sorted(tmp_path.iterdir()) == before


def test_a_pth_without_pytorch_tells_what_to_install(tmp_path, monkeypatch):
  path = tmp_path / "a.pth"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a/data.pkl", b"")
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(ValueError, match=r"pip install -e .\.\[torch\]."):
    read_tensors(path)


# The command and its folder.


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


@pytest.mark.parametrize("arguments, words", [
    (["--out={tmp}"], ["holds other files", "--out"]),
    (["--out={tmp}/a.safetensors"], ["is a file"]),
    (["--dialect=vitpose"], ["--dialect=vitpose cannot be read", "saip", "mae"]),
    (["--dialect=saip"], ["no ViT in the names of --dialect=saip", "begins with blocks.0.attn"]),
    (["--image-hw=64x64"], ["--image-hw states 64x64", "32 positions"]),
    (["--from={tmp}/b.safetensors"], ["b.safetensors: no such file"]),
    (["--from={tmp}"], ["a.safetensors, c.pth", "name the file itself"]),
    (["--form=x"], ["--form=x", "--help"]),
])
def test_a_mistake_is_one_line(tmp_path, capsys, arguments, words):
  timm_file(tmp_path / "a.safetensors")
  (tmp_path / "c.pth").touch()
  command = ["import", f"--from={tmp_path}/a.safetensors", f"--out={tmp_path}/W"]
  assert cli.main(command + [a.format(tmp=tmp_path) for a in arguments]) == 2
  error = capsys.readouterr().err
  assert error.startswith("saip import: error: ") and error.count("\n") == 1, error
  assert all(word in error for word in words), error
  assert not (tmp_path / "W").exists()


def test_faults_of_student_and_teacher_are_told_together(tmp_path):
  student, teacher = official_states()
  del student["backbone.norm.bias"], teacher["csm_decoder.mlp.0.bias"]
  path = tmp_path / "a.pth"
  pytest.importorskip("torch")
  save_pth(path, published(student, teacher))
  with pytest.raises(ValueError, match="student: .*backbone.norm.bias.*teacher: .*csm_decoder.mlp.0.bias"):
    open_weights(path)


@pytest.mark.parametrize("names", [
    ("pos_embed", "norm.bias"), ("patch_embed.proj.weight", "cls_token"),
    ("blocks.7.norm1.weight", "blocks.0.norm1.bias"),
])
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


def test_an_unknown_width_is_told(tmp_path):
  state = DIALECTS["timm"].to_state(random_weights())
  state["pos_embed"] = np.zeros((1, 33, 25), np.float32)
  write_safetensors(tmp_path / "a.safetensors", state)
  with pytest.raises(ValueError, match="25 wide with 8 blocks and patch 16 is none of vit_tiny .192 wide"):
    open_weights(tmp_path / "a.safetensors")


def test_the_tapped_norm_beside_a_timm_file_is_read(tmp_path):
  weights = random_weights()
  path = timm_file(tmp_path / "model.safetensors", weights)
  norm = weights.backbone()["inter_norm"]
  side = {"inter_norm.weight": norm["scale"], "inter_norm.bias": norm["bias"]}
  write_safetensors(tmp_path / "inter_norm.safetensors", side)
  assert_same(open_weights(tmp_path).backbone(), weights.backbone())
  assert open_weights(path).new == ()


# Runs.


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
  """Two checkpoints of a small run: its folder, and the state of the newer one."""
  with pytest.MonkeyPatch.context() as monkeypatch:
    add_toy_backbone(monkeypatch)
    settings = [f"--config.{s}" for s in (*TINY, "model.backbone=vit_toy")]
    config = parse_config(apply_overrides(load_recipe(REPO / "configs" / "saip_demo.py"), settings))
    params, extra = jax.jit(METHODS["saip"].build(config).init)(jax.random.key(0))
  extra["teacher"] = jax.tree.map(lambda a: a + 1, extra["teacher"])
  workdir = tmp_path_factory.mktemp("run")
  write_config(workdir, to_dict(config))
  checkpoints = Checkpoints(workdir, 3, None, {})
  for step in (2, 10):
    state = TrainState(jnp.int32(step), jax.tree.map(lambda a: a + step, params), extra, {"mu": params})
    checkpoints.save(step, state)
  checkpoints.close()
  return workdir, jax.device_get(state)


def test_a_run_is_read_without_its_optimiser(run_folder):
  workdir, state = run_folder
  weights = open_weights(workdir)
  assert_same(weights.student, state.params)
  assert_same(weights.teacher, state.extra["teacher"])
  assert all(type(a) is np.ndarray for a in jax.tree.leaves((weights.student, weights.teacher)))
  assert (weights.spec.name, weights.spec.image_hw, weights.spec.pos_interpolation) == ("vit_toy", (128, 64), "flat1d")
  assert weights.head_counts == {"csr_heads": 2, "css_heads": 2} and "step 10 of the run" in weights.origin
  earlier = open_weights(workdir / "checkpoints" / "2").student
  assert (earlier["backbone"]["norm"]["scale"] == 1 + 2).all()


def test_a_run_comes_back_from_an_import_and_from_a_published_file(run_folder, tmp_path):
  workdir, state = run_folder
  assert_same(import_weights(workdir, None, tmp_path / "W").teacher, state.extra["teacher"])
  assert_same(open_weights(tmp_path / "W").student, state.params)
  pytest.importorskip("torch")
  weights = open_weights(save_pth(tmp_path / "a.pth", DIALECTS["saip"].to_state(open_weights(workdir))))
  assert_same(weights.student, state.params)
  assert_same(weights.teacher, state.extra["teacher"])
  assert weights.spec == open_weights(workdir).spec and weights.head_counts == open_weights(workdir).head_counts
  assert not any("assumed" in note for note in weights.notes)  # the file itself tells the size


@pytest.mark.parametrize("name, words", [
    (".", "no checkpoint yet"), ("checkpoints/4", "holds no checkpoint"), ("missing", "no such file or folder"),
    ("empty", "holds not one file of weights"),
])
def test_a_run_that_cannot_be_read(run_folder, tmp_path, name, words):
  write_config(tmp_path, json.loads((run_folder[0] / "config.json").read_text()))
  (tmp_path / "checkpoints" / "4").mkdir(parents=True)
  (tmp_path / "empty").mkdir()
  if name == ".":
    (tmp_path / "checkpoints" / "4").rmdir()
  with pytest.raises(ValueError, match=words):
    open_weights(tmp_path / name)


# Sizes and the loaded backbone.


def test_positions_are_resized_in_two_dimensions(run_folder):
  weights = open_weights(run_folder[0])
  wide = weights.resized((128, 96))
  assert wide.spec.image_hw == (128, 96) and wide.spec.build().stored_grid == (8, 6)
  for tree, resized in ((weights.student["backbone"], wide.student["backbone"]),
                        (weights.teacher["csr"], wide.teacher["csr"])):
    expected = interpolate_positions(tree["pos_embed"][0, 1:], (8, 4), (8, 6), "grid2d")
    np.testing.assert_array_equal(resized["pos_embed"][0, 1:], expected)
    np.testing.assert_array_equal(resized["pos_embed"][0, 0], tree["pos_embed"][0, 0])
  assert wide.student["css"] is not weights.student["css"]
  assert_same({k: v for k, v in wide.student["backbone"].items() if k != "pos_embed"},
              {k: v for k, v in weights.student["backbone"].items() if k != "pos_embed"})
  line = weights.resized((128, 96), "flat1d").backbone()["pos_embed"]
  assert np.abs(line - wide.backbone()["pos_embed"]).max() > 0.1
  assert weights.resized((128, 64)) is weights
  assert parameter_shapes(wide.spec.build())["pos_embed"] == wide.backbone()["pos_embed"].shape
  with pytest.raises(ValueError, match="--image-hw=120x64.*patch, 16"):
    weights.resized((120, 64))


def test_load_backbone(tmp_path):
  weights = random_weights()
  path = timm_file(tmp_path / "a.safetensors", weights)
  loaded = saip_jax.load_backbone(path)
  images = np.random.default_rng(0).integers(0, 256, (2, 128, 64, 3), np.uint8)
  mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
  normalised = loaded.preprocessing(images)
  np.testing.assert_allclose(normalised, (images / np.float32(255) - mean) / std, rtol=1e-5, atol=1e-6)
  assert normalised.dtype == np.float32 and loaded.preprocessing.image_hw == (128, 64)
  features = loaded.module.apply(loaded.variables, normalised)
  expected = weights.spec.build().apply({"params": weights.backbone()}, normalised)
  np.testing.assert_array_equal(features.cls, expected.cls)

  other = load_backbone(path, image_hw=(96, 96))
  assert other.module.stored_grid == (6, 6) and other.preprocessing.image_hw == (96, 96)
  with pytest.raises(ValueError, match="has no teacher"):
    load_backbone(path, which="teacher")


def test_the_package_stays_light():
  code = "import sys, saip_jax; print('jax' in sys.modules, hasattr(saip_jax, 'no_such_name'))"
  run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
  assert run.stdout.split() == ["False", "False"], run.stderr


def test_reading_needs_no_pytorch(tmp_path):
  path = timm_file(tmp_path / "a.safetensors", dataclasses.replace(random_weights("vit_tiny"), origin="x"))
  code = (
      "import sys; sys.modules['torch'] = None; import saip_jax; "
      f"print(saip_jax.load_backbone({str(path)!r}).module.width)"
  )
  run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
  assert run.stdout.strip() == "192", run.stderr
