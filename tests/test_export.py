"""Exports: every file, read back by the programs it is for, gives the features that JAX gives."""

import dataclasses
import hashlib
import json
import pathlib
import re
import sys

import jax
import numpy as np
import pytest

from saip_jax import cli
from saip_jax.config import parse_config
from saip_jax.interop import export, proof, torch_model
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.model_card import run_history, shortened
from saip_jax.interop.spec import BackboneSpec
from saip_jax.interop.tables import flatten, unflatten
from saip_jax.interop.tensor_files import read_tensors
from saip_jax.interop.weights import Weights
from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe
from tiny_saip import TINY

REPO = pathlib.Path(__file__).resolve().parent.parent
SPEC = BackboneSpec("vit_tiny", (256, 128), "flat1d")
FEATURES = 2e-5  # largest difference allowed here; the command itself allows `proof.LIMIT`


def trained_values(rng, path: str, shape) -> np.ndarray:
  """Returns parameters of the sizes that training leaves: features are of order one, no block is idle."""
  name = path.split("/")[-1]
  if name in ("bias", "scale"):
    return (name == "scale") + 0.2 * rng.standard_normal(shape, np.float32)
  if name == "kernel":
    return rng.standard_normal(shape, np.float32) * np.float32(shape[-2] ** -0.5)
  return 0.5 * rng.standard_normal(shape, np.float32)


@pytest.fixture(scope="module")
def weights():
  """A ViT-Ti with SAIP's heads, narrow ones, and a teacher that is another."""
  recipe = load_recipe(REPO / "configs" / "saip_demo.py")
  settings = [s for s in TINY if not s.startswith(("model.", "data.canvas"))]
  settings += ["model.backbone=vit_tiny", "model.image_hw=(256, 128)", "method.css.scene_size=192"]
  method = METHODS["saip"].build(parse_config(apply_overrides(recipe, [f"--config.{s}" for s in settings])))
  params, _ = jax.eval_shape(method.init, jax.random.key(0))
  shapes = flatten(jax.tree.map(lambda a: np.broadcast_to(np.float32(0), a.shape), params))
  trees = []
  for seed in (0, 1):
    rng = np.random.default_rng(seed)
    trees.append(unflatten({path: trained_values(rng, path, a.shape) for path, a in shapes.items()}))
  return Weights(SPEC, *trees, origin="made-up weights")


@pytest.fixture
def checkpoint(weights, monkeypatch):
  """Lets the command find these weights whatever checkpoint it is given."""
  monkeypatch.setattr(export, "open_weights", lambda path: weights)


def run(*arguments) -> int:
  return cli.main(["export", "--checkpoint=W", *arguments])


def parity(folder: pathlib.Path) -> dict:
  return json.loads((folder / "parity.json").read_text())


CASES = [
    ("timm", (), (256, 128), 150),
    ("timm", ("--which=teacher", "--image-hw=256x192"), (256, 192), 150),
    ("timm", ("--image-hw=384x128",), (384, 128), 150),
    ("safetensors", (), (256, 128), 150),
    ("saip", ("--which=teacher",), (256, 128), 472),
    ("mae", (), (256, 128), 150),
    ("dino", ("--which=teacher",), (256, 128), 300),
    ("vitpose", (), (256, 256), 150),
    ("mmpose", (), (256, 192), 150),
    ("torchscript", (), (256, 128), 150),
    ("torchscript", ("--image-hw=128x64", "--positions=flat1d"), (128, 64), 150),
]


@pytest.fixture
def one_thread():
  """The machine's cores are shared: threads of PyTorch that wait for each other cost more than they bring."""
  torch = pytest.importorskip("torch")
  pytest.importorskip("timm")
  threads = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(threads)


