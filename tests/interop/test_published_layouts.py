"""Files of published encoders: features are those of timm's models, and damaged files are refused by name."""

import functools
import pathlib

import numpy as np
import pytest

from saip_jax.interop import weight_files
from saip_jax.interop.spec import IMAGENET
from saip_jax.interop.tensor_files import write_safetensors
from saip_jax.interop.weights import load_backbone, loaded_backbone, open_weights
from tests.support.published_layouts import LAYOUTS
from tests.support.published_vits import features_here, features_there, images_of, make_shallow, timm_model

FEATURES = 1e-4
STATED = {"personvit": None, "personvit_teacher": None, "personvit_reid": None}

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def shallow(monkeypatch, torch):
  make_shallow(monkeypatch, *{layout.name for layout in LAYOUTS.values()})


@functools.cache
def content_of(name: str) -> dict:
  return LAYOUTS[name].file()


def opened(monkeypatch, name: str, content=None):
  """Returns the weights of a file of this content, which is not written: the largest hold hundreds of megabytes."""
  monkeypatch.setattr(weight_files, "read_tensors", lambda path: (content or content_of(name), {}))
  return open_weights(pathlib.Path(__file__), **LAYOUTS[name].options)


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_features_are_those_of_timms_model(monkeypatch, name):
  layout, weights = LAYOUTS[name], opened(monkeypatch, name)
  assert weights.spec.name == layout.name and weights.spec.build().patch_padding == layout.padding
  assert weights.normalization == STATED.get(name, IMAGENET)
  assert any("ImageNet's mean and deviation" in note for note in weights.notes)
  person = (224, 112) if weights.spec.patch == 14 else (256, 128)
  weights = weights.resized(person)
  arguments = layout.arguments | {"img_size": person}
  model = timm_model(layout.timm_name, **arguments)
  if layout.padding:
    model.patch_embed.proj.padding = (layout.padding,) * 2
  state = layout.model().state_dict()
  if "pos_embed" in state:  # its resizing is compared elsewhere
    state["pos_embed"] = model.pos_embed.new_tensor(weights.backbone()["pos_embed"])
  model.load_state_dict(state)
  images = images_of(person)
  theirs, ours = features_there(model, images), features_here(weights, images)
  assert np.abs(theirs[0]).max() > 1
  np.testing.assert_allclose(ours.cls, theirs[0], rtol=0, atol=FEATURES)
  np.testing.assert_allclose(ours.tokens, theirs[1], rtol=0, atol=FEATURES)


@pytest.mark.parametrize("name", ["sapiens", "dinov2", "dinov2_registers"])
@pytest.mark.slow
def test_features_at_the_native_size(monkeypatch, name):
  layout, weights = LAYOUTS[name], opened(monkeypatch, name)
  images = images_of(weights.spec.image_hw, 1)
  theirs, ours = features_there(layout.model(), images), features_here(weights, images)
  np.testing.assert_allclose(ours.cls, theirs[0], rtol=0, atol=FEATURES)
  np.testing.assert_allclose(ours.tokens, theirs[1], rtol=0, atol=FEATURES)


def tensors_of(name: str) -> list[str]:
  """Returns one name of each kind of tensor that the encoder computes with."""
  section, _, prefix = LAYOUTS[name].prefix.rpartition("/")
  state = content_of(name)[section] if section else content_of(name)
  unused = ("mask_token", "masked_embed", "periods", "bias_mask", "decoder", "neck", "projectors")
  names = [n for n in state if n.startswith(prefix) and not any(word in n for word in unused)]
  names = [n for n in names if ".1." not in n.removeprefix(prefix) or "ffn" in n]  # one block stands for all
  if "no_class" in name or "released" in name:
    names.remove(f"{prefix}cls_token")  # no block sees it
  return names


def changed(name: str, tensor: str, change) -> dict:
  """Returns the file with a tensor changed; None leaves it out."""
  section = LAYOUTS[name].prefix.rpartition("/")[0]
  content = dict(content_of(name))
  state = dict(content[section] if section else content)
  state[tensor] = change(state[tensor])
  state = {n: a for n, a in state.items() if a is not None}
  return content | {section: state} if section else state


