"""Folders of transformers, in the names of its versions 4 and 5: features are those of its models."""

import json

import numpy as np
import pytest

from saip_jax import cli
from saip_jax.interop.tensor_files import write_safetensors
from saip_jax.interop.torch_model import import_package, quiet
from saip_jax.interop.weights import open_weights
from tests.support.published_vits import DEPTH, features_here, images_of, make_shallow, state_of, trained

FEATURES = 1e-4
# Name here -> class in transformers, its own settings, native size, size of a person; the width is 384.
MODELS = {
  "vit_small": ("ViT", {"intermediate_size": 1536, "image_size": 224}, (224, 224), (256, 128)),
  "dinov2_small": ("Dinov2", {"patch_size": 14, "image_size": 518}, (518, 518), (224, 112)),
  "dinov2_small_reg": ("Dinov2WithRegisters", {"patch_size": 14, "image_size": 518}, (518, 518), (224, 112)),
  "dinov3_small": (
    "DINOv3ViT",
    {"intermediate_size": 1536, "num_register_tokens": 4, "image_size": 256},
    (256, 256),
    (256, 128),
  ),
}
# Names of version 5 -> those of version 4, which files on the hub have.
VERSION_4 = {
  "vit_small": (
    ("layers.", "encoder.layer."),
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
  ),
  "dinov2_small": (
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
  ),
  "dinov3_small": (("model.layer.", "layer."),),
}
VERSION_4["dinov2_small_reg"] = VERSION_4["dinov2_small"]
IMAGES = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def shallow(monkeypatch, torch):
  make_shallow(monkeypatch, *MODELS)


@pytest.fixture(scope="module", params=list(MODELS))
def model(request):
  """A model of transformers with trained-looking weights, and its name here."""
  pytest.importorskip("transformers")
  import_package("torchvision")
  import transformers

  kind, settings, _, _ = MODELS[request.param]
  sizes = {"hidden_size": 384, "num_hidden_layers": DEPTH, "num_attention_heads": 6}
  config = getattr(transformers, f"{kind}Config")(**sizes, **settings)
  return request.param, trained(getattr(transformers, f"{kind}Model")(config))


def renamed(name: str, state: dict) -> dict:
  found = {}
  for tensor, a in state.items():
    for new, old in VERSION_4[name]:
      tensor = tensor.replace(new, old)
    found[tensor] = a
  return found


def folder_of(folder, model, version: int, prefix: str = ""):
  name, module = model
  state = state_of(module)
  state = renamed(name, state) if version == 4 else state
  write_safetensors(folder / "model.safetensors", {prefix + n: a for n, a in state.items()})
  (folder / "config.json").write_text(module.config.to_json_string())
  (folder / "preprocessor_config.json").write_text(json.dumps(IMAGES))
  return folder


def features_in_transformers(model, images):
  import torch

  name, module = model
  with torch.no_grad():
    tokens = module(torch.tensor(images.transpose(0, 3, 1, 2))).last_hidden_state.numpy()
  prefix = 5 if name in ("dinov2_small_reg", "dinov3_small") else 1
  return tokens[:, 0], tokens[:, prefix:]


@pytest.mark.parametrize("version", [4, 5])
def test_features_are_those_of_transformers(tmp_path, model, version):
  name = model[0]
  weights = open_weights(folder_of(tmp_path, model, version))
  assert weights.spec.name == name and weights.normalization == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
  assert weights.spec.build().norm_eps == {"vit_small": 1e-12, "dinov3_small": 1e-5}.get(name, 1e-6)
  _, _, native, person = MODELS[name]
  # transformers resizes the positions of a ViT and of DINOv2 without registers otherwise, not antialiased.
  sizes = [native, person] if name in ("dinov2_small_reg", "dinov3_small") else [native]
  for image_hw in sizes:
    images = images_of(image_hw)
    theirs, ours = features_in_transformers(model, images), features_here(weights.resized(image_hw), images)
    for one, other in zip((ours.cls, ours.tokens), theirs, strict=True):
      assert np.abs(other).max() > 1
      np.testing.assert_allclose(one, other, rtol=0, atol=FEATURES)


