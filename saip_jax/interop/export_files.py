"""The files of an export: the tensors or the graph of each dialect, and the config.json that timm reads."""

import json
import pathlib
import re
from typing import Any

import jax
import numpy as np

from saip_jax.backbones.statistics import split_statistics
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.history import shortened
from saip_jax.interop.onnx_file import ONNX_FILE, PIXELS_FILE, describe
from saip_jax.interop.spec import IMAGENET
from saip_jax.interop.stablehlo import STABLEHLO_FILE, write_stablehlo
from saip_jax.interop.tables import to_torch
from saip_jax.interop.tensor_files import write_safetensors
from saip_jax.interop.torch_model import torch_encoder, write_onnx, write_pth, write_torchscript
from saip_jax.interop.weights import Weights

_GRAPHS = ("onnx", "torchscript", "stablehlo")


def write_files(
  dialect: str, folder: pathlib.Path, weights: Weights, which: str, preprocessing: bool, about: dict[str, Any]
) -> dict[str, Any]:
  """Writes the files of a dialect, graphs in float32.

  Args:
    dialect: one of `export.EXPORT_DIALECTS`.
    folder: an empty folder.
    weights: the weights, at the exported size.
    which: a key of `spec.ENCODER_MODULES`.
    preprocessing: with onnx, write a second file whose input is uint8 pixels.
    about: "history", and "license" if there is one.

  Returns:
    Entries of parity.json: the number of tensors in the files or in the traced model, and facts of the format.
  """
  graph = dialect in _GRAPHS
  state = DIALECTS["timm" if graph else dialect].to_state(weights, which)
  spec, tree, facts = weights.spec, weights.backbone(which), weights.spec.facts()
  own = to_torch(
    {name: tree[name] for name in spec.architecture.names.extra_modules}, spec.architecture.names.extra, spec.patch
  )
  if dialect == "stablehlo":
    return {"tensors": _count(state | own), "stablehlo": write_stablehlo(folder / STABLEHLO_FILE, weights, which)}
  if graph:
    own = {name: a for name, a in own.items() if not name.startswith("inter_norm.")}  # no output depends on it
    encoder = torch_encoder(spec, state, own)
    state |= own
  match dialect:
    case "torchscript":
      write_torchscript(folder / "model.ts", encoder, spec.image_hw)
    case "onnx":
      for name in (ONNX_FILE, PIXELS_FILE)[: 1 + preprocessing]:
        write_onnx(folder / name, encoder, facts, preprocessing=name == PIXELS_FILE)
        describe(folder / name, model=facts, which=which, precision="float32", tokens_grid=_tokens_grid(weights, which))
    case "timm" | "safetensors":
      write_safetensors(folder / "model.safetensors", state, {"format": "pt"})
      extra_file = folder / spec.architecture.extra_file
      extra_file.parent.mkdir()
      write_safetensors(extra_file, own, {"format": "pt"})
      if dialect == "timm":
        (folder / "config.json").write_text(as_json(_timm_config(weights, which, about)), "utf-8")
    case _:
      write_pth(folder / "model.pth", state)
  return {"tensors": _count(state)}


def _tokens_grid(weights: Weights, which: str) -> tuple[int, int]:
  """Returns (h, w) of the patch tokens."""
  images = jax.ShapeDtypeStruct((1, *weights.spec.image_hw, 3), np.float32)
  variables = split_statistics(weights.backbone(which))
  return jax.eval_shape(lambda x: weights.spec.build().apply(variables, x, ("tokens",)), images).grid


def as_json(record: dict[str, Any]) -> str:
  """Returns indented JSON with lists of numbers on one line."""
  one_line = lambda numbers: " ".join(numbers[0].split()).replace("[ ", "[").replace(" ]", "]")
  return re.sub(r"\[[-+.\de,\s]+\]", one_line, json.dumps(record, indent=2)) + "\n"


def _count(tensors) -> int:
  return sum(map(_count, tensors.values())) if isinstance(tensors, dict) else int(hasattr(tensors, "ndim"))


def _timm_config(weights: Weights, which: str, about: dict[str, Any]) -> dict[str, Any]:
  """Returns the config.json that timm and transformers read; each reads another of the two image sizes in it."""
  facts, architecture = weights.spec.facts(), weights.spec.architecture
  image_hw = list(facts["image_hw"])
  mean, std = map(list, weights.normalization or IMAGENET)
  made = "; ".join(f"{name}: {value}" for name, value in about["history"].items()) or shortened(weights.origin)
  return {
    "architecture": architecture.timm_name,
    "num_classes": 0,
    "num_features": weights.spec.build().feature_width,
    "global_pool": architecture.pool,
    "model_args": weights.spec.timm_arguments,
    "pretrained_cfg": {
      "tag": "saip_jax",
      "custom_load": False,
      "input_size": [3, *image_hw],
      "fixed_input_size": "img_size" in architecture.arguments(weights.spec.image_hw),
      "interpolation": "bicubic",
      "crop_pct": 1.0,
      "crop_mode": "squash",
      "mean": mean if which != "depth" else [0.0] * 3,
      "std": std if which != "depth" else [1.0] * 3,
      "num_classes": 0,
      "pool_size": None,
      **architecture.pretrained,
      **({"license": about["license"]} if about["license"] else {}),
      "description": f"{which} of a pre-training run, from saip_jax. {made}",
    },
  }