@pytest.mark.parametrize("name", list(LAYOUTS))
@pytest.mark.parametrize("damage", ["missing", "reshaped"])
def test_a_damaged_tensor_is_named(monkeypatch, name, damage):
  """Whatever it is: one line, with the name of the tensor in the file."""
  change = {"missing": lambda a: None, "reshaped": lambda a: np.concatenate([a, a[..., :1]], axis=-1)}[damage]
  prefix = LAYOUTS[name].prefix.rpartition("/")[2]
  tensors = tensors_of(name)
  assert len(tensors) >= 14
  for tensor in tensors:
    own = tensor.removeprefix(prefix)
    if (name, damage, own) == ("dinov2_registers", "missing", "register_tokens"):
      continue  # the rest is a whole DINOv2 without registers
    with pytest.raises(ValueError) as error:
      opened(monkeypatch, name, changed(name, tensor, change))
    assert "\n" not in str(error.value) and len(str(error.value)) < 1200
    assert own in str(error.value), (own, str(error.value))


# What no tensor states.


def state_of_dinov3():
  return content_of("dinov3")


@pytest.mark.parametrize(
  "change, words",
  [
    (lambda s: {n: a for n, a in s.items() if "bias_mask" not in n}, "not zero for keys"),
    (lambda s: s | {"rope_embed.periods": s["rope_embed.periods"] * 1.1}, "'rope_embed.periods' is not that of base"),
  ],
)
def test_what_dinov3_computes_otherwise_is_refused(monkeypatch, change, words):
  with pytest.raises(ValueError, match=words):
    opened(monkeypatch, "dinov3", change(state_of_dinov3()))


def test_a_class_token_without_a_position_is_asked_about(monkeypatch):
  monkeypatch.setattr(weight_files, "read_tensors", lambda path: (content_of("path_released"), {}))
  with pytest.raises(ValueError, match="--class-token=used .* --class-token=unused"):
    open_weights(pathlib.Path(__file__))
  used = open_weights(pathlib.Path(__file__), class_token=True)
  assert used.spec.name == "vit_base" and not used.backbone()["pos_embed"][:, 0].any()


def test_padding_of_patches_is_asked_about(monkeypatch):
  """mmpretrain's ViT without a class token and with other positions than Sapiens': ViTPose pads, others do not."""
  content = {"state_dict": dict(content_of("sapiens")["state_dict"])}
  content["state_dict"]["backbone.pos_embed"] = content["state_dict"]["backbone.pos_embed"][:, :128]
  monkeypatch.setattr(weight_files, "read_tensors", lambda path: (content, {}))
  with pytest.raises(ValueError, match="--patch-padding=2"):
    open_weights(pathlib.Path(__file__))
  for padding in (0, 2):
    weights = open_weights(pathlib.Path(__file__), patch_padding=padding)
    assert weights.spec.build().patch_padding == padding and weights.normalization is None


def test_normalization_is_stated_or_assumed_aloud(tmp_path, monkeypatch, capsys):
  path = tmp_path / "reid.safetensors"
  write_safetensors(path, content_of("personvit_reid"))
  assumed = load_backbone(path).preprocessing
  assert not assumed.stated and (assumed.mean, assumed.std) == IMAGENET
  assert "assumed images with ImageNet's mean and deviation" in capsys.readouterr().err
  stated = open_weights(path, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5))
  loaded = loaded_backbone(stated).preprocessing
  assert loaded.stated and loaded.mean == (0.5, 0.5, 0.5) and loaded.std == (0.5, 0.25, 0.5)
  pixels = np.full((1, 2, 2, 3), 255, np.uint8)
  np.testing.assert_allclose(loaded(pixels)[0, 0, 0], [1, 2, 1])
  for one in ({"mean": (0.5, 0.5, 0.5)}, {"mean": (0.5,) * 3, "std": (0.0, 1.0, 1.0)}):
    with pytest.raises(ValueError, match="--std"):
      open_weights(path, **one)
