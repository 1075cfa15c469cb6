"""The proof of an export: the written file is read back as its users read it, and its features are compared with JAX's.

Each reader below names tensors as the loaders of its family do (MAE, TransReID for DINO files, ViTPose, mmpretrain, the
published SAIP fine-tuning), not by the tables that wrote them. Otherwise a table that is wrong in both directions would
go unnoticed.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from saip_jax.backbones.statistics import split_statistics
from saip_jax.interop.spec import IMAGENET
from saip_jax.interop.torch_encoders import make_encoder, tapped_layer
from saip_jax.interop.torch_model import quiet, timm_model

LIMIT = 1e-4
SEED = 0
_IMAGES = 3  # differs from the batch size of traced graphs
_SHOWN = 8
_PADDING = 2  # pixels, in ViTPose's patch embedding


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One output of both programs.

  Attributes:
    ours: output here, float32.
    theirs: output of the reloaded file.
  """

  ours: np.ndarray
  theirs: np.ndarray

  @property
  def difference(self) -> float:
    """Largest absolute difference; NaN if either output holds NaN."""
    if self.ours.shape != self.theirs.shape:
      raise ValueError(f"shape {self.ours.shape} here, {self.theirs.shape} in the reloaded file")
    return float(np.max(np.abs(self.ours.astype(np.float64) - self.theirs)))

  def record(self) -> dict:
    """Returns the comparison as JSON-able facts."""
    return _described(self.ours) | {"reloaded": _first_values(self.theirs), "max_abs_difference": self.difference}


def _first_values(output: np.ndarray) -> list[float]:
  return [float(str(v)) for v in output[0].reshape(-1)[:_SHOWN]]  # the shortest decimal of this float32


def _described(output: np.ndarray) -> dict:
  return {
    "shape": list(output.shape),
    "max_abs_value": float(np.max(np.abs(output))),
    "saip_jax": _first_values(output),
  }


def probe_images(image_hw: tuple[int, int]) -> np.ndarray:
  """Returns the images of every proof: (3, H, W, 3) float32, standard normal like normalized images."""
  return np.random.default_rng(SEED).standard_normal((_IMAGES, *image_hw, 3), dtype=np.float32)


def probe_pixels(image_hw: tuple[int, int]) -> np.ndarray:
  """Returns (3, H, W, 3) uint8 RGB noise, for graphs that include normalization."""
  return np.random.default_rng(SEED).integers(0, 256, (_IMAGES, *image_hw, 3), dtype=np.uint8)


