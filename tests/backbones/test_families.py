"""TinyViT, Swin, ConvNeXt and HRNet in and out of PyTorch: timm's files, our exports, runs with running statistics."""

import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from input_pipeline.schema import to_dict
from saip_jax import cli
from saip_jax.backbones import BACKBONES
from saip_jax.backbones.statistics import join_statistics
from saip_jax.backbones.tinyvit import TinyViT
from saip_jax.evaluation.features import embed_images
from saip_jax.initial import start_from
from saip_jax.interop import export, export_request, proof
from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.dialects import DIALECTS, recognize_dialect
from saip_jax.interop.importing import import_weights
from saip_jax.interop.tables import flatten, to_torch
from saip_jax.interop.tensor_files import write_safetensors
from saip_jax.interop.weights import Preprocessing, load_backbone, open_weights
from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.run_folder.folder import write_config
from saip_jax.training.checkpoint import Checkpoints
from saip_jax.training.mesh import make_mesh, replicated
from saip_jax.training.state import TrainState
from tests.support.tiny_saip import REPO, TINY
from tests.support.toy_weights import save_pth
from tests.support.trained_weights import backbone_weights

STAGES = ("tinyvit_5m", "swin_tiny", "convnext_femto", "hrnet_w18")
IMAGE_HW = (64, 32)
FEATURES = 2e-5


def timm_state(name: str) -> dict[str, np.ndarray]:
  return DIALECTS["timm"].to_state(backbone_weights(name))


def assert_same(ours: dict, theirs: dict):
  ours, theirs = flatten(jax.device_get(ours)), flatten(jax.device_get(theirs))
  assert ours.keys() == theirs.keys()
  for path, value in theirs.items():
    np.testing.assert_array_equal(ours[path], value, err_msg=path)


def exported(tmp_path, monkeypatch, name: str, *flags):
  """Exports the teacher of made-up weights with the command; returns the folder and its parity.json."""
  monkeypatch.setattr(export, "open_weights", lambda path: backbone_weights(name))
  out = tmp_path / "out"
  assert cli.main(["export", "--checkpoint=W", "--which=teacher", f"--out={out}", *flags]) == 0
  monkeypatch.undo()
  record = json.loads((out / "parity.json").read_text())
  for output in record["outputs"].values():
    assert output["max_abs_difference"] <= FEATURES and output["max_abs_value"] > 1
  return out, record


# Exports.


@pytest.mark.torch
@pytest.mark.parametrize(
  "name,dialect",
  [
    ("tinyvit_5m", "safetensors"),
    ("swin_tiny", "safetensors"),
    ("swin_tiny", "timm"),
    ("swin_tiny_solider", "safetensors"),
    pytest.param("swin_small", "timm", marks=pytest.mark.slow),
    pytest.param("swin_base", "timm", marks=pytest.mark.slow),
    ("convnext_femto", "timm"),
    ("hrnet_w18", "safetensors"),
    ("hrnet_w18", "timm"),
    ("vit_nano", "safetensors"),
    ("vit_nano", "timm"),
    pytest.param("hrnet_w18_bilinear", "safetensors", marks=pytest.mark.slow),
  ],
)
def test_files_of_tensors_compute_the_same_and_come_back_exactly(tmp_path, monkeypatch, torch, name, dialect):
  """The lines of the model card, run as they stand, give the features too."""
  out, record = exported(tmp_path, monkeypatch, name, f"--dialect={dialect}")
  assert record["outputs"].keys() == {"cls", "patch_tokens", "tapped_layer"}
  weights = backbone_weights(name)
  back = open_weights(out)
  assert_same(back.backbone(), weights.backbone("teacher"))
  assert back.spec == weights.spec and back.new == back.notes == ()

  code = re.search(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)[1].replace("DIR", str(out))
  pixels = np.random.default_rng(0).integers(0, 256, (3, *IMAGE_HW, 3), np.uint8)
  images = np.asarray(Preprocessing(IMAGE_HW)(pixels))
  names = {"image": Image.fromarray(pixels[0]), "images": torch.tensor(images.transpose(0, 3, 1, 2))}
  monkeypatch.chdir(out)
  with torch.no_grad():
    exec(code, names)
    if "feature" not in names:
      cells = names["cells"] if "cells" in names else names["model"].eval().forward_features(names["images"])
      names["feature"] = (
        cells[:, 0] if name == "vit_nano" else cells.mean((1, 2) if name.startswith("swin") else (2, 3))
      )
  ours = proof.jax_features(weights, "teacher", images)["cls"]  # of one image or all three
  np.testing.assert_allclose(ours[: len(names["feature"])], names["feature"].numpy(), atol=FEATURES)

  (extra,) = (out / "extra").iterdir()
  extra.rename(out / extra.name)  # where 0.1 wrote it
  assert_same(open_weights(out).backbone(), weights.backbone("teacher"))


