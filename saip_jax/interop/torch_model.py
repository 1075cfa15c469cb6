"""The encoder as a PyTorch module: timm's model with given weights, and its ONNX and TorchScript files.

Needs the optional extra `torch`, which is imported inside functions.
"""

import contextlib
import importlib
import io
import logging
import pathlib
import sys
import warnings
from collections.abc import Mapping

import numpy as np

from saip_jax.interop.spec import IMAGENET
from saip_jax.interop.torch_encoders import adapt, make_encoder

INSTALL = 'pip install "saip-jax[torch]"'

# Batch size of the traced example; not 1, because exporters treat sizes 0 and 1 as constants.
_EXAMPLE_BATCH = 2
_OPSET = 18


def why_missing(packages: tuple[str, ...]) -> str | None:
  """Returns why a package cannot be imported, with the remedy; None if all can be imported."""
  for package in packages:
    try:
      with quiet():
        import_package(package)
    except ImportError:
      return f"{'PyTorch' if package == 'torch' else package} is not installed: {INSTALL}"
    except RuntimeError as e:  # torch and torchvision of different builds, for one
      return f"{package} cannot be imported ({' '.join(str(e).split())}); {INSTALL} in a new environment fixes it"
  return None


_TORCHVISION_LIBRARIES = []  # PyTorch unregisters a library that is garbage-collected


def import_package(package: str) -> None:
  """Imports a package; timm and torchvision also where the compiled part of torchvision does not fit torch.

  Such a torchvision fails to register its compiled operators, which timm does not use. It imports after their names are
  declared. A torchvision that fits must come first: it registers them itself, and ends the process if they exist.
  """
  try:
    importlib.import_module(package)
  except RuntimeError as e:
    if package not in ("timm", "torchvision") or "operator torchvision::" not in str(e):
      raise
    import torch

    for name in ("nms", "qnms"):
      if not hasattr(torch.ops.torchvision, name):
        _TORCHVISION_LIBRARIES.append(torch.library.Library("torchvision", "FRAGMENT"))
        _TORCHVISION_LIBRARIES[-1].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [n for n in sys.modules if n.split(".")[0] in ("torchvision", "timm")]:
      del sys.modules[name]  # partly imported
    importlib.import_module(package)


@contextlib.contextmanager
def quiet():
  """Silences the output of PyTorch, timm and their exporters; errors are still raised."""
  level = logging.root.manager.disable
  with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
      yield
    finally:
      logging.disable(level)


def timm_model(spec, state: Mapping):
  """Returns timm's model of the backbone, in evaluation mode, with the given weights.

  Args:
    spec: a `spec.BackboneSpec`; its `image_hw` is the input size of the model.
    state: timm's tensor name -> array or tensor; exactly those of the model.

  Raises:
    ValueError: the installed timm has no such model.
  """
  import timm

  architecture = spec.architecture
  if not timm.is_model(architecture.timm_name):
    raise ValueError(
      f"timm {timm.__version__} has no model {architecture.timm_name!r}, the counterpart of the backbone {spec.name}"
      " that PyTorch exports are compared with: --dialect=saip needs none"
    )
  make = timm.models.model_entrypoint(architecture.timm_name)  # create_model drops arguments that are None
  model = make(pretrained=False, num_classes=0, **spec.timm_arguments, **architecture.skip_init)
  model = adapt(architecture, model, spec.last_heads, spec.norm_eps, spec.patch_padding)
  model.load_state_dict(_tensors(state), strict=True)
  return model.eval()


def torch_encoder(spec, state: Mapping, extra: Mapping):
  """Returns the module of `torch_encoders.make_encoder`.

  Args:
    spec: see `timm_model`.
    state: see `timm_model`.
    extra: name -> array or tensor of the extra tensors that timm's model lacks.
  """
  return make_encoder(spec.architecture.kind, timm_model(spec, state), _tensors(extra))


def _tensors(state: Mapping) -> dict:
  import torch

  return {n: torch.from_numpy(np.array(a)) if isinstance(a, np.ndarray) else a for n, a in state.items()}


def _from_pixels(encoder, facts: Mapping):
  """Returns the encoder with normalization included: its input is uint8 RGB (B, H, W, 3)."""
  import torch

  class PixelEncoder(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.encoder = encoder
      mean, std = (facts["mean"], facts["std"]) if facts["mean"] else IMAGENET
      self.register_buffer("mean", torch.tensor(mean))
      self.register_buffer("std", torch.tensor(std))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
      normalized = (images.to(torch.float32) / 255.0 - self.mean) / self.std
      return self.encoder(normalized.permute(0, 3, 1, 2))

  return PixelEncoder().eval()


def write_onnx(path: pathlib.Path, encoder, facts: Mapping, preprocessing: bool) -> None:
  """Writes an ONNX file in float32 with any batch size: `images` -> `cls` (B, D), `patch_tokens` (B, N, D).

  Args:
    path: the file.
    encoder: from `torch_encoder`.
    facts: `BackboneSpec.facts()`: image_hw, mean and std.
    preprocessing: include normalization: `images` is uint8 RGB (B, H, W, 3); otherwise normalized (B, 3, H, W).
  """
  import torch

  height, width = facts["image_hw"]
  if preprocessing:
    example = torch.zeros(_EXAMPLE_BATCH, height, width, 3, dtype=torch.uint8)
  else:
    example = torch.zeros(_EXAMPLE_BATCH, 3, height, width)
  module = _from_pixels(encoder, facts) if preprocessing else encoder
  with quiet(), torch.no_grad():
    torch.onnx.export(
      module,
      (example,),
      str(path),
      dynamo=True,
      opset_version=_OPSET,
      input_names=["images"],
      output_names=["cls", "patch_tokens"],
      dynamic_shapes=({0: torch.export.Dim("batch")},),
      external_data=False,
      verbose=False,
    )


def write_torchscript(path: pathlib.Path, encoder, image_hw: tuple[int, int]) -> None:
  """Writes a TorchScript file: images (B, 3, H, W), normalized -> (cls, patch_tokens), any batch size.

  Args:
    path: the file.
    encoder: from `torch_encoder`.
    image_hw: size of images in pixels, for an encoder that cannot be scripted.
  """
  import torch

  with quiet(), torch.no_grad():
    if encoder.scriptable:
      graph = torch.jit.script(encoder)
    else:
      graph = torch.jit.trace(
        encoder, torch.zeros(_EXAMPLE_BATCH, 3, *image_hw), check_trace=False
      )  # compared later by proof.py
    graph.save(str(path))


def write_pth(path: pathlib.Path, tensors: Mapping) -> None:
  """Writes nested dicts of arrays as a PyTorch file of plain tensors, readable with `weights_only=True`."""
  import torch

  def convert(value):
    if isinstance(value, Mapping):
      return {name: convert(v) for name, v in value.items()}
    return torch.from_numpy(np.array(value, order="C")) if isinstance(value, np.ndarray) else value

  torch.save(convert(tensors), path)
