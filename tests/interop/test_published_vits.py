"""Published ViTs in timm's layout: features are those of timm's models, and weights come and go bit for bit."""

import functools
import json
import re

import numpy as np
import pytest

from saip_jax import cli
from saip_jax.backbones import BACKBONES
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.tensor_files import write_safetensors
from saip_jax.interop.torch_model import quiet
from saip_jax.interop.weights import load_backbone, open_weights
from tests.support.published_vits import (
  DEPTH,
  features_here,
  features_there,
  images_of,
  make_shallow,
  state_of,
  timm_model,
)

FEATURES = 1e-4
# timm's name, its own arguments, the native size, a person's size; tensors of the whole model, and their numbers.
GAP = {"class_token": False, "global_pool": "avg", "fc_norm": False}
PARTS = {"reg_tokens": 3, "no_embed_class": True}
MODELS = {
  "vit_small": ("vit_small_patch16_224", {}, (224, 224), (256, 128)),
  "vit_base": ("vit_base_patch16_224", {}, (224, 224), (256, 128)),
  "vit_large": ("vit_large_patch16_224", {}, (224, 224), (256, 128)),
  "vit_small_gap": ("vit_small_patch16_224", GAP, (224, 224), (256, 128)),
  "vit_base_gap": ("vit_base_patch16_224", GAP, (224, 224), (256, 128)),
  "vit_large_gap": ("vit_large_patch16_224", GAP, (224, 224), (256, 128)),
  "pass_small": ("vit_small_patch16_224", PARTS, (224, 224), (256, 128)),
  "pass_base": ("vit_base_patch16_224", PARTS, (224, 224), (256, 128)),
  "dinov2_small": ("vit_small_patch14_dinov2", {}, (518, 518), (224, 112)),
  "dinov2_base": ("vit_base_patch14_dinov2", {}, (518, 518), (224, 112)),
  "dinov2_large": ("vit_large_patch14_dinov2", {}, (518, 518), (224, 112)),
  "dinov2_small_reg": ("vit_small_patch14_reg4_dinov2", {}, (518, 518), (224, 112)),
  "dinov2_base_reg": ("vit_base_patch14_reg4_dinov2", {}, (518, 518), (224, 112)),
  "dinov2_large_reg": ("vit_large_patch14_reg4_dinov2", {}, (518, 518), (224, 112)),
  "dinov3_tiny": ("vit_tiny_patch16_dinov3_qkvb", {}, (256, 256), (256, 128)),
  "dinov3_small": ("vit_small_patch16_dinov3_qkvb", {}, (256, 256), (256, 128)),
  "dinov3_base": ("vit_base_patch16_dinov3_qkvb", {}, (256, 256), (256, 128)),
  "dinov3_large": ("vit_large_patch16_dinov3_qkvb", {}, (256, 256), (256, 128)),
}
SMALL = [name for name in MODELS if re.search("small|tiny", name)]
LARGER = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name not in SMALL]

pytestmark = pytest.mark.torch


@functools.cache
def model_of(name):
  timm_name, arguments, _, _ = MODELS[name]
  return timm_model(timm_name, **arguments)


@pytest.fixture
def shallow(monkeypatch):
  make_shallow(monkeypatch, *MODELS)


def file_of(folder, name, **beside):
  path = folder / "model.safetensors"
  write_safetensors(path, state_of(model_of(name)))
  for file_name, content in beside.items():
    (folder / f"{file_name}.json").write_text(json.dumps(content))
  return path


def resized_by_timm(name, weights, image_hw):
  """Returns timm's model for another size, its positions resized by timm: antialiased for DINOv2."""
  import timm
  from timm.layers.pos_embed import resample_abs_pos_embed

  timm_name, arguments, _, _ = MODELS[name]
  model = timm.create_model(timm_name, depth=DEPTH, num_classes=0, **arguments, img_size=image_hw)
  state, patch = dict(model_of(name).state_dict()), weights.spec.patch
  if "pos_embed" in state:
    stored, wanted = (list(side // patch for side in hw) for hw in (weights.spec.image_hw, image_hw))
    prefix = state["pos_embed"].shape[1] - stored[0] * stored[1]
    antialias = name.startswith("dinov2")
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], wanted, stored, prefix, antialias=antialias)
  model.load_state_dict(state)
  return model.eval()