@pytest.mark.torch
@pytest.mark.parametrize(
  "name", [*STAGES[:-1], *(pytest.param(name, marks=pytest.mark.slow) for name in (STAGES[-1], "swin_tiny_solider"))]
)
def test_torchscript_computes_the_same(tmp_path, monkeypatch, torch, name):
  image_hw = (64, 96) if name == "hrnet_w18" else (72, 40)
  flags = "--dialect=torchscript", "--image-hw={}x{}".format(*image_hw)
  _, record = exported(tmp_path, monkeypatch, name, *flags)
  assert record["outputs"].keys() == {"cls", "patch_tokens"} and record["model"]["image_hw"] == list(image_hw)


@pytest.mark.torch
@pytest.mark.parametrize(
  "name,flags",
  [
    pytest.param("tinyvit_5m", [], marks=pytest.mark.slow),
    pytest.param("swin_tiny", [], marks=pytest.mark.slow),
    pytest.param("swin_tiny_solider", [], marks=pytest.mark.slow),
    pytest.param("hrnet_w18", [], marks=pytest.mark.slow),
    pytest.param("hrnet_w18_bilinear", [], marks=pytest.mark.slow),
    ("convnext_femto", ["--with-preprocessing"]),
  ],
)
def test_onnx_computes_the_same(tmp_path, monkeypatch, torch, name, flags):
  for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)
  _, record = exported(tmp_path, monkeypatch, name, "--dialect=onnx", *flags)
  assert {"cls", "patch_tokens"} <= record["outputs"].keys() and len(record["outputs"]) == 2 + 2 * len(flags)


