"""The arguments of an export, and the checks that need no files."""

import dataclasses
import importlib.metadata
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from input_pipeline.checks import choices_hint
from saip_jax.backbones import OWN_ATTRIBUTES
from saip_jax.interop.precision import PRECISIONS
from saip_jax.interop.torch_model import why_missing
from saip_jax.interop.weights import Weights

EXPORT_DIALECTS = (
  "timm",
  "safetensors",
  "saip",
  "mae",
  "dino",
  "vitpose",
  "mmpose",
  "onnx",
  "torchscript",
  "stablehlo",
)
_PACKAGES = {"onnx": ("torch", "timm", "onnx", "onnxscript", "onnxruntime"), "stablehlo": ()}
_TOOLS = {
  "float16": ("onnxruntime.transformers.float16",),
  "int8": ("onnxruntime.quantization.shape_inference",),
}  # of onnxruntime; some builds lack them
# Attributes that the readers of a dialect accept if they differ from the named backbone's.
_OWN_ATTRIBUTES = {
  "timm": ("heads",),
  "saip": ("heads", "last_heads"),
  **{name: OWN_ATTRIBUTES for name in ("safetensors", "onnx", "torchscript", "stablehlo")},
}


@dataclasses.dataclass(frozen=True)
class ExportRequest:
  """The arguments of `export.export_weights`, besides the weights and the folder."""

  dialect: str
  which: str
  image_hw: tuple[int, int] | None
  positions: str | None
  preprocessing: bool
  precision: str
  images: Callable[[tuple[int, int]], tuple[np.ndarray, dict[str, Any]]] | None
  least_cosine: float
  license: str | None

  def why_missing(self) -> str | None:
    """Returns why a package that it needs cannot be imported; None if all can be."""
    needed = _PACKAGES.get(self.dialect, ("torch", "timm"))
    return why_missing((*needed, *_TOOLS.get(self.precision, ())))


def check_request(out: pathlib.Path, request: ExportRequest) -> None:
  dialect, precision = request.dialect, request.precision
  if dialect not in EXPORT_DIALECTS:
    raise ValueError(f"--dialect={dialect}: no such dialect{choices_hint(dialect, EXPORT_DIALECTS)}")
  if precision not in PRECISIONS:
    raise ValueError(f"--precision={precision}: no such precision{choices_hint(precision, PRECISIONS)}")
  if request.preprocessing and dialect != "onnx":
    raise ValueError(f"--with-preprocessing needs --dialect=onnx, not --dialect={dialect}")
  if request.preprocessing and request.which == "depth":
    raise ValueError("--with-preprocessing is for pixels: the input of --which=depth is depth; leave it out")
  if precision != "float32" and dialect != "onnx":
    raise ValueError(f"--precision={precision} needs --dialect=onnx, not --dialect={dialect}")
  if precision != "float32" and request.which == "depth":
    raise ValueError(f"--precision={precision} compares features of images: the input of --which=depth is depth")
  if precision != "float32" and request.images is None:
    raise ValueError(f"--precision={precision} needs images to compare features on: set --calibration")
  if precision == "float32" and request.images is not None:
    raise ValueError("--calibration is for --precision=float16 and int8: leave it out")
  if not 0 < request.least_cosine <= 1:
    raise ValueError(f"--least-cosine={request.least_cosine:g}: expected a number above 0, at most 1")
  if request.license is not None and not re.fullmatch(r"\S(.*\S)?", request.license):
    raise ValueError(f"--license={request.license!r}: expected one line of text, such as apache-2.0")
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise ValueError(f"--out={out} exists already: choose a new or empty folder")


def check_dialect(dialect: str, weights: Weights) -> None:
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
    able = ["stablehlo"]
  if dialect not in able and not own & {"heads", "last_heads"}:
    listed = ", ".join(f"{name} {n}" for name, n in weights.spec.own_attributes.items())
    raise ValueError(f"--dialect={dialect} cannot express {listed}; choose one of {', '.join(able) or 'none'}")
  if dialect not in able:
    facts = weights.spec.facts()
    raise ValueError(
      f"--dialect={dialect} cannot express {facts['heads']} attention heads, {facts['last_heads']} in the last"
      f" block: its readers would compute something else; choose one of {', '.join(able) or 'none'}"
    )


def check_timm(dialect: str, weights: Weights) -> None:
  oldest, installed = weights.spec.architecture.oldest_timm, importlib.metadata.version("timm")
  numbers = lambda version: tuple(map(int, re.findall(r"\d+", version)[:3]))
  if numbers(installed) < numbers(oldest):
    raise ValueError(
      f"--dialect={dialect} of {weights.spec.name} needs timm {oldest} or newer, {installed} is installed and computes"
      f" something else: pip install 'timm>={oldest}'"
    )


def check_side(dialect: str, weights: Weights) -> None:
  (height, width), architecture = weights.spec.image_hw, weights.spec.architecture
  if dialect == "stablehlo":  # not PyTorch's
    return
  if min(height, width) < architecture.smallest or height % architecture.multiple or width % architecture.multiple:
    multiples = f", multiples of {architecture.multiple}" if architecture.multiple > 1 else ""
    raise ValueError(
      f"--image-hw={height}x{width}: PyTorch's {weights.spec.name} needs sides of at least"
      f" {architecture.smallest} pixels{multiples}"
    )
