"""The command itself, on image files: every promised output, and a second call that goes on exactly."""

import json
import pathlib

import cv2
import numpy as np
import pytest

from input_pipeline.people.compositions import render_picture
from input_pipeline.people.spec import SetSpec
from saip_jax import cli
from tests.support.kill_and_resume import differing
from tests.support.tiny_saip import TINY

pytestmark = pytest.mark.compile

REPO = pathlib.Path(__file__).resolve().parents[2]
KEYS = {
  "step",
  "loss/total",
  "loss/csm_rep",
  "loss/csm_att",
  "loss/csr",
  "loss/css_inst",
  "loss/css_roi",
  "optim/lr",
  "optim/grad_norm",
  "time/images_per_s",
  "time/input_wait_fraction",
  "monitor/teacher_entropy",
  "monitor/center_norm",
  "monitor/feature_spread",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  folder = tmp_path_factory.mktemp("photos")
  for i in range(200):
    image = render_picture(SetSpec("crops", (96, 48), 0, 12), i % 12).image_u8[..., ::-1]
    cv2.imwrite(str(folder / f"{i:03d}{('.jpg', '.png', '.webp', '.bmp')[i % 4]}"), image)
  (folder / "broken.jpg").write_bytes(b"no picture")
  return folder


def pretrain(workdir, photos, *overrides):
  settings = [s for s in TINY if not s.startswith(("data.path", "batch_size"))]
  settings += ["batch_size=8", "checkpoint_every=2", "panel_every=4", "data.source=folder", f"data.path={photos}"]
  return cli.main(
    [
      "pretrain",
      f"--config={REPO / 'configs' / 'saip_demo.py'}",
      f"--workdir={workdir}",
      *(f"--config.{s}" for s in (*settings, *overrides)),
    ]
  )


@pytest.mark.slow
def test_pretrain_writes_all_it_promises_and_resumes_exactly(tmp_path, photos, capsys):
  schedule = ("optimizer.min_learning_rate=5e-4",)  # constant, so that a shorter run is a part of the longer
  assert pretrain(tmp_path / "parts", photos, "total_steps=2", *schedule) == 0
  assert pretrain(tmp_path / "parts", photos, "total_steps=4", *schedule) == 0
  assert pretrain(tmp_path / "whole", photos, "total_steps=4", *schedule) == 0
  output = capsys.readouterr().out
  assert "resuming at step 2" in output

  whole = tmp_path / "whole"
  records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
  assert [r["step"] for r in records] == [1, 2, 3, 4] and all(KEYS <= r.keys() for r in records)
  assert all(np.isfinite(v) for r in records for v in r.values())
  assert json.loads((whole / "config.json").read_text())["method"]["name"] == "saip"
  assert sorted(p.name for p in (whole / "checkpoints").iterdir()) == ["2", "4"]
  for name in ("views", "reconstruction", "search"):
    picture = cv2.imread(str(whole / "panels" / f"000004_{name}.png"))
    assert picture is not None and picture.std() > 10
  assert list((whole / "tensorboard").iterdir())
  assert f"checkpoint {whole / 'checkpoints' / '4'}" in output and str(whole / "metrics.jsonl") in output
  assert differing(tmp_path / "parts", whole) == []

  assert pretrain(whole, photos, "seed=1") == 2
  assert "config.seed was 0, now 1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_of_broken_images_is_refused(tmp_path, capsys):
  folder = tmp_path / "photos"
  folder.mkdir()
  for i in range(8):
    (folder / f"{i}.jpg").write_bytes(b"" if i % 2 else b"\xff\xd8\xff\xe0 cut")
  assert pretrain(tmp_path / "run", folder, "total_steps=2") == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "data.max_damaged_fraction" in error and "zero bytes" in error
