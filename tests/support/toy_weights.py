"""Weights of a toy backbone, and files of them."""

import functools
import pathlib

import numpy as np

from saip_jax.backbones import BACKBONES
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.vit import ViT
from saip_jax.interop.architectures import ARCHITECTURES, vit_architecture
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.spec import BackboneSpec, Weights
from saip_jax.interop.tables import flatten, unflatten
from saip_jax.interop.tensor_files import write_safetensors

FIXTURE = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "saip_official_tiny.npz"


def add_toy_backbone(monkeypatch) -> None:
  """Registers the backbone of the fixture, 24 wide with 8 blocks, as `vit_toy`."""
  monkeypatch.setitem(BACKBONES, "vit_toy", functools.partial(ViT, width=24, depth=8, heads=3))
  monkeypatch.setitem(ARCHITECTURES, "vit_toy", vit_architecture("vit_toy"))


def random_backbone(of: BackboneSpec | Backbone, seed: int = 0) -> dict:
  """Returns random parameters of a backbone."""
  rng = np.random.default_rng(seed)
  shapes = parameter_shapes(of.build() if isinstance(of, BackboneSpec) else of)
  return unflatten({path: rng.random(shape, np.float32) - 0.5 for path, shape in shapes.items()})


def random_weights(name="vit_toy", image_hw=(128, 64), teacher=True) -> Weights:
  """Returns the weights of a student and a different teacher."""
  spec = BackboneSpec(name, image_hw, "flat1d")
  trees = [{"backbone": random_backbone(spec, seed)} for seed in range(2 if teacher else 1)]
  return Weights(spec, trees[0], trees[1] if teacher else None, "random")


def official_states() -> tuple[dict, dict]:
  """Returns the state dicts of student and teacher in the fixture, with the published names."""
  with np.load(FIXTURE) as archive:
    arrays = dict(archive)
  return tuple(
    {name.removeprefix(f"{who}/"): a for name, a in arrays.items() if name.startswith(f"{who}/")}
    for who in ("student", "teacher")
  )


def published(student: dict, teacher: dict | None) -> dict:
  """Returns the content of a published file: the student's names have the prefix `module.`."""
  content = {"student": {f"module.{name}": a for name, a in student.items()}}
  return content if teacher is None else content | {"teacher": teacher}


def save_pth(path, content, **others):
  """Writes nested dicts of arrays, and other values, with torch.save; returns the path."""
  import torch

  def convert(value):
    if isinstance(value, dict):
      return {name: convert(v) for name, v in value.items()}
    return torch.from_numpy(np.array(value, order="C")) if isinstance(value, np.ndarray) else value

  torch.save(convert(content) | others, path)
  return path


def assert_same(ours: dict, theirs: dict):
  ours, theirs = flatten(ours), flatten(theirs)
  assert ours.keys() == theirs.keys()
  for path, value in theirs.items():
    np.testing.assert_array_equal(ours[path], value, err_msg=path)


def timm_file(path, weights=None, **metadata) -> pathlib.Path:
  """Writes the backbone as a safetensors file in timm's names."""
  write_safetensors(path, DIALECTS["timm"].to_state(weights or random_weights()), metadata)
  return path
