"""`saip export` of the weights that the fixture `checkpoint` opens, and images for exports of reduced precision."""

import contextlib
import json
import pathlib

import numpy as np
import pytest

from saip_jax import cli
from saip_jax.interop import export_files
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


_traced: dict[bool, bytes] = {}  # with normalization or not -> the file


@contextlib.contextmanager
def traced_once():
  """ONNX files of one and the same weights: PyTorch traces them once in this process, which takes seconds."""
  write_onnx = export_files.write_onnx

  def write(path, encoder, facts, preprocessing):
    if preprocessing not in _traced:
      write_onnx(path, encoder, facts, preprocessing)
      _traced[preprocessing] = path.read_bytes()
    path.write_bytes(_traced[preprocessing])

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(export_files, "write_onnx", write)
    yield
