"""The notebook for Colab and Kaggle: its cells as one script, on CPU and very small."""

import glob
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.support.tiny_saip import TINY

pytestmark = pytest.mark.compile

REPO = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOK = REPO / "scripts" / "colab.ipynb"


def cells():
  return ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_clean():
  content = json.loads(NOTEBOOK.read_text())
  names = [cell["id"] for cell in content["cells"]]
  assert (content["nbformat"], content["nbformat_minor"]) == (4, 5) and len(set(names)) == len(names)
  assert all(re.fullmatch("[a-z-]{1,64}", name) for name in names)
  assert all(not cell["metadata"] for cell in content["cells"])
  assert all(not c["outputs"] and c["execution_count"] is None for c in content["cells"] if c["cell_type"] == "code")
  assert not any(line.startswith(("!", "%")) for source in cells() for line in source.splitlines())


@pytest.mark.parametrize(
  "machine,smi,devices,chosen",
  [
    ("/content", "Driver Version: 550.54.15   CUDA Version: 12.4", [], "cuda12"),
    ("/kaggle/working", "Driver Version: 580.1  CUDA Version: 13.0", [], "cuda13"),
    ("/content", None, ["/dev/accel0"], "tpu"),
    ("/content", None, [], "cpu"),
  ],
)
def test_the_notebook_installs_what_the_machine_needs(tmp_path, monkeypatch, machine, smi, devices, chosen):
  commands = []

  class Process:
    stdout, returncode = [], 0

    def __init__(self, command, **_):
      commands.append(command)

    __enter__, __exit__ = (lambda self: self), (lambda self, *_: None)

  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("SAIP_NOTEBOOK_FOLDER", str(tmp_path / "out"))
  monkeypatch.delenv("TPU_ACCELERATOR_TYPE", raising=False)
  monkeypatch.setattr(pathlib.Path, "is_dir", lambda path: str(path) == machine)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  monkeypatch.setattr(shutil, "which", lambda name: smi and f"/bin/{name}")
  monkeypatch.setattr(glob, "glob", lambda pattern: devices if "accel" in pattern else [])
  monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, smi))
  monkeypatch.setattr(subprocess, "Popen", Process)
  monkeypatch.setattr(pathlib.Path, "mkdir", lambda *_, **__: None)
  exec("\n".join(cells()[:2]), {})
  clone, install = commands
  assert clone[:2] == ["git", "clone"] and clone[-1] == f"{machine}/saip_jax"
  assert install[1:4] == ["-m", "pip", "install"] and install[-2:] == [f"{machine}/saip_jax[torch]", f"jax[{chosen}]"]


@pytest.mark.slow
@pytest.mark.torch
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
  pytest.importorskip("timm")
  # The numbers of tests/test_end_to_end.py: whichever runs later finds the step compiled.
  settings = [s for s in TINY if not s.startswith("data.path")] + ["optimizer.min_learning_rate=5e-4"]
  # A torchvision built for another torch does not import until its operators have names (see conftest.py).
  before = """import torch
if not hasattr(torch.ops.torchvision, "nms"):
  library = torch.library.Library("torchvision", "DEF")
  for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
  after = "\nassert 'jax' not in sys.modules and features.shape == (192,) and bool(torch.isfinite(features).all())\n"
  script = tmp_path / "notebook.py"
  script.write_text("\n\n".join([before, *cells(), after]))
  environment = {
    **os.environ,
    "SAIP_NOTEBOOK_STEPS": "4",
    "SAIP_NOTEBOOK_IMAGES": "40",
    "SAIP_NOTEBOOK_FOLDER": str(tmp_path / "out"),
    "SAIP_NOTEBOOK_SETTINGS": shlex.join(f"--config.{s}" for s in settings),
    "MPLBACKEND": "Agg",
    "PYTHONPATH": str(REPO),
    "PYTHONDONTWRITEBYTECODE": "1",
  }
  present = lambda: {path for folder in (REPO / "scripts", REPO / "runs") for path in folder.glob("*")}
  at_first = present()
  done = subprocess.run(
    [sys.executable, str(script)], cwd=REPO / "scripts", env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
  assert present() <= at_first
  made = {path.name for path in (tmp_path / "out").iterdir()}
  assert made == {"people.png", "people_labels.png", "people_40", "run", "losses.png", "timm"}
  assert len((tmp_path / "out" / "run" / "metrics.jsonl").read_text().splitlines()) == 4
  assert {"config.json", "model.safetensors", "parity.json"} <= {p.name for p in (tmp_path / "out" / "timm").iterdir()}
  assert "192 features of an image of (128, 256)" in done.stdout
