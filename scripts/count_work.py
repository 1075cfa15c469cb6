"""Counts the work of a pre-training step, and parameters, for recipes: python scripts/count_work.py > results/work.md

Nothing runs and nothing is compiled: XLA counts the operations of the step that `saip compile` would compile.
"""

import argparse
import dataclasses
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax

from saip_jax.aot.compile import count_flops
from saip_jax.methods import METHODS
from saip_jax.recipes import open_recipe

RECIPES = (
  "saip_vit_tiny",
  "saip_vit_tiny --config.method.fidelity=improved",
  "saip_tinyvit_5m",
  "saip_tinyvit_5m --config.method.fidelity=improved",
  "saip_swin_tiny",
  "saip_swin_tiny --config.method.fidelity=improved",
  "saip_convnext_femto",
  "saip_convnext_femto --config.method.fidelity=improved",
  "mae",
  "dino",
  "dino --config.method.mae.weight=1.0",
  "hap",
  "croco_human",
  "hcmoco",
  "saip_nano",
  "mae_nano",
  "dino_nano",
  "dino_mae_nano",
  "hap_nano",
  "croco_human_nano",
  "hcmoco_nano",
)
HEAD = """# The work of a step

Made by `scripts/count_work.py`; no figure here is typed. GFLOP are XLA's count of one whole pre-training step, views,
teacher and gradients included, divided by its images. Blocks are written out, and what a backward pass computes again
to save memory does not count. Parameters are those of the encoder that is exported, and of all that is trained.

| recipe | GFLOP per image | encoder | parameters | with the heads |
|---|---:|---|---:|---:|"""


def million(parameters) -> str:
  """Returns the number of parameters in millions."""
  return f"{sum(math.prod(a.shape) for a in jax.tree.leaves(parameters)) / 1e6:.2f} M"


def row(command: str, batch: int) -> str:
  """Returns the line of a recipe and its settings."""
  recipe, *settings = command.split()
  config = open_recipe(recipe, [*settings, f"--config.batch_size={batch}", "--config.accumulate=1"])
  build = METHODS[config.method.name].build
  gflop = count_flops(dataclasses.replace(config, remat="none"), build) / batch / 1e9
  parameters, _ = jax.eval_shape(build(config).init, jax.random.key(0))
  encoder, work = million(parameters["backbone"]), f"{gflop:.{1 if gflop >= 1 else 3}f}"
  return f"| `{command}` | {work} | `{config.model.backbone}` | {encoder} | {million(parameters)} |"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument(
    "--batch", type=int, default=64, help="images of the step; the optimizer's work is divided by them"
  )
  args = parser.parse_args()
  print(HEAD)
  for command in RECIPES:
    print(row(command, args.batch), flush=True)


if __name__ == "__main__":
  main()
