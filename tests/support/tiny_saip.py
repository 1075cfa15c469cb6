"""A SAIP small enough for tests: a shallow narrow ViT, toy decoders, made-up batches. Run as a script it trains."""

import argparse
import dataclasses
import os
import pathlib
import sys

if __name__ == "__main__":
  os.environ["JAX_PLATFORMS"] = "cpu"
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np

from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.running import train_in_folder
from saip_jax.training.distributed import initialize
from tests.support.toy_method import ToyData

REPO = pathlib.Path(__file__).resolve().parents[2]
TINY = (
  "batch_size=8",
  "data.canvas_hw=(80, 40)",
  "data.scene_canvas_hw=(64, 64)",
  "model.image_hw=(128, 64)",
  "method.css.scene_size=112",
  "method.csm.prototypes=32",
  "method.csm.hidden=16",
  "method.csm.bottleneck=8",
  "method.csr.width=16",
  "method.csr.depth=1",
  "method.csr.heads=2",
  "method.css.width=16",
  "method.css.heads=2",
  "method.local_crops=2",
  "optimizer.warmup_fraction=0.0",
  "data.path=anywhere",
)


def tiny(*overrides, **backbone_options):
  """Returns (config, method); the backbone is a toy ViT unless another one is named, then its options make it small."""
  recipe = load_recipe(REPO / "configs" / "saip_demo.py")
  config = parse_config(apply_overrides(recipe, [f"--config.{o}" for o in (*TINY, *overrides)]))
  method = METHODS["saip"].build(config)
  options = backbone_options or {"width": 12, "depth": 8, "heads": 3}
  return config, dataclasses.replace(method, backbone=method.backbone.clone(**options))


def made_up_batch(size=8, seed=0):
  rng = np.random.default_rng(seed)
  smooth = lambda h, w: np.kron(rng.integers(0, 255, (size, h // 8, w // 8, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
  return {
    "image": smooth(80, 40),
    "image_hw": np.tile(np.int32([[72, 36]]), (size, 1)),
    "scene": smooth(64, 64),
    "scene_hw": np.tile(np.int32([[64, 56]]), (size, 1)),
    "index": np.arange(100, 100 + size, dtype=np.uint32),
  }


class MadeUpData(ToyData):
  """Made-up batches, a pure function of the step."""

  def batches(self, start_step=0, host=0, hosts=1):
    rows = self._batch_size // hosts
    for step in range(start_step, 10**6):
      batch = made_up_batch(self._batch_size, seed=step)
      yield {name: array[host * rows : (host + 1) * rows] for name, array in batch.items()}


def train_tiny(workdir, *overrides):
  """Trains all three objectives on all devices of all processes."""
  config, method = tiny("panel_every=0", *overrides)
  train_in_folder(config, method, lambda _: MadeUpData(config.batch_size), workdir)


if __name__ == "__main__":
  parser = argparse.ArgumentParser()
  parser.add_argument("--workdir", required=True)
  options, settings = parser.parse_known_args()
  initialize()
  train_tiny(options.workdir, *[s.removeprefix("--config.") for s in settings])
