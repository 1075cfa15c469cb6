"""ONNX files of `saip export`: what they say of themselves, and onnxruntime, which runs them.

Needs onnxruntime, of the optional extra `torch`, which is imported inside functions.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from input_pipeline.names import shown
from saip_jax.interop.declared import PARITY_FILE, as_size, read_json
from saip_jax.interop.torch_model import why_missing
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD

ONNX_FILE, PIXELS_FILE = "model.onnx", "model_with_preproc.onnx"
OUTPUTS = ("cls", "patch_tokens")
_INPUT = "images"
_PIXELS = "tensor(uint8)"
_KEY = "saip_jax"  # of the file's metadata


def describe(path: pathlib.Path, **description) -> None:
  """Writes a description into the metadata of an ONNX file.

  Args:
    path: the file.
    **description: `model`, the facts of the spec; `which`; `precision`; `tokens_grid`, (h, w) of the patch tokens.
  """
  import onnx

  model = onnx.load(path)
  onnx.helper.set_model_props(model, {_KEY: json.dumps(description)})
  onnx.save(model, path)


def described(path: pathlib.Path) -> dict[str, Any]:
  """Returns the description that `describe` wrote."""
  import onnx

  return json.loads({each.key: each.value for each in onnx.load(path).metadata_props}[_KEY])


def session_of(path: pathlib.Path, threads: int = 0):
  """Returns an onnxruntime session on the CPU.

  Args:
    path: an ONNX file.
    threads: of one run; 0 for all cores.

  Raises:
    ValueError: onnxruntime is missing, or cannot read or run the file.
  """
  missing = why_missing(("onnxruntime",))
  if missing:
    raise ValueError(f"{path} cannot be run: {missing}")
  import onnxruntime
  from onnxruntime.capi import onnxruntime_pybind11_state as errors

  options = onnxruntime.SessionOptions()
  options.log_severity_level, options.intra_op_num_threads = 3, threads
  kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
  try:
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
  except tuple(kinds) as e:
    raise ValueError(f"{path} is no ONNX file that onnxruntime can run: {' '.join(str(e).split())[:300]}") from e


def run_onnx(path: pathlib.Path, images: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the outputs of a file for its input `images`."""
  return dict(zip(OUTPUTS, session_of(path).run(OUTPUTS, {_INPUT: np.ascontiguousarray(images)})))


@dataclasses.dataclass(frozen=True)
class OnnxEncoder:
  """An exported encoder under onnxruntime.

  Attributes:
    path: the file.
    session: onnxruntime's.
    facts: `BackboneSpec.facts()` of the exported weights.
    which: the exported network, a key of `spec.ENCODER_MODULES`.
    precision: one of `precision.PRECISIONS`.
    grid: (h, w) of the patch tokens.
    takes_pixels: whether it normalizes its input itself.
    has_tokens: whether it returns patch tokens.
  """

  path: pathlib.Path
  session: Any
  facts: Mapping[str, Any]
  which: str
  precision: str
  grid: tuple[int, int]
  takes_pixels: bool
  has_tokens: bool

  @property
  def image_hw(self) -> tuple[int, int]:
    """Size of its images in pixels."""
    return tuple(self.facts["image_hw"])

  def __call__(self, images_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns (cls (B, D), patch_tokens (B, N, E) or None) of (B, H, W, 3) uint8 RGB."""
    cls, *tokens = self.session.run(
      OUTPUTS[: 1 + self.has_tokens], {_INPUT: graph_input(images_u8, self.facts, self.takes_pixels)}
    )
    return cls, tokens[0] if tokens else None


def normalized(images_u8: np.ndarray, facts: Mapping[str, Any]) -> np.ndarray:
  """Returns uint8 pixels (B, H, W, 3) as the float32 input of a backbone.

  Mean and deviation are those of its facts, or of ImageNet where they state none, as in `weights.Preprocessing`.
  """
  mean, std = (np.float32(facts.get(name) or usual) for name, usual in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)))
  return (images_u8 / np.float32(255) - mean) / std


def graph_input(images_u8: np.ndarray, facts: Mapping[str, Any], takes_pixels: bool) -> np.ndarray:
  """Returns the input of a graph for (B, H, W, 3) uint8 RGB: the pixels, or (B, 3, H, W) normalized."""
  if takes_pixels:
    return np.ascontiguousarray(images_u8)
  return np.ascontiguousarray(normalized(images_u8, facts).transpose(0, 3, 1, 2))


def onnx_path(checkpoint: pathlib.Path) -> pathlib.Path | None:
  """Returns the ONNX file that a local path names, itself or in its folder; None if it names something else."""
  if checkpoint.is_dir():
    return checkpoint / ONNX_FILE if (checkpoint / ONNX_FILE).is_file() else None
  return checkpoint if checkpoint.suffix == ".onnx" else None


def open_onnx(path: pathlib.Path) -> OnnxEncoder:
  """Returns the encoder in an ONNX file of `saip export`.

  Files without a description in them, of earlier versions, need the parity.json of their export beside them.

  Raises:
    ValueError: no such file, one that cannot be run, of another program, or that contradicts its description.
  """
  if not path.is_file():
    raise ValueError(f"{path}: no such file")
  session = session_of(path)
  inputs = {each.name: each for each in session.get_inputs()}
  outputs = {each.name: each for each in session.get_outputs()}
  about = _description(path, session)
  facts = about.get("model", {})
  if not facts or set(inputs) != {_INPUT} or OUTPUTS[0] not in outputs:
    raise ValueError(
      f"{path} was not written by saip export --dialect=onnx: it maps {_listed(inputs)} to {_listed(outputs)},"
      f" expected {_INPUT} to {' and '.join(OUTPUTS)} and a description in its metadata or in {PARITY_FILE} beside it"
    )
  takes_pixels, shape = inputs[_INPUT].type == _PIXELS, inputs[_INPUT].shape
  image_hw, found = as_size(facts.get("image_hw")), tuple(shape[1:3] if takes_pixels else shape[2:4])
  if image_hw is None or found != image_hw:
    raise ValueError(
      f"{path} takes images of {'x'.join(map(str, found))}, but its description says"
      f" {'x'.join(map(str, image_hw or ('nothing',)))}: export it again"
    )
  grid = as_size(about.get("tokens_grid", facts.get("grid")))  # earlier versions tell it for ViTs alone
  if grid is None and OUTPUTS[1] in outputs:
    raise ValueError(f"{path} does not tell the grid of its patch tokens: export it again")
  return OnnxEncoder(
    path,
    session,
    facts,
    about.get("which", "student"),
    about.get("precision", "float32"),
    grid or (0, 0),
    takes_pixels,
    OUTPUTS[1] in outputs,
  )


def _description(path: pathlib.Path, session) -> dict[str, Any]:
  text = session.get_modelmeta().custom_metadata_map.get(_KEY)
  if text is None:
    parity = read_json(path.with_name(PARITY_FILE))
    return parity if path.name in parity.get("files", ()) else {}
  try:
    about = json.loads(text)
  except ValueError:
    about = None
  return about if isinstance(about, dict) and isinstance(about.get("model"), dict) else {}


def _listed(names) -> str:
  return shown(", ".join(names)) or "nothing"
