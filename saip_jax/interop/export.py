"""Export of an encoder for another program, with a proof that it computes the same features there."""

import importlib.metadata
import json
import os
import pathlib
import re
import shutil
from typing import Any

from input_pipeline.checks import choices_hint
from input_pipeline.names import ESCAPED
from input_pipeline.storage import utf8_path, writing
from saip_jax.backbones import OWN_ATTRIBUTES
from saip_jax.interop import proof
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.model_card import model_card, run_history, shortened
from saip_jax.interop.spec import IMAGENET
from saip_jax.interop.tables import to_torch
from saip_jax.interop.tensor_files import sha256, write_safetensors
from saip_jax.interop.torch_model import torch_encoder, why_missing, write_onnx, write_pth, write_torchscript
from saip_jax.interop.weights import Weights, open_weights
from saip_jax.run_folder.remote import published
from saip_jax.version import __version__

_NO_TORCH_NEEDED = ("timm", "safetensors")
_PACKAGES = {"onnx": ("torch", "timm", "onnx", "onnxscript", "onnxruntime")}
EXPORT_DIALECTS = ("timm", "safetensors", "saip", "mae", "dino", "vitpose", "mmpose", "onnx", "torchscript")
# Attributes that the readers of a dialect accept if they differ from the named backbone's.
_OWN_ATTRIBUTES = {
  "timm": ("heads",),
  "saip": ("heads", "last_heads"),
  **{name: OWN_ATTRIBUTES for name in ("safetensors", "onnx", "torchscript")},
}
_USUAL_SIZE = {"vitpose": (256, 256), "mmpose": (256, 192)}
_RELOADED_WITH = {"timm": "timm.create_model('local-dir:...')", "onnx": "onnxruntime", "torchscript": "torch.jit.load"}
_PADDED = (
  "ViTPose pads its patch embedding by 2 pixels (patch_cfg=dict(padding=2) in mmpose), so that its patches lie 2"
  " pixels further up and left than in pre-training; parity.json compares the features with and without padding.",
)
_NOTES = {
  "vitpose": (
    *_PADDED,
    "ViTPose has no class token: it adds the position of the class token to every patch.",
    "Its loader accepts only square position grids, which it then resamples to any size.",
  ),
  "mmpose": (
    *_PADDED,
    "With with_cls_token=False mmpretrain needs positions for exactly img_size: for another size, export"
    " again with --image-hw.",
  ),
}


def export_weights(
  checkpoint,
  dialect: str,
  out,
  which: str = "student",
  image_hw: tuple[int, int] | None = None,
  positions: str | None = None,
  preprocessing: bool = False,
) -> dict[str, Any]:
  """Writes the encoder for another program into a new folder, reads it back and compares the features.

  The folder is written atomically, and only if the features differ by at most `proof.LIMIT`.

  Args:
    checkpoint: any path that `open_weights` reads.
    dialect: one of `EXPORT_DIALECTS`.
    out: the new folder, a local path or a URL.
    which: a key of `spec.ENCODER_MODULES`.
    image_hw: height and width in pixels that positions are resized to; None for those of the weights, for vitpose
      256x256 and for mmpose 256x192.
    positions: how they are resized: "grid2d", or "flat1d" along the raster line, as the published code does; None for
      "grid2d", antialiased for DINOv2.
    preprocessing: with onnx, write a second file whose input is uint8 pixels.

  Returns:
    The content of parity.json.

  Raises:
    ValueError: unknown dialect or unusable size, a folder that is not empty, missing packages, or features that
      differ.
  """
  with published(out, "--out") as folder:
    return _export(checkpoint, dialect, utf8_path(folder, "--out").resolve(), which, image_hw, positions, preprocessing)


