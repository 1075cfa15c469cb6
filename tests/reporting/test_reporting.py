"""What a person sees: pictures and the terminal."""

import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from saip_jax.pictures import Panel, save_panel
from saip_jax.run_folder.workdir import RunFolder
from saip_jax.training.progress import Progress, run_summary

_RECORD = {
  "epoch": 0.5,
  "loss/fit": 1.0,
  "loss/total": 2.0,
  "time/images_per_s": 10.0,
  "time/input_wait_fraction": 0.25,
}


def test_a_panel_shows_every_image_in_its_colors(tmp_path):
  color = lambda *rgb, shape=(20, 10): np.broadcast_to(np.uint8(rgb), (*shape, 3))
  panel = Panel(
    [
      [("red", color(255, 0, 0)), ("green as floats", color(0, 255, 0) / 255.0), ("", color(10, 20, 30))],
      [("wide", color(0, 0, 255, shape=(8, 40)))],
    ]
  )
  path = tmp_path / "new" / "000001_views.png"
  save_panel(path, panel)
  assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing half written is left
  pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
  areas = [np.sum((pixels == rgb).all(axis=-1)) for rgb in ((255, 0, 0), (0, 255, 0), (10, 20, 30), (0, 0, 255))]
  assert max(areas[:3]) < 1.05 * min(areas[:3])  # equally large, although one is given as floats
  assert areas[3] == pytest.approx(10 * areas[0], rel=0.05)  # equally high, so 5:1 beside 1:2 has ten times the area


def test_values_out_of_range_are_clipped_not_wrapped(tmp_path):
  save_panel(tmp_path / "a.png", Panel([[("", np.full((4, 4, 3), 1.5)), ("", np.full((4, 4, 3), -0.5))]]))
  pixels = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
  assert (pixels[:, : pixels.shape[1] // 2] > 250).mean() > 0.9
  assert (pixels[:, pixels.shape[1] // 2 :] < 5).mean() > 0.7


@pytest.mark.parametrize("panel", [Panel([]), Panel([[]]), Panel([[("", np.zeros((4, 4)))]])])
def test_what_is_no_picture_is_refused(tmp_path, panel):
  with pytest.raises(ValueError, match="panel"):
    save_panel(tmp_path / "a.png", panel)


def test_plain_lines_when_nobody_watches(capsys):
  progress = Progress(10)
  progress.start(0)
  progress.update(1, _RECORD)
  assert capsys.readouterr() == ("", "")
  progress.checkpoint(1)
  progress.close()
  output = capsys.readouterr()
  assert output.out == "step 1/10, epoch 0.50, total 2 fit 1, 10.0 images/s, input wait 25%, checkpoint\n"
  assert output.err == ""


def test_one_live_line_on_a_terminal(capsys, monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, "stderr", terminal)
  monkeypatch.setenv("COLUMNS", "200")
  progress = Progress(10)
  progress.start(2)
  for step in (3, 4):
    progress.update(step, _RECORD)
  progress.checkpoint(4)
  progress.close()
  assert capsys.readouterr().out == ""
  last = re.split("\r|\n", terminal.getvalue().strip())[-1]
  for words in ("4/10", "epoch 0.50", "total 2 fit 1", "10.0 images/s", "input wait 25%", "left"):
    assert words in last, last


def test_other_hosts_are_silent(capsys):
  progress = Progress(10, enabled=False)
  progress.start(0)
  progress.say("banner")
  progress.update(1, _RECORD)
  progress.checkpoint(1)
  progress.close()
  assert capsys.readouterr() == ("", "")


def test_the_summary_names_the_newest_pictures_and_is_short(tmp_path):
  for name in ("000010_views.png", "000009_views.png", "1000000_views.png", "1000000_search.png"):
    (tmp_path / "panels").mkdir(exist_ok=True)
    (tmp_path / "panels" / name).touch()
  text = run_summary(RunFolder(tmp_path), 7, [f"{i}.jpg: broken" for i in range(100)])
  assert "1000000_search.png" in text and "1000000_views.png" in text and "000010" not in text
  assert "100 images skipped" in text and "damaged_images.txt" in text and len(text.splitlines()) < 30


@pytest.mark.compile
def test_reports_import_without_plotting_or_tables():
  """The Panel class is part of the method protocol; bare machines have neither matplotlib nor clu."""
  imports = "import sys, saip_jax.pictures, saip_jax.training.progress"
  code = f"{imports}; print({{'matplotlib', 'clu', 'PIL'}} & set(sys.modules))"
  output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert output.stdout.strip() == "set()"