@pytest.mark.torch
@pytest.mark.parametrize("dialect, flags, image_hw, tensors", CASES, ids=lambda v: str(v))
def test_reloaded_files_compute_the_same(tmp_path, checkpoint, one_thread, capfd, dialect, flags, image_hw, tensors):
  out = tmp_path / "new" / "out"
  assert run(f"--dialect={dialect}", f"--out={out}", *flags) == 0
  printed = capfd.readouterr()
  assert printed.out.count("\n") == 1 and not printed.err, printed
  assert str(out) in printed.out and "largest difference" in printed.out
  record = parity(out)
  outputs = record["outputs"]
  for name, output in outputs.items():
    assert output["max_abs_difference"] <= FEATURES, name
    assert output["max_abs_value"] > 1 and output["shape"][0] == 3, name
  assert {"cls", "patch_tokens"} <= outputs.keys()
  assert ("tapped_layer" in outputs) == (dialect in ("timm", "safetensors", "saip"))
  assert tuple(record["model"]["image_hw"]) == image_hw and record["tensors"] == tensors
  assert sorted(path.name for path in out.parent.iterdir()) == ["out"]


@pytest.mark.torch
@pytest.mark.parametrize("image_hw", [(256, 128), (256, 192), (384, 128)], ids=lambda hw: "{}x{}".format(*hw))
def test_timm_and_transformers_load_the_folder(tmp_path, checkpoint, weights, one_thread, image_hw):
  import timm
  import torch
  transformers = pytest.importorskip("transformers")
  from safetensors.torch import load_file

  out, (height, width) = tmp_path / "out", image_hw
  assert run("--dialect=timm", f"--out={out}", f"--image-hw={height}x{width}") == 0
  images = proof.probe_images(image_hw)
  features = proof.jax_features(weights.resized(image_hw), "student", images)
  ours = np.concatenate([features["cls"][:, None], features["patch_tokens"]], axis=1)
  x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())

  plain = timm.create_model("vit_tiny_patch16_224", img_size=image_hw, num_classes=0).eval()
  state = load_file(out / "model.safetensors")
  plain.load_state_dict(state, strict=True)
  assert sum(tensor.numel() for tensor in state.values()) == 5_511_360 + (height * width // 256 - 128) * 192
  folder = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
  hugging = transformers.AutoModel.from_pretrained(out).eval()
  with torch.no_grad():
    tokens = plain.forward_features(x).numpy()
    assert np.abs(tokens - ours).max() <= FEATURES
    np.testing.assert_array_equal(folder.forward_features(x).numpy(), tokens)
    np.testing.assert_array_equal(folder(x).numpy(), tokens[:, 0])
    output = hugging(x)
  np.testing.assert_array_equal(output.last_hidden_state.numpy(), tokens)
  np.testing.assert_array_equal(output.pooler_output.numpy(), tokens[:, 0])

  data = timm.data.resolve_model_data_config(folder)
  assert data["input_size"] == (3, *image_hw) and data["crop_mode"] == "squash" and data["crop_pct"] == 1.0
  facts = weights.spec.facts()
  assert [list(data["mean"]), list(data["std"])] == [facts["mean"], facts["std"]]
  picture = np.random.default_rng(0).integers(0, 256, (100, 90, 3), np.uint8)
  pixels = transformers.AutoImageProcessor.from_pretrained(out)(picture, return_tensors="pt")["pixel_values"]
  assert pixels.shape == (1, 3, *image_hw)


def check_onnx(tmp_path, weights, image_hw, *flags):
  onnx = pytest.importorskip("onnx")
  pytest.importorskip("onnxscript")
  onnxruntime = pytest.importorskip("onnxruntime")
  out, (height, width) = tmp_path / "out", image_hw
  assert run("--dialect=onnx", f"--out={out}", f"--image-hw={height}x{width}", *flags) == 0
  record = parity(out)
  assert all(output["max_abs_difference"] <= FEATURES for output in record["outputs"].values())
  model = onnx.load(out / "model.onnx")
  onnx.checker.check_model(model)
  assert model.opset_import[0].version >= 17
  assert {tensor.data_type for tensor in model.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
  session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
  assert [o.name for o in session.get_outputs()] == ["cls", "patch_tokens"]
  assert session.get_inputs()[0].shape == ["batch", 3, height, width]
  images = proof.probe_images(image_hw)
  ours = proof.jax_features(weights.resized(image_hw), "student", images)
  for batch in (1, 3):
    cls, tokens = session.run(None, {"images": images[:batch].transpose(0, 3, 1, 2)})
    assert np.abs(cls - ours["cls"][:batch]).max() <= FEATURES
    assert np.abs(tokens - ours["patch_tokens"][:batch]).max() <= FEATURES
  return out, record


@pytest.mark.torch
def test_onnx_takes_pixels_where_asked(tmp_path, checkpoint, weights, one_thread, capfd):
  out, record = check_onnx(tmp_path, weights, (256, 128), "--with-preprocessing")
  printed = capfd.readouterr()
  assert printed.out.count("\n") == 1 and not printed.err, printed
  assert sorted(record["outputs"]) == ["cls", "cls from pixels", "patch_tokens", "patch_tokens from pixels"]
  assert {path.name for path in out.iterdir()} == {"model.onnx", "model_with_preproc.onnx", "README.md", "parity.json"}


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("image_hw", [(256, 192), (384, 128)], ids=lambda hw: "{}x{}".format(*hw))
def test_onnx_at_other_sizes(tmp_path, checkpoint, weights, one_thread, image_hw):
  check_onnx(tmp_path, weights, image_hw)


@pytest.mark.torch
def test_parity_json_is_complete(tmp_path, checkpoint, weights, one_thread):
  out = tmp_path / "out"
  assert run("--dialect=timm", f"--out={out}") == 0
  record = parity(out)
  assert {path.name for path in out.iterdir()} == {*record["files"], "parity.json"}
  assert {"config.json", "model.safetensors", "inter_norm.safetensors", "README.md"} == record["files"].keys()
  for name, facts in record["files"].items():
    content = (out / name).read_bytes()
    assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
  model = record["model"]
  assert (model["heads"], model["norm_eps"], model["gelu"], model["grid"]) == (3, 1e-6, "exact", [16, 8])
  assert model["pos_interpolation"] == "flat1d" and record["which"] == "student"
  assert record["parity"]["limit"] == 1e-4 and "timm.create_model" in record["parity"]["reloaded_with"]
  worst = max(output["max_abs_difference"] for output in record["outputs"].values())
  assert record["parity"]["max_abs_difference"] == worst
  rng = np.random.default_rng(record["inputs"]["seed"])
  images = rng.standard_normal((3, 256, 128, 3), dtype="float32")
  cls = proof.jax_features(weights, "student", images)["cls"]
  np.testing.assert_allclose(record["outputs"]["cls"]["saip_jax"], cls[0, :8], rtol=1e-6)
  np.testing.assert_allclose(record["outputs"]["cls"]["reloaded"], cls[0, :8], atol=FEATURES)
  assert {"jax", "torch", "timm", "saip_jax"} <= record["versions"].keys()


@pytest.mark.torch
def test_published_file_has_the_published_parameters(tmp_path, checkpoint, weights, one_thread):
  import torch

  out = tmp_path / "out"
  assert run("--dialect=saip", f"--out={out}") == 0
  content = torch.load(out / "model.pth", weights_only=True)
  for who, prefix in (("student", "module.backbone."), ("teacher", "backbone.")):
    assert sum(t.numel() for name, t in content[who].items() if name.startswith(prefix)) == 5_511_744
    assert all(t.dtype == torch.float32 and t.is_contiguous() for t in content[who].values())


@pytest.mark.torch
def test_an_export_can_be_exported_again(tmp_path, checkpoint, monkeypatch, one_thread):
  """What is read back through `open_weights` is the same to the bit."""
  assert run("--dialect=timm", f"--out={tmp_path / 'direct'}") == 0
  assert run("--dialect=saip", f"--out={tmp_path / 'saip'}") == 0
  monkeypatch.undo()
  for source in ("saip", "direct"):
    command = ["export", f"--checkpoint={tmp_path / source}", "--dialect=timm", f"--out={tmp_path / source}-timm"]
    assert cli.main(command) == 0
    for name in ("model.safetensors", "inter_norm.safetensors"):
      assert (tmp_path / f"{source}-timm" / name).read_bytes() == (tmp_path / "direct" / name).read_bytes()


@pytest.mark.torch
@pytest.mark.parametrize("fault", ["swapped", "not a number"])
def test_what_computes_something_else_is_not_left_behind(tmp_path, checkpoint, monkeypatch, one_thread, capfd, fault):
  class Faulty:
    def to_state(self, weights, which):
      state = dict(DIALECTS["timm"].to_state(weights, which))
      name = "blocks.3.attn.qkv.weight"
      state[name] = np.roll(state[name], 192, axis=0) if fault == "swapped" else state[name] * np.float32("nan")
      return state

  monkeypatch.setitem(export.DIALECTS, "safetensors", Faulty())
  assert run("--dialect=safetensors", f"--out={tmp_path / 'out'}") == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and "patch_tokens" in error and "0.0001" in error
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dialect", ["timm", "safetensors"])
def test_without_pytorch_the_files_are_written_and_the_proof_is_not_run(
    tmp_path, checkpoint, weights, monkeypatch, capfd, dialect
):
  monkeypatch.setitem(sys.modules, "torch", None)  # makes every import of it fail
  out = tmp_path / "out"
  assert run(f"--dialect={dialect}", f"--out={out}") == 0
  reason = "not run: PyTorch is not installed; pip install -e '.[torch]' mends it"
  printed = capfd.readouterr()
  assert reason in printed.out and printed.out.count("\n") == 1 and not printed.err
  record = parity(out)
  assert record["parity"] == reason and reason in (out / "README.md").read_text()
  assert len(record["outputs"]["cls"]["saip_jax"]) == 8 and record["files"]["model.safetensors"]["bytes"] > 22e6
  tensors, metadata = read_tensors(out / "model.safetensors")
  assert metadata == {"format": "pt"} and not {"mask_token", "inter_norm.weight"} & tensors.keys()
  for name, tensor in DIALECTS["timm"].to_state(weights, "student").items():
    np.testing.assert_array_equal(tensors.pop(name), tensor)
  assert not tensors


@pytest.mark.parametrize("dialect", ["saip", "mae", "dino", "vitpose", "mmpose", "onnx", "torchscript"])
def test_what_needs_pytorch_says_so(tmp_path, checkpoint, monkeypatch, capfd, dialect):
  monkeypatch.setitem(sys.modules, "torch", None)
  assert run(f"--dialect={dialect}", f"--out={tmp_path / 'out'}") == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and "PyTorch is not installed" in error and ".[torch]" in error
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flags, words", [
    (["--dialect=tim"], ["did you mean 'timm'"]),
    (["--dialect=timm", "--with-preprocessing"], ["--dialect=onnx"]),
    (["--dialect=timm", "--image-hw=250x125"], ["250x125", "multiples", "16"]),
    (["--dialect=timm", "--out={tmp}"], ["--out={tmp}", "exists"]),
    (["--dialect=timm", "--out={tmp}/file"], ["--out={tmp}/file", "exists"]),
    (["--dialect=timm", "--out=/proc/nowhere/x"], ["/proc/nowhere"]),
    (["--dialect=timm", "--size=3"], ["--size=3", "--help"]),
])
def test_a_mistake_is_one_line(tmp_path, checkpoint, monkeypatch, capfd, flags, words):
  monkeypatch.setitem(sys.modules, "torch", None)
  (tmp_path / "file").touch()
  flags = [flag.format(tmp=tmp_path) for flag in (["--out={tmp}/out"] + flags)]
  assert run(*flags) == 2
  error = capfd.readouterr().err
  assert error.startswith("saip export: error: ") and error.count("\n") == 1, error
  assert all(word.format(tmp=tmp_path) in error for word in words), error
  assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.torch
