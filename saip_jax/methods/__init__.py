"""The pre-training methods, by name."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from saip_jax.backbones import build_backbone
from saip_jax.backbones.vit import ViT
from saip_jax.methods.croco_human.config import CrocoHumanConfig
from saip_jax.methods.croco_human.method import CrocoHuman
from saip_jax.methods.dino.config import DinoConfig
from saip_jax.methods.dino.method import Dino
from saip_jax.methods.finetune.config import FinetuneConfig
from saip_jax.methods.finetune.method import Finetune
from saip_jax.methods.hap.config import HapConfig
from saip_jax.methods.hap.method import Hap
from saip_jax.methods.hcmoco.config import HcmocoConfig
from saip_jax.methods.hcmoco.method import Hcmoco
from saip_jax.methods.mae.method import Mae, MaeConfig
from saip_jax.methods.saip.config import SaipConfig
from saip_jax.methods.saip.method import Saip
from saip_jax.methods.saip.networks import Expert, SaipNetworks


@dataclasses.dataclass(frozen=True)
class MethodEntry:
  """How a method is configured and built.

  Attributes:
    config_class: frozen dataclass of the `method` section of a recipe.
    build: (`RunConfig`, **backbone options) -> `saip_jax.methods.base.Method`.
    vit_options: settings of the method -> attributes of a ViT that it decides: its positions, and how they are resized.
    check_data: (settings of the method, `input_pipeline.pipeline.TrainData`): raises ValueError if they cannot go
      together.
  """

  config_class: type
  build: Callable[..., Any]
  vit_options: Callable[[Any], dict[str, str]] = lambda settings: {"pos_interpolation": "grid2d", "tokens": "normal"}
  check_data: Callable[[Any, Any], None] = lambda settings, data: None


def _encoder(config, backbone_options):
  """Returns the encoder of a recipe."""
  backbone = build_backbone(
    config.model.backbone,
    image_hw=config.model.image_hw,
    dtype=jnp.dtype(config.precision),
    remat=config.remat,
    **config.model.own_heads,
    **backbone_options,
  )
  if isinstance(backbone, ViT):  # others have no table of positions
    return backbone.clone(**METHODS[config.method.name].vit_options(config.method))
  return backbone


def _saip_vit_options(settings: SaipConfig) -> dict[str, str]:
  return {"pos_interpolation": settings.resolved.positions, "tokens": settings.resolved.tokens}


def _build_saip(config, **backbone_options) -> Saip:
  backbone, expert = _encoder(config, backbone_options), _open_expert(config.method.expert, config.model.image_hw)
  networks = SaipNetworks(config.method, backbone, expert)
  return Saip(networks, config.data.canvas_hw, config.data.scene_canvas_hw, config.total_steps, config.accumulate)


def _build_mae(config, **backbone_options) -> Mae:
  backbone = _encoder(config, backbone_options)
  return Mae(config.method, backbone, config.data.canvas_hw)


def _build_hap(config, **backbone_options) -> Hap:
  backbone = _encoder(config, backbone_options)
  return Hap(config.method, backbone, config.data.canvas_hw)


def _build_hcmoco(config, **backbone_options) -> Hcmoco:
  backbone = _encoder(config, backbone_options)
  return Hcmoco(config.method, backbone, config.data.canvas_hw)


def _build_croco_human(config, **backbone_options) -> CrocoHuman:
  backbone = _encoder(config, backbone_options)
  return CrocoHuman(config.method, backbone, config.data.canvas_hw)


def _masked_vit_options(settings: MaeConfig | HapConfig | CrocoHumanConfig) -> dict[str, str]:
  return {"pos_interpolation": "grid2d", "tokens": "normal", "positions": settings.positions}


def _dino_vit_options(settings: DinoConfig) -> dict[str, str]:
  interpolation = {"grid2d": "grid2d", "as_published": "grid2d_offset"}[settings.positions]
  return {"pos_interpolation": interpolation, "tokens": "normal", "weights": settings.weights}


def _build_dino(config, **backbone_options) -> Dino:
  backbone = _encoder(config, backbone_options)
  return Dino(config.method, backbone, config.data.canvas_hw, config.total_steps, config.accumulate)


def _build_finetune(config, **backbone_options) -> Finetune:
  backbone = _encoder(config, backbone_options)
  config.method.check_run(config)
  return Finetune(config.method, backbone, config.data.canvas_hw)


def _open_expert(path: str | None, image_hw: tuple[int, int]) -> Expert | None:
  """Returns the frozen encoder in a file or run, float32, its positions for the size of the global views."""
  if path is None:
    return None
  from saip_jax.interop.weights import load_backbone  # which knows the methods

  try:
    loaded = load_backbone(path, image_hw=image_hw)
  except ValueError as e:
    raise ValueError(f"config.method.expert={path}: {e}") from e
  return Expert(loaded.module, loaded.variables)


METHODS = {
  "saip": MethodEntry(SaipConfig, _build_saip, _saip_vit_options),
  "mae": MethodEntry(MaeConfig, _build_mae, _masked_vit_options),
  "dino": MethodEntry(DinoConfig, _build_dino, _dino_vit_options),
  "hap": MethodEntry(HapConfig, _build_hap, _masked_vit_options),
  "croco_human": MethodEntry(CrocoHumanConfig, _build_croco_human, _masked_vit_options),
  "hcmoco": MethodEntry(HcmocoConfig, _build_hcmoco, check_data=HcmocoConfig.check_data),
  "finetune": MethodEntry(FinetuneConfig, _build_finetune, check_data=FinetuneConfig.check_data),
}
