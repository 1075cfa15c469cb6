"""Export of an encoder for another program, with a proof that it computes the same features there."""

import importlib.metadata
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from input_pipeline.names import ESCAPED
from input_pipeline.storage import utf8_path, writing
from saip_jax.interop import proof
from saip_jax.interop.export_files import as_json, write_files
from saip_jax.interop.export_request import ExportRequest, check_dialect, check_request, check_side, check_timm
from saip_jax.interop.history import run_history, shortened
from saip_jax.interop.model_card import model_card
from saip_jax.interop.precision import LEAST_COSINE, kept_cosine, reduce_precision
from saip_jax.interop.tensor_files import sha256
from saip_jax.interop.weights import Weights, open_weights
from saip_jax.run_folder.remote import published
from saip_jax.version import __version__

_NO_TORCH_NEEDED = ("timm", "safetensors", "stablehlo")
_USUAL_SIZE = {"vitpose": (256, 256), "mmpose": (256, 192)}
_RELOADED_WITH = {
  "timm": "timm.create_model('local-dir:...')",
  "onnx": "onnxruntime",
  "torchscript": "torch.jit.load",
  "stablehlo": "jax.export.deserialize",
}
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
  precision: str = "float32",
  images: Callable[[tuple[int, int]], tuple[np.ndarray, dict[str, Any]]] | None = None,
  least_cosine: float = LEAST_COSINE,
  license: str | None = None,
) -> dict[str, Any]:
  """Writes the encoder for another program into a new folder, reads it back and compares the features.

  The folder is written atomically, and only if the features differ by at most `proof.LIMIT`, or those of float16 and
  int8 keep their cosine.

  Args:
    checkpoint: any path that `open_weights` reads, or open weights.
    dialect: one of `EXPORT_DIALECTS`.
    out: the new folder, a local path or a URL.
    which: a key of `spec.ENCODER_MODULES`.
    image_hw: height and width in pixels that positions are resized to; None for those of the weights, for vitpose
      256x256 and for mmpose 256x192.
    positions: how they are resized: "grid2d", or "flat1d" along the raster line, as the published code does; None for
      "grid2d", antialiased for DINOv2.
    preprocessing: with onnx, write a second file whose input is uint8 pixels.
    precision: with onnx, one of `PRECISIONS`.
    images: for float16 and int8, size in pixels -> ((n, H, W, 3) uint8 RGB images, facts about them), which int8 is
      calibrated on and features are compared on; see `evaluation.calibration`.
    least_cosine: see `precision.LEAST_COSINE`.
    license: the license of the weights, for the model card; None leaves it unstated.

  Returns:
    The content of parity.json.

  Raises:
    ValueError: unknown dialect or precision, unusable size, a folder that is not empty, missing packages, or features
      that differ.
  """
  request = ExportRequest(dialect, which, image_hw, positions, preprocessing, precision, images, least_cosine, license)
  with published(out, "--out") as folder:
    return _export(checkpoint, utf8_path(folder, "--out").resolve(), request)


def _export(checkpoint, out: pathlib.Path, request: ExportRequest) -> dict[str, Any]:
  """`export_weights` into a local folder."""
  dialect, which = request.dialect, request.which
  check_request(out, request)
  unproven = request.why_missing()
  if unproven and dialect not in _NO_TORCH_NEEDED:
    raise ValueError(f"--dialect={dialect} cannot be written: {unproven}")
  opened = isinstance(checkpoint, Weights)
  weights = checkpoint if opened else open_weights(checkpoint)
  weights.backbone(which)  # raises ValueError if there is none
  check_dialect(dialect, weights)
  if dialect != "stablehlo" and not unproven:
    check_timm(dialect, weights)
  image_hw = request.image_hw or _USUAL_SIZE.get(dialect)
  if image_hw:
    weights = weights.resized(image_hw, request.positions)
  check_side(dialect, weights)
  height, width = weights.spec.image_hw
  if dialect == "vitpose" and height != width:
    raise ValueError(
      f"--image-hw={height}x{width}: ViTPose's loader accepts only square sizes, such as --image-hw=256x256"
    )
  pixels, source = request.images(weights.spec.image_hw) if request.precision != "float32" else (None, None)

  unfinished = out.with_name(f".{out.name}.unfinished")
  shutil.rmtree(unfinished, ignore_errors=True)  # left by an export that was killed
  with writing(out, "--out=", "choose another folder"):
    unfinished.mkdir(parents=True)
  try:
    about = {} if opened else run_history(checkpoint, weights.step, which)
    about = {"history": {}, "license": None} | about | ({"license": request.license} if request.license else {})
    written = write_files(dialect, unfinished, weights, which, request.preprocessing, about)
    record = _record(dialect, weights, which, about | written)
    if unproven:
      record["parity"] = f"not run: {unproven}"
      record["outputs"] = proof.unproven(weights, which)
    elif pixels is None:
      record |= _prove(dialect, unfinished, weights, which)
    else:
      record |= _reduce(unfinished, weights, request, pixels, source)
    (unfinished / "README.md").write_text(model_card(dialect, record, weights.spec), "utf-8", ESCAPED)
    record["files"] = {
      path.relative_to(unfinished).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
      for path in sorted(unfinished.rglob("*"))
      if path.is_file()
    }
    (unfinished / "parity.json").write_text(as_json(record), "utf-8")
    os.replace(unfinished, out)
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)
  return record


def export_summary(record: dict[str, Any], out) -> str:
  """Returns a summary of an export in one line."""
  height, width = record["model"]["image_hw"]
  parity, precision = record["parity"], record.get("precision", "float32")
  if isinstance(parity, str):
    proven = f"parity {parity}"
  elif precision == "float32":
    proven = f"largest difference {parity['max_abs_difference']:.1e} with {parity['reloaded_with']}"
  else:
    of_each = record["bytes"].values()
    before, after = (sum(sizes[name] for sizes in of_each) / 1e6 for name in ("float32", precision))
    proven = f"{precision}, {after:.1f} MB of {before:.1f}, centered cosine {parity['cosine']:.4f} with float32"
  return f"{record['dialect']}, {record['which']} at {height}x{width}, {record['tensors']} tensors, {proven}: {out}"


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


def _reduce(
  folder: pathlib.Path, weights: Weights, request: ExportRequest, pixels: np.ndarray, source: dict[str, Any]
) -> dict[str, Any]:
  """Reduces the precision of the files; returns the results of the proof for parity.json."""
  comparisons, facts = reduce_precision(folder, request.precision, weights, request.which, pixels, request.least_cosine)
  return facts | {
    "parity": {
      "reloaded_with": "onnxruntime",
      "least_cosine": request.least_cosine,
      "cosine": kept_cosine(comparisons),
      "max_abs_difference": max(c.difference for c in comparisons.values()),
    },
    "outputs": {name: c.record() | {"cosine": c.cosines()} for name, c in comparisons.items()},
    "inputs": {"images": source, "compared_on": "every fifth of them, not calibrated on"},
  }


def _record(dialect: str, weights: Weights, which: str, about: dict[str, Any]) -> dict[str, Any]:
  """Returns the entries of parity.json that do not depend on the proof."""
  height, width = weights.spec.image_hw
  return {
    "dialect": dialect,
    "which": which,
    "origin": shortened(weights.origin),
    **about,
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
