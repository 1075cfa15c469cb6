"""The picture of the README: composed from the panels of a run, small enough, and only of runs of SAIP."""

import io
import pathlib
import runpy
import types

import numpy as np
import pytest
from PIL import Image

from saip_jax.pictures import Panel
from saip_jax.reporting.encoder_pictures import feature_colors
from tests.support.golden import GOLDEN, add_golden_backbones

REPO = pathlib.Path(__file__).resolve().parents[2]
PICTURES = REPO / "docs" / "pictures"
_RED, _GREEN = np.uint8([200, 30, 30]), np.uint8([30, 160, 30])


@pytest.fixture(scope="module")
def script():
  return types.SimpleNamespace(**runpy.run_path(str(REPO / "scripts" / "draw_overview.py")))


def _panels(scene) -> dict[str, Panel]:
  """Panels of one sample in the order of `saip_jax.methods.saip.panels`, all gray but the scene."""
  cell = lambda name, image=np.full((64, 32, 3), 128, np.uint8): (name, image)
  scene = ("scene", np.broadcast_to(scene, (56, 56, 3)))
  views = [cell(name) for name in ("image", "anchor", "augmented", "local 1", "local 2", "instance")]
  painted = ("anchor", "target", "seen", "scored", "reconstruction", "with the seen")
  search = [scene, cell("find: anchor"), scene, ("search", np.broadcast_to(_GREEN, (56, 56, 3)))]
  rows = {"views": [*views, scene], "reconstruction": [cell(name) for name in painted], "search": search}
  return {name: Panel([row]) for name, row in rows.items()}


def test_the_picture_has_its_size_and_its_cells(script):
  images = np.full((6, 64, 32, 3), 90, np.uint8)
  data = script.draw(_panels(_RED), images, images, 0)
  picture = Image.open(io.BytesIO(data))
  assert picture.size == script.SIZE and len(data) < script.MOST_BYTES
  pixels = np.asarray(picture.convert("RGB")).astype(int)
  red, green = (np.argwhere(np.abs(pixels - color.astype(int)).max(-1) < 12) for color in (_RED, _GREEN))
  assert len(red) > 200**2 and len(green) > 200**2  # the scene, and where the person was found
  assert red[:, 1].max() < green[:, 1].min() < script.SIZE[0]  # beside it


def test_the_colors_tell_features_apart():
  cells = np.zeros((2, 4, 2, 5), np.float32)
  cells[:, :2, :, 1], cells[1, 2:, :, 3] = 3.0, -2.0
  colors, share = feature_colors(cells)
  assert share == pytest.approx(1) and colors.shape == (2, 4, 2, 3) and colors.dtype == np.uint8
  assert (colors[0, :2] == colors[1, 0, 0]).all() and (colors[0, 2:] == colors[0, 3, 0]).all()
  assert len({tuple(color) for color in colors.reshape(-1, 3)}) == 3


def test_runs_of_other_methods_are_refused(script, monkeypatch):
  add_golden_backbones(monkeypatch)
  with pytest.raises(ValueError, match="is a run of dino: expected one of saip"):
    script.panels_of(GOLDEN / "dino")


@pytest.mark.slow
@pytest.mark.compile
def test_a_run_becomes_a_picture(script, monkeypatch, tmp_path):
  add_golden_backbones(monkeypatch)
  monkeypatch.setenv("SAIP_CACHE", str(tmp_path))
  panels, images, colors = script.panels_of(GOLDEN / "saip")
  assert len(images) == len(colors) == len(panels["search"].rows) == script.CANDIDATES
  assert Image.open(io.BytesIO(script.draw(panels, images, colors, 3))).size == script.SIZE


def test_pictures_are_small_and_explained(script):
  text = (PICTURES / "README.md").read_text("utf-8")
  for path in PICTURES.iterdir():
    if path.suffix != ".md":
      assert f"`{path.name}`" in text, f"docs/pictures/README.md says nothing of {path.name}"
      most = script.MOST_BYTES if path.name == "overview.png" else 200_000
      assert path.stat().st_size < most, f"{path} has {path.stat().st_size:,} bytes"
  assert Image.open(PICTURES / "overview.png").size == script.SIZE