def jax_features(weights, which: str, images: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the features of (B, H, W, 3) normalized images in JAX, float32 at highest precision.

  Returns:
    cls (B, D), patch_tokens (B, N, D), and tapped_layer (B, 1 + M, E) after its norm.
  """
  with jax.default_matmul_precision("highest"):
    features = _encode(weights.spec.build(), split_statistics(weights.backbone(which)), jnp.asarray(images))
  outputs = {"cls": features.cls, "patch_tokens": features.tokens, "tapped_layer": features.hidden}
  return {name: np.asarray(value) for name, value in outputs.items()}


def unproven(weights, which: str) -> dict[str, dict]:
  """Returns facts of the features in JAX alone, for comparison by hand."""
  features = jax_features(weights, which, probe_images(weights.spec.image_hw))
  return {name: _described(value) for name, value in features.items()}


@functools.partial(jax.jit, static_argnums=0)
def _encode(module: nn.Module, variables, images):
  return module.apply(variables, images, ("cls", "tokens", "hidden"))


def prove(dialect: str, folder: pathlib.Path, weights, which: str) -> dict[str, Comparison]:
  """Returns output name -> comparison for the files of one export, read back from disk.

  Args:
    dialect: one of `READERS`, "timm", "onnx" or "torchscript".
    folder: the files of the export.
    weights: the exported `spec.Weights`, at the exported size.
    which: a key of `spec.ENCODER_MODULES`.
  """
  images = probe_images(weights.spec.image_hw)
  with quiet():
    match dialect:
      case "onnx":
        theirs = _run_onnx(folder / "model.onnx", images.transpose(0, 3, 1, 2))
      case "torchscript":
        theirs = _run_torchscript(folder / "model.ts", images)
      case _:
        model, extra = _reload(dialect, folder, weights, which)
        theirs = _run_timm(weights.spec, model, images, extra)
  ours = jax_features(weights, which, images)
  proof = {name: Comparison(ours[name], value) for name, value in theirs.items()}
  if dialect in ("vitpose", "mmpose"):
    proof |= _prove_padded(model, weights, which, images)
  if (folder / "model_with_preproc.onnx").exists():
    proof |= _prove_preprocessing(folder / "model_with_preproc.onnx", weights, which)
  return proof


def _reload(dialect: str, folder: pathlib.Path, weights, which: str):
  """Returns (timm model, the extra tensors that it lacks)."""
  from safetensors.torch import load_file

  extra_file = folder / weights.spec.architecture.extra_file
  state = {} if dialect == "timm" else READERS[dialect](folder, which)
  extra = {name: state.pop(name) for name in list(state) if name.startswith("inter_norm.")}
  if extra_file.exists():
    extra = load_file(extra_file)
  if dialect != "timm":
    return timm_model(weights.spec, state), extra
  import timm

  renamed = weights.spec.architecture.renamed_by_timm
  how = {"checkpoint_path": str(folder / "model.safetensors")} if renamed else {"pretrained": True}
  return timm.create_model(f"local-dir:{folder}", **how).eval(), extra


def _pth(folder: pathlib.Path) -> dict:
  import torch

  return torch.load(folder / "model.pth", map_location="cpu", weights_only=True)


def _below(prefix: str, state: Mapping) -> dict:
  return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _read_safetensors(folder: pathlib.Path, which: str) -> dict:
  from safetensors.torch import load_file

  return load_file(folder / "model.safetensors")


def _read_saip(folder: pathlib.Path, which: str) -> dict:
  return _below("backbone.", {name.replace("module.", ""): value for name, value in _pth(folder)[which].items()})


def _read_mae(folder: pathlib.Path, which: str) -> dict:
  return _pth(folder)["model"]


def _read_dino(folder: pathlib.Path, which: str) -> dict:
  return _below("backbone.", _pth(folder)["teacher"])  # TransReID reads only the teacher


def _read_vitpose(folder: pathlib.Path, which: str) -> dict:
  state = {name.removeprefix("module."): value for name, value in _pth(folder)["state_dict"].items()}
  tokens = state["pos_embed"].shape[1] - 1
  if int(tokens**0.5) ** 2 != tokens:
    raise ValueError(f"{tokens} positions are not a square, and ViTPose's loader accepts only squares")
  return {name.replace("last_norm.", "norm."): value for name, value in state.items()}


_MMPRETRAIN = (  # in this order: the final norm is named like the first norm of each layer
  ("patch_embed.projection.", "patch_embed.proj."),
  ("ffn.layers.0.0.", "mlp.fc1."),
  ("ffn.layers.1.", "mlp.fc2."),
  (".ln1.", ".norm1."),
  (".ln2.", ".norm2."),
  ("layers.", "blocks."),
  ("ln1.", "norm."),
)


def _read_mmpose(folder: pathlib.Path, which: str) -> dict:
  state = {}
  for name, value in _below("backbone.", _pth(folder)["state_dict"]).items():
    for theirs, timms in _MMPRETRAIN:
      name = name.replace(theirs, timms)
    state[name] = value
  return state


READERS: dict[str, Callable[[pathlib.Path, str], dict]] = {
  "safetensors": _read_safetensors,
  "saip": _read_saip,
  "mae": _read_mae,
  "dino": _read_dino,
  "vitpose": _read_vitpose,
  "mmpose": _read_mmpose,
}


def _run_timm(spec, model, images: np.ndarray, extra: Mapping) -> dict[str, np.ndarray]:
  import torch

  kind, facts = spec.architecture.kind, spec.facts()
  with torch.no_grad():
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    outputs = dict(zip(("cls", "patch_tokens"), make_encoder(kind, model, extra)(x)))
    if "inter_norm.weight" in extra:
      tap = facts["tapped_block"] if kind == "vit" else facts["tapped_stage"]
      outputs["tapped_layer"] = tapped_layer(kind, model, extra, tap, x)
    return {name: value.numpy() for name, value in outputs.items()}


def _run_torchscript(path: pathlib.Path, images: np.ndarray) -> dict[str, np.ndarray]:
  import torch

  with torch.no_grad():
    cls, patch_tokens = torch.jit.load(path)(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
  return {"cls": cls.numpy(), "patch_tokens": patch_tokens.numpy()}


def _run_onnx(path: pathlib.Path, images: np.ndarray) -> dict[str, np.ndarray]:
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3
  session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
  names = ["cls", "patch_tokens"]
  return dict(zip(names, session.run(names, {"images": np.ascontiguousarray(images)})))


def _prove_preprocessing(path: pathlib.Path, weights, which: str) -> dict[str, Comparison]:
  """Compares the graph whose input is pixels."""
  pixels = probe_pixels(weights.spec.image_hw)
  theirs = _run_onnx(path, pixels)
  mean, std = map(np.float32, weights.normalization or IMAGENET)
  normalized = (pixels / np.float32(255) - mean) / std
  ours = jax_features(weights, which, normalized)
  return {f"{name} from pixels": Comparison(ours[name], value) for name, value in theirs.items()}


def _prove_padded(model, weights, which: str, images: np.ndarray) -> dict[str, Comparison]:
  """Compares with ViTPose's padded patch embedding, whose patches lie two pixels further up and left."""
  height, width = weights.spec.image_hw
  frame = ((0, 0), (_PADDING, 0), (_PADDING, 0), (0, 0))
  ours = jax_features(weights, which, np.pad(images, frame)[:, :height, :width])
  model.patch_embed.proj.padding = (_PADDING, _PADDING)
  theirs = _run_timm(weights.spec, model, images, {})
  return {f"{name}, patches padded as in ViTPose": Comparison(ours[name], value) for name, value in theirs.items()}