def _export(checkpoint, dialect, out, which, image_hw, positions, preprocessing) -> dict[str, Any]:
  """`export_weights` into a local folder."""
  _check_request(dialect, out, which, preprocessing)
  unproven = why_missing(_PACKAGES.get(dialect, ("torch", "timm")))
  if unproven and dialect not in _NO_TORCH_NEEDED:
    raise ValueError(f"--dialect={dialect} cannot be written: {unproven}")
  weights = open_weights(checkpoint)
  weights.backbone(which)  # raises ValueError if there is none
  _check_dialect(dialect, weights)
  if not unproven:
    _check_timm(dialect, weights)
  image_hw = image_hw or _USUAL_SIZE.get(dialect)
  if image_hw:
    weights = weights.resized(image_hw, positions)
  _check_side(dialect, weights)
  height, width = weights.spec.image_hw
  if dialect == "vitpose" and height != width:
    raise ValueError(
      f"--image-hw={height}x{width}: ViTPose's loader accepts only square sizes, such as --image-hw=256x256"
    )

  unfinished = out.with_name(f".{out.name}.unfinished")
  shutil.rmtree(unfinished, ignore_errors=True)  # left by an export that was killed
  with writing(out, "--out=", "choose another folder"):
    unfinished.mkdir(parents=True)
  try:
    history = run_history(checkpoint, weights.step)
    tensors = _write(dialect, unfinished, weights, which, preprocessing, history)
    record = _record(dialect, weights, which, tensors, history)
    if unproven:
      record["parity"] = f"not run: {unproven}"
      record["outputs"] = proof.unproven(weights, which)
    else:
      record |= _prove(dialect, unfinished, weights, which)
    (unfinished / "README.md").write_text(model_card(dialect, record, weights.spec), "utf-8", ESCAPED)
    record["files"] = {
      path.relative_to(unfinished).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
      for path in sorted(unfinished.rglob("*"))
      if path.is_file()
    }
    (unfinished / "parity.json").write_text(_json(record), "utf-8")
    os.replace(unfinished, out)
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)
  return record


def export_summary(record: dict[str, Any], out) -> str:
  """Returns a summary of an export in one line."""
  height, width = record["model"]["image_hw"]
  parity = record["parity"]
  proven = (
    f"parity {parity}"
    if isinstance(parity, str)
    else (f"largest difference {parity['max_abs_difference']:.1e} with {parity['reloaded_with']}")
  )
  return f"{record['dialect']}, {record['which']} at {height}x{width}, {record['tensors']} tensors, {proven}: {out}"


def _check_request(dialect: str, out: pathlib.Path, which: str, preprocessing: bool) -> None:
  if dialect not in EXPORT_DIALECTS:
    raise ValueError(f"--dialect={dialect}: no such dialect{choices_hint(dialect, EXPORT_DIALECTS)}")
  if preprocessing and dialect != "onnx":
    raise ValueError(f"--with-preprocessing needs --dialect=onnx, not --dialect={dialect}")
  if preprocessing and which == "depth":
    raise ValueError("--with-preprocessing is for pixels: the input of --which=depth is depth; leave it out")
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise ValueError(f"--out={out} exists already: choose a new or empty folder")


def _check_dialect(dialect: str, weights: Weights) -> None:
  architecture = weights.spec.architecture
  if dialect not in architecture.dialects:
    reason = f": {architecture.note}" if dialect == "timm" else ""
    raise ValueError(
      f"--dialect={dialect} does not support {weights.spec.name}{reason}; choose one of"
      f" {', '.join(architecture.dialects)}"
    )
  own = set(weights.spec.own_attributes)
  able = [name for name in architecture.dialects if own <= set(_OWN_ATTRIBUTES.get(name, ()))]
  if weights.spec.last_heads and weights.spec.build().rope:  # timm rotates the heads of all blocks alike
    able = []
  if dialect not in able and not own & {"heads", "last_heads"}:
    listed = ", ".join(f"{name} {n}" for name, n in weights.spec.own_attributes.items())
    raise ValueError(f"--dialect={dialect} cannot express {listed}; choose one of {', '.join(able) or 'none'}")
  if dialect not in able:
    facts = weights.spec.facts()
    raise ValueError(
      f"--dialect={dialect} cannot express {facts['heads']} attention heads, {facts['last_heads']} in the last"
      f" block: its readers would compute something else; choose one of {', '.join(able) or 'none'}"
    )


def _check_timm(dialect: str, weights: Weights) -> None:
  oldest, installed = weights.spec.architecture.oldest_timm, importlib.metadata.version("timm")
  numbers = lambda version: tuple(map(int, re.findall(r"\d+", version)[:3]))
  if numbers(installed) < numbers(oldest):
    raise ValueError(
      f"--dialect={dialect} of {weights.spec.name} needs timm {oldest} or newer, {installed} is installed and computes"
      f" something else: pip install 'timm>={oldest}'"
    )


def _check_side(dialect: str, weights: Weights) -> None:
  (height, width), architecture = weights.spec.image_hw, weights.spec.architecture
  if min(height, width) < architecture.smallest or height % architecture.multiple or width % architecture.multiple:
    multiples = f", multiples of {architecture.multiple}" if architecture.multiple > 1 else ""
    raise ValueError(
      f"--image-hw={height}x{width}: PyTorch's {weights.spec.name} needs sides of at least"
      f" {architecture.smallest} pixels{multiples}"
    )


