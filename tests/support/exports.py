"""`saip export` of the weights that the fixture `checkpoint` opens, and images for exports of reduced precision."""

import json
import pathlib

import numpy as np

from saip_jax import cli
from tests.support.noise_pictures import noise


def run(*arguments) -> int:
  """Returns the exit status of `saip export`."""
  return cli.main(["export", "--checkpoint=W", *arguments])


def parity(folder: pathlib.Path) -> dict:
  """Returns the record of the comparison beside exported weights."""
  return json.loads((folder / "parity.json").read_text())


def pictures(image_hw: tuple[int, int], count: int = 40) -> tuple[np.ndarray, dict]:
  """The argument `images` of `export_weights`: noise with the contrast of photos."""
  return np.stack([noise(seed, image_hw) for seed in range(count)]), {"name": "noise", "length": count}
