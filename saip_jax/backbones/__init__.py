"""Image encoders: (B, H, W, 3) normalized images -> `features.Features`."""

import functools
from collections.abc import Callable

from saip_jax.backbones.convnext import ConvNeXt
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.hrnet import HRNet
from saip_jax.backbones.swin import Swin
from saip_jax.backbones.tinyvit import TinyViT
from saip_jax.backbones.vit import ViT

_VITS = {
  "vit_tiny": functools.partial(ViT, width=192, depth=12, heads=3),
  "vit_small": functools.partial(ViT, width=384, depth=12, heads=6),
  "vit_base": functools.partial(ViT, width=768, depth=12, heads=12),
  "vit_large": functools.partial(ViT, width=1024, depth=24, heads=16),
}
_SWINS: dict[str, Callable[..., Backbone]] = {
  "swin_tiny": Swin,
  "swin_small": functools.partial(Swin, depths=(2, 2, 18, 2)),
  "swin_base": functools.partial(Swin, dims=(128, 256, 512, 1024), depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)),
}
BACKBONES: dict[str, Callable[..., Backbone]] = {
  **_VITS,
  # For two CPU cores and images of 64x32; not in the literature. Its last block is the tapped one.
  "vit_nano": functools.partial(ViT, width=96, depth=4, heads=3, patch=8, tapped_block=3),
  **{f"{name}_rope": functools.partial(vit, rope=True) for name, vit in _VITS.items()},
  "tinyvit_5m": TinyViT,
  **_SWINS,
  **{f"{name}_solider": functools.partial(swin, merging_bias=True) for name, swin in _SWINS.items()},
  "convnext_femto": ConvNeXt,
  "hrnet_w18": HRNet,
  "hrnet_w18_bilinear": functools.partial(HRNet, enlarging="bilinear"),
}


def check_heads(name: str, setting: str = "", **heads: int) -> None:
  """Checks that a backbone can have these numbers of attention heads.

  Args:
    name: a key of `BACKBONES`.
    setting: prefix of the settings' names in the error message.
    **heads: `heads` and `last_heads` of a ViT, where specified.

  Raises:
    ValueError: the backbone is not a ViT, or a number does not divide its width; the message names the setting.
  """
  module = BACKBONES[name]()
  for key, n in heads.items():
    if not isinstance(module, ViT):
      raise ValueError(f"{setting}{key} is {n}: {name} has the attention heads of its stages; remove the setting")
    if n < 1 or module.width % n:
      raise ValueError(f"{setting}{key} is {n}: expected a divisor of the width of {name}, which is {module.width}")


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