def test_vitpose_takes_squares_only(tmp_path, checkpoint, one_thread, capfd):
  assert run("--dialect=vitpose", f"--out={tmp_path / 'out'}", "--image-hw=256x192") == 2
  assert "--image-hw=256x256" in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_a_broken_installation_is_told_apart_from_none(tmp_path, checkpoint, monkeypatch, capfd):
  def fail(package):
    raise RuntimeError("operator torchvision::nms\ndoes not exist")

  monkeypatch.setattr(torch_model.importlib, "import_module", fail)
  assert run("--dialect=mae", f"--out={tmp_path / 'out'}") == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and "torch cannot be imported (operator torchvision::nms does not exist)" in error


def test_weights_without_a_teacher_are_refused_by_name(tmp_path, checkpoint, weights, monkeypatch, capfd):
  monkeypatch.setitem(sys.modules, "torch", None)
  monkeypatch.setattr(export, "open_weights", lambda path: dataclasses.replace(weights, teacher=None))
  assert run("--dialect=timm", "--which=teacher", f"--out={tmp_path / 'out'}") == 2
  assert "no teacher" in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_the_card_tells_how_the_weights_were_made(tmp_path, checkpoint, monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  run_folder = tmp_path / "W"
  for step in (2, 40):
    (run_folder / "checkpoints" / str(step)).mkdir(parents=True)
  (run_folder / "config.json").write_text(json.dumps({
      "batch_size": 2048, "precision": "bfloat16", "total_steps": 100, "data": {"source": "folder", "path": "/a/crops"},
      "method": {"name": "saip", "fidelity": "official"}, "init_from": None,
  }))
  for checkpoint_path, step, images in ((run_folder, 40, "81,920"), (run_folder / "checkpoints" / "2", 2, "4,096")):
    out = tmp_path / f"out{step}"
    assert cli.main(["export", f"--checkpoint={checkpoint_path}", "--dialect=timm", f"--out={out}"]) == 0
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n") and "{" not in card
    for words in ("saip, fidelity official", f"| {step} of 100 |", "| crops |", images, "256x128", "3 heads"):
      assert words in card, words
    assert str(tmp_path) not in card
  told = run_history(run_folder)
  assert told == run_history(tmp_path / "out40") == run_history(tmp_path / "out40" / "model.safetensors")
  assert run_history(tmp_path / "out40" / "other.safetensors") == run_history(tmp_path) == {}


def test_no_folders_of_the_own_disk_are_told():
  assert shortened("step 200 of the run /home/me/runs/W") == "step 200 of the run runs/W"
  assert shortened("/data/a/model.pth (saip)") == "a/model.pth (saip)" and shortened("model.pth") == "model.pth"


@pytest.mark.torch
def test_the_lines_in_the_readme_work(tmp_path, checkpoint, one_thread, capfd):
  blocks = re.findall(r"```python\n(.*?)```", (REPO / "README.md").read_text(), re.DOTALL)
  lines = [block for block in blocks if "local-dir:" in block]
  if not lines:
    pytest.skip("README.md has no python block with local-dir: yet")
  assert len(lines) == 1 and len(lines[0].splitlines()) <= 12
  assert run("--dialect=timm", f"--out={tmp_path / 'DIR'}") == 0
  capfd.readouterr()
  import torch

  torch.manual_seed(0)
  exec(lines[0].replace("local-dir:DIR", f"local-dir:{tmp_path / 'DIR'}"), {})
  assert float(capfd.readouterr().out.split()[-1]) < 0.5  # the layer has learned its labels
