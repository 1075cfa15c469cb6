"""Runs that an earlier version of the program made: they must open, and go on, as they did."""

import dataclasses
import functools
import json
import pathlib
import shutil

from saip_jax.backbones import BACKBONES
from saip_jax.backbones.convnext import ConvNeXt
from saip_jax.backbones.vit import ViT
from saip_jax.interop.architectures import ARCHITECTURES

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text("utf-8"))
"""Run or import -> what the version that made it read out of it: scores, facts, sums of absolute weights."""

RUNS = ("saip", "dino", "hcmoco")


def add_golden_backbones(monkeypatch) -> None:
  """Registers the small backbones of the golden runs."""
  monkeypatch.setitem(BACKBONES, "vit_toy", functools.partial(ViT, width=12, depth=2, heads=3, tapped_block=0))
  sizes = {"embed_dim": 12, "depth": 2, "num_heads": 3}
  toy = dataclasses.replace(ARCHITECTURES["vit_tiny"], arguments=lambda image_hw: {"img_size": list(image_hw), **sizes})
  monkeypatch.setitem(ARCHITECTURES, "vit_toy", toy)
  toy = functools.partial(ConvNeXt, dims=(8, 12, 16, 24), depths=(1, 1, 1, 1))
  monkeypatch.setitem(BACKBONES, "convnext_toy", toy)
  monkeypatch.setitem(ARCHITECTURES, "convnext_toy", ARCHITECTURES["convnext_femto"])


def copy_of(name: str, folder: pathlib.Path) -> pathlib.Path:
  """Returns a copy of a golden run or import, free to be changed."""
  return pathlib.Path(shutil.copytree(GOLDEN / name, folder / name))
