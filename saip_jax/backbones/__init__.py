"""Image encoders: (B, H, W, 3) normalized images -> `features.Features`."""

import functools
from collections.abc import Callable
from typing import Any

from saip_jax.backbones.convnext import ConvNeXt
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.hrnet import HRNet
from saip_jax.backbones.swin import Swin
from saip_jax.backbones.tinyvit import TinyViT
from saip_jax.backbones.vit import ViT

_SIZES: dict[str, dict[str, Any]] = {
  "tiny": {"width": 192, "depth": 12, "heads": 3},
  "small": {"width": 384, "depth": 12, "heads": 6},
  "base": {"width": 768, "depth": 12, "heads": 12},
  "large": {"width": 1024, "depth": 24, "heads": 16},
}
_DINOV2: dict[str, Any] = {"patch": 14, "layer_scale": True, "image_hw": (224, 112)}
_FORMS: dict[tuple[str, str], dict[str, Any]] = {  # name, with its sizes -> what differs from a plain ViT
  ("vit_{}", "tiny small base large"): {},
  ("vit_{}_rope", "tiny small base large"): {"rope": True},
  # Without a class token: UniHCP, some of PATH, Sapiens.
  ("vit_{}_gap", "small base large"): {"class_token": False},
  # PASS: three tokens for parts of the body.
  ("pass_{}", "small base"): {"prefix_tokens": 3, "prefix_positions": False},
  ("dinov2_{}", "small base large"): _DINOV2,
  ("dinov2_{}_reg", "small base large"): _DINOV2 | {"prefix_tokens": 4, "prefix_positions": False},
  # DINOv3 has no tiny one: that, with the same form, is EUPE's.
  ("dinov3_{}", "tiny small base large"): {
    "prefix_tokens": 4,
    "rope": True,
    "rope_coordinates": "centered",
    "norm_eps": 1e-5,
    "layer_scale": True,
    "k_bias": False,
  },
}
VITS: dict[str, Callable[..., Backbone]] = {
  name.format(size): functools.partial(ViT, **_SIZES[size], **form)
  for (name, sizes), form in _FORMS.items()
  for size in sizes.split()
}
_SWINS: dict[str, Callable[..., Backbone]] = {
  "swin_tiny": Swin,
  "swin_small": functools.partial(Swin, depths=(2, 2, 18, 2)),
  "swin_base": functools.partial(Swin, dims=(128, 256, 512, 1024), depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)),
}
BACKBONES: dict[str, Callable[..., Backbone]] = {
  **VITS,
  # For two CPU cores and images of 64x32; not in the literature. Its last block is the tapped one.
  "vit_nano": functools.partial(ViT, width=96, depth=4, heads=3, patch=8, tapped_block=3),
  "tinyvit_5m": TinyViT,
  **_SWINS,
  **{f"{name}_solider": functools.partial(swin, merging_bias=True) for name, swin in _SWINS.items()},
  "convnext_femto": ConvNeXt,
  "hrnet_w18": HRNet,
  "hrnet_w18_bilinear": functools.partial(HRNet, enlarging="bilinear"),
}


OWN_ATTRIBUTES = ("heads", "last_heads", "norm_eps", "patch_padding")
"""Attributes of a ViT that no tensor determines, and that weights may have other than the named backbone."""


def check_attributes(name: str, setting: str = "", **attributes) -> None:
  """Checks that a backbone can have these attributes.

  Args:
    name: a key of `BACKBONES`.
    setting: prefix of the settings' names in the error message.
    **attributes: those of `OWN_ATTRIBUTES` that are specified.

  Raises:
    ValueError: the backbone is not a ViT, a number of heads does not divide its width, an epsilon is not positive, or
      the padding is not below half a patch; the message names the setting.
  """
  module = BACKBONES[name]()
  for key, value in attributes.items():
    at = f"{setting}{key} is {value}"
    if not isinstance(module, ViT):
      reason = f"{name} has the attention heads of its stages" if "heads" in key else f"{name} is no ViT"
      raise ValueError(f"{at}: {reason}; remove the setting")
    if "heads" in key and (value < 1 or module.width % value):
      raise ValueError(f"{at}: expected a divisor of the width of {name}, which is {module.width}")
    if key == "norm_eps" and not value > 0:
      raise ValueError(f"{at}: expected a small positive number, such as 1e-6")
    if key == "patch_padding" and not 0 <= 2 * value < module.patch:
      raise ValueError(f"{at}: expected 0 to {(module.patch - 1) // 2} pixels, less than half a patch of {name}")


def build_backbone(name: str, **options) -> Backbone:
  """Builds a backbone.

  Args:
    name: a key of `BACKBONES`.
    **options: attributes of its module (`image_hw`, `dtype`, ...).

  Returns:
    The unbound Flax module.

  Raises:
    ValueError: the name is unknown.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> backbone = build_backbone("vit_nano", image_hw=(64, 32))
    >>> images = jnp.zeros((2, 64, 32, 3))
    >>> variables = jax.eval_shape(backbone.init, jax.random.key(0), images)
    >>> features = jax.eval_shape(backbone.apply, variables, images)
    >>> features.cls.shape, features.tokens.shape
    ((2, 96), (2, 32, 96))
  """
  if name not in BACKBONES:
    raise ValueError(f"model.backbone {name!r} is unknown; choose one of {', '.join(BACKBONES)}")
  return BACKBONES[name](**options)
