"""Exported files, read back by their target programs, compute the same as the weights."""

import hashlib

import numpy as np
import pytest

from saip_jax import cli
from saip_jax.interop import proof
from saip_jax.interop.dialects import DIALECTS
from tests.support.exports import parity, run

FEATURES = 2e-5  # largest difference allowed here; the command itself allows `proof.LIMIT`


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


@pytest.mark.torch
@pytest.mark.parametrize("dialect, flags, image_hw, tensors", CASES, ids=lambda v: str(v))
def test_reloaded_files_compute_the_same(tmp_path, checkpoint, torch, capfd, dialect, flags, image_hw, tensors):
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
def test_timm_and_transformers_load_the_folder(tmp_path, checkpoint, weights, torch, image_hw):
  import timm

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
def test_onnx_takes_pixels_where_asked(tmp_path, checkpoint, weights, torch, capfd):
  out, record = check_onnx(tmp_path, weights, (256, 128), "--with-preprocessing")
  printed = capfd.readouterr()
  assert printed.out.count("\n") == 1 and not printed.err, printed
  assert sorted(record["outputs"]) == ["cls", "cls from pixels", "patch_tokens", "patch_tokens from pixels"]
  assert {path.name for path in out.iterdir()} == {"model.onnx", "model_with_preproc.onnx", "README.md", "parity.json"}


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("image_hw", [(256, 192), (384, 128)], ids=lambda hw: "{}x{}".format(*hw))
def test_onnx_at_other_sizes(tmp_path, checkpoint, weights, torch, image_hw):
  check_onnx(tmp_path, weights, image_hw)


@pytest.mark.torch
def test_parity_json_is_complete(tmp_path, checkpoint, weights, torch):
  out = tmp_path / "out"
  assert run("--dialect=timm", f"--out={out}") == 0
  record = parity(out)
  files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
  assert files == {*record["files"], "parity.json"}
  assert {"config.json", "model.safetensors", "extra/inter_norm.safetensors", "README.md"} == record["files"].keys()
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
def test_published_file_has_the_published_parameters(tmp_path, checkpoint, weights, torch):

  out = tmp_path / "out"
  assert run("--dialect=saip", f"--out={out}") == 0
  content = torch.load(out / "model.pth", weights_only=True)
  for who, prefix in (("student", "module.backbone."), ("teacher", "backbone.")):
    assert sum(t.numel() for name, t in content[who].items() if name.startswith(prefix)) == 5_511_744
    assert all(t.dtype == torch.float32 and t.is_contiguous() for t in content[who].values())


@pytest.mark.torch
def test_an_export_can_be_exported_again(tmp_path, checkpoint, monkeypatch, torch):
  """What is read back through `open_weights` is the same to the bit."""
  assert run("--dialect=timm", f"--out={tmp_path / 'direct'}") == 0
  assert run("--dialect=saip", f"--out={tmp_path / 'saip'}") == 0
  monkeypatch.undo()
  for source in ("saip", "direct"):
    command = ["export", f"--checkpoint={tmp_path / source}", "--dialect=timm", f"--out={tmp_path / source}-timm"]
    assert cli.main(command) == 0
    for name in ("model.safetensors", "extra/inter_norm.safetensors"):
      assert (tmp_path / f"{source}-timm" / name).read_bytes() == (tmp_path / "direct" / name).read_bytes()


@pytest.mark.torch
@pytest.mark.parametrize("fault", ["swapped", "not a number"])
def test_what_computes_something_else_is_not_left_behind(tmp_path, checkpoint, monkeypatch, torch, capfd, fault):
  class Faulty:
    def to_state(self, weights, which):
      state = dict(DIALECTS["timm"].to_state(weights, which))
      name = "blocks.3.attn.qkv.weight"
      state[name] = np.roll(state[name], 192, axis=0) if fault == "swapped" else state[name] * np.float32("nan")
      return state

  monkeypatch.setitem(DIALECTS, "safetensors", Faulty())
  assert run("--dialect=safetensors", f"--out={tmp_path / 'out'}") == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and "patch_tokens" in error and "0.0001" in error
  assert not list(tmp_path.iterdir())