@pytest.mark.parametrize(
  "name,flags,words",
  [
    (
      "tinyvit_5m",
      ["--dialect=timm"],
      ["--dialect=timm", "tinyvit_5m", "stride of 32", "safetensors, onnx, torchscript"],
    ),
    ("swin_tiny_solider", ["--dialect=timm"], ["have no bias", "semantic controller", "safetensors, onnx"]),
    ("hrnet_w18_bilinear", ["--dialect=timm"], ["repeats cells where this one interpolates", "safetensors, onnx"]),
    (
      "swin_tiny",
      ["--dialect=saip"],
      ["--dialect=saip", "swin_tiny", "choose one of timm, safetensors, onnx, torchscript"],
    ),
    ("convnext_femto", ["--dialect=mmpose"], ["--dialect=mmpose", "convnext_femto"]),
    ("convnext_femto", ["--dialect=safetensors", "--image-hw=64x16"], ["64x16", "32 pixels"]),
    ("hrnet_w18", ["--dialect=onnx", "--image-hw=72x64"], ["72x64", "32 pixels", "multiples of 32"]),
    ("swin_tiny", ["--dialect=safetensors", "--image-hw=64x15"], ["64x15", "at least the stride, 16"]),
  ],
)
def test_what_cannot_be_exported_is_one_line(tmp_path, monkeypatch, capsys, name, flags, words):
  monkeypatch.setattr(export_request, "why_missing", lambda packages: None)
  monkeypatch.setattr(export, "open_weights", lambda path: backbone_weights(name))
  assert cli.main(["export", "--checkpoint=W", f"--out={tmp_path / 'out'}", *flags]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and all(word in error for word in words), error
  assert not list(tmp_path.iterdir())


# timm's files.


@pytest.mark.torch
@pytest.mark.parametrize(
  "name", [*STAGES, *(pytest.param(name, marks=pytest.mark.slow) for name in ("swin_small", "swin_base"))]
)
def test_timms_own_files_are_read(tmp_path, torch, name):
  """With classifier, counters and indices; parameters that timm lacks keep initial values and are listed."""
  import timm

  architecture = ARCHITECTURES[name]
  model = timm.create_model(architecture.timm_name, num_classes=3)
  state = {n: np.ascontiguousarray(t.numpy()) for n, t in model.state_dict().items()}
  for n in list(state):
    if n.endswith("running_var"):
      state[n] = state[n] + np.float32(0.5)
  path = tmp_path / "model.safetensors"
  write_safetensors(path, state)
  weights = import_weights(path, "timm", tmp_path / "W")
  assert weights.spec.name == name and recognize_dialect(state) == "timm" and weights.spec.image_hw == (256, 128)
  tree = {part: value for part, value in weights.backbone().items() if part not in architecture.names.extra_modules}
  back = to_torch(tree, architecture.names.timm, 16)
  assert back.keys() <= state.keys() and all(np.array_equal(a, state[n]) for n, a in back.items())
  unused = state.keys() - back.keys()
  assert all(any(re.search(pattern, n) for pattern in architecture.names.ignored) for n in unused)
  (line,) = [note for note in weights.notes if "not used" in note]
  assert ("head.fc" in line or "classifier" in line) and "batches" not in line
  assert len(weights.new) == len(architecture.names.extra) and any(
    "as in a new model" in note for note in weights.notes
  )
  assert not architecture.note or architecture.note in weights.notes

  again = open_weights(tmp_path / "W")
  assert_same(again.student, weights.student)
  assert again.spec == weights.spec and again.new == weights.new
  assert_same(open_weights(path).student, weights.student)  # what is new is always the same
  assert load_backbone(tmp_path / "W", image_hw=(64, 48)).preprocessing.image_hw == (64, 48)


@pytest.mark.parametrize(
  "name,change,words",
  [
    ("swin_tiny", {"layers.0.blocks.0.attn.qkv.bias": None}, ["missing ['layers.0.blocks.0.attn.qkv.bias']"]),
    ("swin_tiny", {"patch_embed.proj.weight": np.zeros((128, 3, 4, 4), np.float32)}, ["128 wide", "swin_tiny"]),
    (
      "swin_small",
      {"layers.2.blocks.9.norm1.bias": None, "layers.0.blocks.0.attn.qkv.weight": np.zeros((288, 90), np.float32)},
      ["missing ['layers.2.blocks.9.norm1.bias']", "qkv.weight (288, 90), expected (288, 96)"],
    ),
    ("tinyvit_5m", {"neck.0.weight": np.zeros((256, 320, 1, 1), np.float32)}, ["missing", "neck.3.bias"]),
    ("tinyvit_5m", {"stages.0.blocks.0.conv1.bn.running_var": None}, ["missing", "running_var"]),
    ("convnext_femto", {"stages.2.blocks.6.gamma": np.zeros(192, np.float32)}, ["unexpected", "blocks.6.gamma"]),
    ("hrnet_w18", {"stage3.2.branches.1.3.bn2.running_var": None}, ["missing ['stage3.2.branches.1.3.bn2."]),
    ("hrnet_w18", {"transition1.0.0.weight": np.zeros((32, 256, 3, 3), np.float32)}, ["32 wide", "hrnet_w18"]),
    ("convnext_femto", {"head.norm.bias": np.zeros(3, np.float32)}, ["head.norm.bias (3,), expected (384,)"]),
  ],
)
def test_other_networks_are_refused(tmp_path, name, change, words):
  state = timm_state(name) | change
  write_safetensors(tmp_path / "a.safetensors", {n: a for n, a in state.items() if a is not None})
  with pytest.raises(ValueError) as error:
    open_weights(tmp_path / "a.safetensors")
  assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
  "name,config,words",
  [
    ("convnext_femto", {"architecture": "convnext_femto_ols.d1_in1k"}, "convnext_femto_ols.*expected convnext_femto"),
    ("swin_tiny", {"architecture": "swin_s3_tiny_224"}, "swin_s3_tiny_224"),
    ("swin_tiny", {"architecture": "swin_tiny_patch4_window7_224", "model_args": {"act_layer": "relu"}}, "act_layer"),
    (
      "swin_tiny",
      {"architecture": "swin_tiny_patch4_window7_224", "model_args": {"num_heads": [3, 6, 12, 12]}},
      "num_heads is .3, 6, 12, 12., here .3, 6, 12, 24.",
    ),
  ],
)
def test_what_no_tensor_tells_is_checked(tmp_path, name, config, words):
  write_safetensors(tmp_path / "model.safetensors", timm_state(name))
  (tmp_path / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError, match=words):
    open_weights(tmp_path)


@pytest.mark.torch
def test_dialects_of_vits_do_not_take_others(tmp_path, torch):
  path = save_pth(tmp_path / "a.pth", {"model": timm_state("convnext_femto")})
  with pytest.raises(ValueError, match="--dialect=mae names tensors of a vit, and these are of a convnext"):
    open_weights(path, "mae")
  weights = open_weights(path)  # the names decide, not the section
  assert_same(
    {name: a for name, a in weights.backbone().items() if name != "inter_norm"},
    {name: a for name, a in backbone_weights("convnext_femto").backbone().items() if name != "inter_norm"},
  )


