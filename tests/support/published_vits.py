"""Models of timm with weights as training leaves them, shallow to be fast, and the backbones here of the same depth."""

import dataclasses
import functools

import jax
import numpy as np

from saip_jax.backbones import BACKBONES
from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.torch_model import import_package

DEPTH = 2


def make_shallow(monkeypatch, *names: str, depth: int = DEPTH) -> None:
  """Replaces backbones by ones of this depth, here and in timm."""
  for name in names:
    architecture = ARCHITECTURES[name]
    arguments = functools.partial(_with_depth, architecture.arguments, depth)
    monkeypatch.setitem(BACKBONES, name, functools.partial(BACKBONES[name], depth=depth, tapped_block=0))
    monkeypatch.setitem(ARCHITECTURES, name, dataclasses.replace(architecture, arguments=arguments))


def _with_depth(arguments, depth, image_hw):
  return arguments(image_hw) | {"depth": depth}


def trained(model, seed: int = 0):
  """Returns a model of PyTorch in evaluation mode: no block is idle, no bias is zero, no factor is one."""
  import torch

  rng = np.random.default_rng(seed)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      parameter.copy_(torch.from_numpy(_values(rng, name, tuple(parameter.shape))))
  return model.eval()


def _values(rng, name: str, shape) -> np.ndarray:
  values = rng.standard_normal(shape, np.float32)
  if name.endswith(("gamma", "gamma_1", "gamma_2", "lambda1")):
    return 0.5 + 0.2 * values
  if len(shape) == 1:
    return name.endswith("weight") + 0.2 * values
  if name.endswith("weight"):
    return values * np.float32(np.prod(shape[1:]) ** -0.5)
  return 0.5 * values


def timm_model(timm_name: str, depth: int = DEPTH, **arguments):
  """Returns a shallow model of timm with trained-looking weights."""
  import_package("timm")
  import timm

  return trained(timm.create_model(timm_name, depth=depth, num_classes=0, **arguments))


def state_of(model) -> dict[str, np.ndarray]:
  """Returns the tensors of a model of PyTorch."""
  return {name: np.ascontiguousarray(t.detach().numpy()) for name, t in model.state_dict().items()}


def images_of(image_hw: tuple[int, int], count: int = 2) -> np.ndarray:
  """Returns normalized images (count, H, W, 3)."""
  return np.random.default_rng(1).standard_normal((count, *image_hw, 3), np.float32)


def features_here(weights, images: np.ndarray, reads=("cls", "tokens")):
  """Returns the features of the backbone here."""
  return _encode(weights.spec.build(), weights.backbone(), images, reads)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _encode(module, params, images, reads):
  return module.apply({"params": params}, images, reads)


def features_there(model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the image feature and the patch tokens of a model of timm."""
  import torch

  with torch.no_grad():
    tokens = model.forward_features(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
  patches = tokens[:, model.num_prefix_tokens :]
  return tokens[:, 0] if model.cls_token is not None else patches.mean(1), patches