def _write(dialect: str, folder: pathlib.Path, weights: Weights, which: str, preprocessing: bool, history) -> int:
  """Writes the files of a dialect; returns the number of tensors in them or in the traced model."""
  graph = dialect in ("onnx", "torchscript")
  state = DIALECTS["timm" if graph else dialect].to_state(weights, which)
  spec, tree, facts = weights.spec, weights.backbone(which), weights.spec.facts()
  own = to_torch(
    {name: tree[name] for name in spec.architecture.names.extra_modules}, spec.architecture.names.extra, spec.patch
  )
  if graph:
    own = {name: a for name, a in own.items() if not name.startswith("inter_norm.")}  # no output depends on it
    encoder = torch_encoder(spec, state, own)
    state |= own
  match dialect:
    case "torchscript":
      write_torchscript(folder / "model.ts", encoder, spec.image_hw)
    case "onnx":
      write_onnx(folder / "model.onnx", encoder, facts, preprocessing=False)
      if preprocessing:
        write_onnx(folder / "model_with_preproc.onnx", encoder, facts, preprocessing=True)
    case "timm" | "safetensors":
      write_safetensors(folder / "model.safetensors", state, {"format": "pt"})
      extra_file = folder / spec.architecture.extra_file
      extra_file.parent.mkdir()
      write_safetensors(extra_file, own, {"format": "pt"})
      if dialect == "timm":
        (folder / "config.json").write_text(_json(_timm_config(weights, which, history)), "utf-8")
    case _:
      write_pth(folder / "model.pth", state)
  return _count(state)


def _json(record: dict[str, Any]) -> str:
  """Returns indented JSON with lists of numbers on one line."""
  one_line = lambda numbers: " ".join(numbers[0].split()).replace("[ ", "[").replace(" ]", "]")
  return re.sub(r"\[[-+.\de,\s]+\]", one_line, json.dumps(record, indent=2)) + "\n"


def _count(tensors) -> int:
  return sum(map(_count, tensors.values())) if isinstance(tensors, dict) else int(hasattr(tensors, "ndim"))


def _timm_config(weights: Weights, which: str, history: dict[str, str]) -> dict[str, Any]:
  """Returns the config.json that timm and transformers read; each reads another of the two image sizes in it."""
  facts, architecture = weights.spec.facts(), weights.spec.architecture
  image_hw = list(facts["image_hw"])
  mean, std = map(list, weights.normalization or IMAGENET)
  made = "; ".join(f"{name}: {value}" for name, value in history.items()) or shortened(weights.origin)
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
      "description": f"{which} of a pre-training run without labels, from saip_jax. {made}",
    },
  }


def _prove(dialect: str, folder: pathlib.Path, weights: Weights, which: str) -> dict[str, Any]:
  """Returns the results of the proof for parity.json; raises ValueError if an output differs by too much."""
  comparisons = proof.prove(dialect, folder, weights, which)
  # Not `>`: NaN fails too.
  too_much = {name: c.difference for name, c in comparisons.items() if not c.difference <= proof.LIMIT}
  if too_much:
    raise ValueError(
      f"the exported file computes something else: largest difference of {too_much} above {proof.LIMIT:g};"
      " nothing was written"
    )
  return {
    "parity": {
      "reloaded_with": _RELOADED_WITH.get(dialect, "timm"),
      "limit": proof.LIMIT,
      "max_abs_difference": max(c.difference for c in comparisons.values()),
    },
    "outputs": {name: c.record() for name, c in comparisons.items()},
  }


def _record(dialect: str, weights: Weights, which: str, tensors: int, history) -> dict[str, Any]:
  """Returns the entries of parity.json that do not depend on the proof."""
  height, width = weights.spec.image_hw
  return {
    "dialect": dialect,
    "which": which,
    "origin": shortened(weights.origin),
    "history": history,
    "tensors": tensors,
    "notes": [*weights.notes, *_NOTES.get(dialect, ())],
    "model": weights.spec.facts(),
    "inputs": {
      "seed": proof.SEED,
      "images": f"rng.standard_normal((3, {height}, {width}, 3), dtype='float32'), used as normalized RGB",
      "pixels": f"rng.integers(0, 256, (3, {height}, {width}, 3), dtype='uint8'), for graphs that normalize",
      "rng": f"numpy.random.default_rng({proof.SEED}), a new one for each",
    },
    "versions": {"saip_jax": __version__}
    | {package: importlib.metadata.version(package) for package in _VERSIONED if _is_installed(package)},
  }


_VERSIONED = ("jax", "flax", "numpy", "safetensors", "torch", "timm", "onnx", "onnxscript", "onnxruntime")


def _is_installed(package: str) -> bool:
  try:
    importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return False
  return True