def test_sizes_change_no_tensor():
  weights = backbone_weights("swin_tiny")
  other = weights.resized((75, 42))
  assert other.spec.image_hw == (75, 42) and other.spec.grid == (5, 3)
  assert_same(other.student, weights.student)


# Runs.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run of a small TinyViT with different statistics of student and teacher: folder, configuration, state."""
  options = dict(dims=(8, 8, 12, 16), depths=(1, 1, 1, 1), heads=(1, 2, 2), neck_width=16)
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setitem(BACKBONES, "tinyvit_toy", functools.partial(TinyViT, **options))
    monkeypatch.setitem(ARCHITECTURES, "tinyvit_toy", ARCHITECTURES["tinyvit_5m"])
    settings = (*TINY, "model.backbone=tinyvit_toy", "method.csm.attention_weight=0.0", "method.csr.weight=0.0")
    recipe = load_recipe(REPO / "configs" / "saip_demo.py")
    config = parse_config(apply_overrides(recipe, [f"--config.{s}" for s in settings]))
    method = METHODS["saip"].build(config)
    params, method_state = jax.jit(method.init, out_shardings=replicated(make_mesh(jax.devices()[:1])))(
      jax.random.key(0)
    )
    fresh = TrainState(jnp.int32(0), params, method_state, {"mu": params})
    filled = lambda value: jax.tree.map(
      lambda a: np.full(a.shape, value, a.dtype), method_state["statistics"]["student"]
    )
    trained = method_state | {"statistics": {"student": filled(2.0), "teacher": filled(3.0)}}
    trained["teacher"] = jax.jit(lambda tree: jax.tree.map(lambda a: a + 1, tree))(method_state["teacher"])
    workdir = tmp_path_factory.mktemp("run")
    write_config(workdir, to_dict(config))
    checkpoints = Checkpoints(workdir, 1, None, {})
    checkpoints.save(4, fresh.replace(step=jnp.int32(4), method_state=trained))
    checkpoints.close()
    yield workdir, config, method, fresh, trained


def test_the_statistics_of_a_run_are_read_with_its_parameters(run, tmp_path):
  workdir, _, method, fresh, trained = run
  weights = open_weights(workdir)
  for who, tree in (("student", fresh.params), ("teacher", trained["teacher"])):
    assert_same(weights.backbone(who), join_statistics(tree["backbone"], trained["statistics"][who]))
    assert_same(weights.backbone(who), method.export_params(fresh.params, trained, who))
  assert weights.spec.pos_interpolation is None and "pos_interpolation" not in weights.spec.facts()
  import_weights(workdir, None, tmp_path / "W")
  assert_same(open_weights(tmp_path / "W").teacher, weights.teacher)

  loaded = load_backbone(tmp_path / "W", "teacher")
  assert_same(loaded.variables["batch_stats"], trained["statistics"]["teacher"])
  assert_same(loaded.variables["params"], trained["teacher"]["backbone"])


def test_a_run_starts_from_statistics(run):
  workdir, config, method, fresh, trained = run
  config = dataclasses.replace(config, init_from=str(workdir))
  state, line = start_from(config, method, fresh, replicated(make_mesh(jax.devices()[:1])))
  assert_same(state.params, fresh.params)
  assert_same(state.method_state["teacher"], trained["teacher"])
  assert_same(state.method_state["statistics"], trained["statistics"])
  assert line.endswith("new: nothing")


def test_embed_uses_the_statistics(run, tmp_path):
  workdir = run[0]
  (tmp_path / "images").mkdir()
  pixels = np.random.default_rng(0).integers(0, 256, (128, 64, 3), np.uint8)
  Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
  found = {}
  for who in ("student", "teacher"):
    out = tmp_path / f"{who}.npz"
    embed_images(workdir, tmp_path / "images", out, who)
    found[who] = np.load(out)["cls"]
    loaded = load_backbone(workdir, who)
    expected = jitted(loaded.module, loaded.variables, loaded.preprocessing(pixels[None]))
    np.testing.assert_allclose(found[who], expected, atol=5e-3)  # rounding the images moves the teacher's by 2e-3
  assert np.abs(found["student"] - found["teacher"]).max() > 0.1


@functools.partial(jax.jit, static_argnums=0)
def jitted(module, variables, images):
  return module.apply(variables, images, reads=("cls",)).cls
