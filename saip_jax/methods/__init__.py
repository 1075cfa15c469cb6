"""The pre-training methods, by name."""

import dataclasses
from typing import Any, Callable

import jax.numpy as jnp

from saip_jax.backbones import build_backbone
from saip_jax.methods.saip import Saip
from saip_jax.methods.saip_config import SaipConfig


@dataclasses.dataclass(frozen=True)
class MethodEntry:
  """How a method is configured and built.

  Attributes:
    config_class: frozen dataclass of the `method` section of a recipe.
    build: (`RunConfig`, **backbone options) -> `saip_jax.methods.base.Method`.
  """

  config_class: type
  build: Callable[..., Any]


def _build_saip(config, **backbone_options) -> Saip:
  backbone = build_backbone(
      config.model.backbone, image_hw=config.model.image_hw, dtype=jnp.dtype(config.precision), remat=config.remat,
      **backbone_options,
  )
  return Saip(config.method, backbone, config.data.canvas_hw, config.data.scene_canvas_hw)


METHODS = {"saip": MethodEntry(SaipConfig, _build_saip)}