@pytest.mark.parametrize("damage", ["missing", "reshaped"])
@pytest.mark.parametrize("version", [4, 5])
def test_a_damaged_tensor_is_named(tmp_path, model, version, damage):
  folder_of(tmp_path, model, version)
  state = state_of(model[1])
  state = renamed(model[0], state) if version == 4 else state
  unused = ("mask_token", "pooler")
  for tensor in (n for n in state if ".1." not in n and not any(word in n for word in unused)):
    a = state[tensor]
    wrong = {} if damage == "missing" else {tensor: np.concatenate([a, a[..., :1]], axis=-1)}
    write_safetensors(tmp_path / "model.safetensors", {n: b for n, b in state.items() if n != tensor} | wrong)
    with pytest.raises(ValueError) as error:
      open_weights(tmp_path)
    assert "\n" not in str(error.value)
    stated = "register_tokens" in tensor and "prefix_tokens is 4, here 0" in str(error.value)  # by config.json
    assert tensor in str(error.value) or stated, (tensor, str(error.value))


def test_the_epsilon_must_be_stated_and_is_kept(tmp_path, model, capsys):
  name = model[0]
  folder = folder_of(tmp_path, model, 4, prefix="backbone.")
  (folder / "config.json").unlink()
  command = ["import", f"--from={folder / 'model.safetensors'}", f"--out={tmp_path / 'W'}"]
  assert cli.main(command) == 2
  error = capsys.readouterr().err
  assert "config.json" in error and "--norm-eps" in error and error.count("\n") == 1
  assert cli.main([*command, "--norm-eps=3e-5", "--mean=0.1,0.2,0.3", "--std=0.3,0.2,0.1"]) == 2
  assert "--mean and --std differ from what the file states" in capsys.readouterr().err
  (folder / "preprocessor_config.json").unlink()
  assert cli.main([*command, "--norm-eps=3e-5", "--mean=0.1,0.2,0.3", "--std=0.3,0.2,0.1"]) == 0
  kept = open_weights(tmp_path / "W")
  assert kept.spec.build().norm_eps == 3e-5 and kept.normalization == ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1))
  facts = json.loads((tmp_path / "W" / "model.json").read_text())["facts"]
  assert facts["norm_eps"] == 3e-5 and facts["mean"] == [0.1, 0.2, 0.3] and facts["name"] == name
  if name != "vit_small":
    return
  for dialect, code in (("timm", 2), ("safetensors", 0)):  # timm's arguments cannot express it
    out = tmp_path / dialect
    with quiet():
      assert cli.main(["export", f"--checkpoint={tmp_path / 'W'}", f"--dialect={dialect}", f"--out={out}"]) == code
  assert "cannot express norm_eps 3e-05" in capsys.readouterr().err
  assert "layer.eps = 3e-05" in (out / "README.md").read_text()
  assert open_weights(out).spec == kept.spec


@pytest.mark.parametrize(
  "change, words",
  [
    ({"hidden_act": "gelu_pytorch_tanh"}, "gelu is 'gelu_pytorch_tanh'"),
    ({"hidden_act": "quick_gelu"}, "gelu is 'quick_gelu'"),
    ({"num_attention_heads": 12}, "heads is 12, here 6"),
    ({"hidden_size": 768}, "width is 768, here 384"),
  ],
)
def test_another_model_is_refused(tmp_path, change, words):
  pytest.importorskip("transformers")
  import_package("torchvision")
  import transformers

  sizes = {"hidden_size": 384, "num_hidden_layers": DEPTH, "num_attention_heads": 6, "intermediate_size": 1536}
  folder = folder_of(tmp_path, ("vit_small", transformers.ViTModel(transformers.ViTConfig(**sizes))), 5)
  config = json.loads((folder / "config.json").read_text()) | change
  (folder / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError, match=words):
    open_weights(folder)
