"""MAE, DINO, HAP and CroCo small enough for tests: a toy encoder, and made-up batches."""

import dataclasses
import pathlib

from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from tests.support.tiny_saip import made_up_batch

REPO = pathlib.Path(__file__).resolve().parents[2]
TOY_VIT = {"width": 12, "depth": 2, "heads": 3, "tapped_block": 0}
COMMON = (
  "batch_size=8",
  "data.canvas_hw=(80, 40)",
  "model.image_hw=(64, 32)",
  "data.path=anywhere",
  "optimizer.warmup_fraction=0.0",
  "method.mae.width=16",
  "method.mae.depth=1",
  "method.mae.heads=2",
)
OWN = {
  "mae_demo": (),
  "dino_demo": ("method.prototypes=32", "method.hidden=16", "method.bottleneck=8", "method.local_crops=2"),
  "croco_human_demo": ("data.path=None",),
}


def tiny_method(recipe, *overrides, **backbone_options):
  """Returns (config, method) of a demo; the encoder is a toy ViT, or the recipe's one with other options."""
  recipe_path = REPO / "configs" / f"{recipe}.py"
  settings = [f"--config.{o}" for o in (*COMMON, *OWN.get(recipe, ()), *overrides)]
  config = parse_config(apply_overrides(load_recipe(recipe_path), settings))
  method = METHODS[config.method.name].build(config)
  return config, dataclasses.replace(method, backbone=method.backbone.clone(**(backbone_options or TOY_VIT)))


def images_alone(size=8, seed=0):
  batch = made_up_batch(size, seed)
  return {name: batch[name] for name in ("image", "image_hw", "index")}