@pytest.mark.parametrize("name", [*SMALL, *LARGER])
def test_features_are_those_of_timms_model(tmp_path, torch, shallow, name):
  weights = open_weights(file_of(tmp_path, name))
  assert weights.spec.name == name
  back = DIALECTS["timm"].to_state(weights)
  state = state_of(model_of(name))
  assert back.keys() == state.keys() and all(np.array_equal(back[n], a) for n, a in state.items())
  for image_hw in MODELS[name][2:]:
    images = images_of(image_hw)
    theirs = features_there(resized_by_timm(name, weights, image_hw), images)
    ours = features_here(weights.resized(image_hw), images, ("cls", "tokens"))
    for one, other in zip((ours.cls, ours.tokens), theirs, strict=True):
      assert np.abs(other).max() > 1
      np.testing.assert_allclose(one, other, rtol=0, atol=FEATURES)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_parameter_has_its_tensor(torch, name):
  """The whole model of every size, as shapes alone."""
  import timm
  import torch

  timm_name, arguments, native, _ = MODELS[name]
  with torch.device("meta"):
    model = timm.create_model(timm_name, num_classes=0, **arguments, img_size=native)
  shapes = parameter_shapes(BACKBONES[name](image_hw=native))
  sizes = [np.prod(shape) for path, shape in shapes.items() if not path.startswith("inter_norm/")]
  assert sum(sizes) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["vit_small_gap", "pass_small", "dinov2_small_reg", "dinov3_tiny", "dinov3_small"])
@pytest.mark.parametrize("dialect", ["timm", "safetensors"])
def test_exports_return_to_timm(tmp_path, torch, shallow, name, dialect):
  """By `saip import`, then `saip export`; timm loads the folder by itself and computes the same."""
  import timm

  _, _, native, person = MODELS[name]
  file_of(tmp_path, name, config=timm_config(name, native))
  assert cli.main(["import", f"--from={tmp_path}", f"--out={tmp_path / 'W'}"]) == 0
  out, size = tmp_path / "E", "x".join(map(str, person))
  command = ["export", f"--checkpoint={tmp_path / 'W'}", f"--dialect={dialect}", f"--out={out}", f"--image-hw={size}"]
  assert cli.main(command) == 0
  record = json.loads((out / "parity.json").read_text())
  assert record["parity"]["max_abs_difference"] < 2e-5 and set(record["outputs"]) >= {"cls", "tapped_layer"}
  weights, again = open_weights(tmp_path / "W").resized(person), open_weights(out)
  assert again.spec == weights.spec and again.notes == ()
  for n, a in DIALECTS["timm"].to_state(weights).items():
    np.testing.assert_array_equal(DIALECTS["timm"].to_state(again)[n], a)
  card = (out / "README.md").read_text()
  count = 1 + MODELS[name][1].get("reg_tokens", 4 if "dino" in name else 0) if "gap" not in name else 0
  assert dialect != "timm" or (f"(1, {count} + N, D)" if count else "(1, N, D)") in card
  if dialect == "timm":
    with quiet():
      model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    images = images_of(person)
    theirs, ours = features_there(model, images), features_here(weights, images)
    np.testing.assert_allclose(ours.cls, theirs[0], rtol=0, atol=FEATURES)
    np.testing.assert_allclose(ours.tokens, theirs[1], rtol=0, atol=FEATURES)


def timm_config(name, image_hw, mean=(0.5, 0.4, 0.3)):
  timm_name, arguments, _, _ = MODELS[name]
  images = {"input_size": [3, *image_hw], "mean": list(mean), "std": [0.25, 0.5, 0.5]}
  return {"architecture": timm_name, "model_args": arguments | {"img_size": list(image_hw)}, "pretrained_cfg": images}


def test_the_person_size_of_patches_of_14(tmp_path, torch, shallow):
  path = file_of(tmp_path, "dinov2_small")
  loaded = load_backbone(path, image_hw=(224, 112))
  found = loaded.module.apply(loaded.variables, images_of((224, 112)), ("cls", "tokens", "hidden"))
  assert found.grid == (16, 8) and found.hidden.shape == (2, 129, 384)
  with pytest.raises(ValueError, match="256x128: height and width must be positive multiples of the patch, 14"):
    load_backbone(path, image_hw=(256, 128))


def test_an_export_to_graphs_keeps_prefix_tokens_out(tmp_path, torch, shallow):
  path = file_of(tmp_path, "dinov3_tiny")
  command = ["export", f"--checkpoint={path}", "--image-hw=128x64", f"--out={tmp_path / 'E'}"]
  assert cli.main([*command, "--dialect=torchscript"]) == 0
  record = json.loads((tmp_path / "E" / "parity.json").read_text())
  assert record["outputs"]["patch_tokens"]["shape"] == [3, 32, 192]


def test_dinov3_without_biases_is_the_one_with_zeros(tmp_path, torch, shallow):
  """timm has both: the biases of most published DINOv3 are zero."""
  model = timm_model("vit_small_patch16_dinov3", img_size=(256, 128))
  write_safetensors(tmp_path / "a.safetensors", state_of(model))
  weights = open_weights(tmp_path / "a.safetensors")
  assert weights.spec.name == "dinov3_small" and any("zeros here: queries and values" in n for n in weights.notes)
  images = images_of((256, 128))
  theirs, ours = features_there(model, images), features_here(weights, images)
  np.testing.assert_allclose(ours.cls, theirs[0], rtol=0, atol=FEATURES)
  np.testing.assert_allclose(ours.tokens, theirs[1], rtol=0, atol=FEATURES)
