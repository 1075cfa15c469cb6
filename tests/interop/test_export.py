"""`saip export`: messages and errors, with and without PyTorch, and the model card."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from saip_jax import cli
from saip_jax.interop import export, torch_model
from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.history import run_history, shortened
from saip_jax.interop.tensor_files import read_tensors
from tests.support.exports import parity, run
from tests.support.toy_weights import add_toy_backbone, random_weights
from tests.support.trained_weights import REPO, backbone_weights


@pytest.mark.parametrize("dialect", ["timm", "safetensors"])
def test_without_pytorch_the_files_are_written_and_the_proof_is_not_run(
  tmp_path, checkpoint, weights, monkeypatch, capfd, dialect
):
  monkeypatch.setitem(sys.modules, "torch", None)  # makes every import of it fail
  out = tmp_path / "out"
  assert run(f"--dialect={dialect}", f"--out={out}") == 0
  reason = 'not run: PyTorch is not installed: pip install "saip-jax[torch]"'
  printed = capfd.readouterr()
  assert reason in printed.out and printed.out.count("\n") == 1 and not printed.err
  record = parity(out)
  assert record["parity"] == reason and reason in (out / "README.md").read_text()
  assert len(record["outputs"]["cls"]["saip_jax"]) == 8 and record["files"]["model.safetensors"]["bytes"] > 22e6
  tensors, metadata = read_tensors(out / "model.safetensors")
  assert metadata == {"format": "pt"} and not {"mask_token", "inter_norm.weight"} & tensors.keys()
  for name, tensor in DIALECTS["timm"].to_state(weights, "student").items():
    np.testing.assert_array_equal(tensors.pop(name), tensor)
  assert not tensors


@pytest.mark.parametrize("dialect", ["saip", "mae", "dino", "vitpose", "mmpose", "onnx", "torchscript"])
def test_what_needs_pytorch_says_so(tmp_path, checkpoint, monkeypatch, capfd, dialect):
  monkeypatch.setitem(sys.modules, "torch", None)
  assert run(f"--dialect={dialect}", f"--out={tmp_path / 'out'}") == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and "PyTorch is not installed" in error and "saip-jax[torch]" in error
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--dialect=tim"], ["did you mean 'timm'"]),
    (["--dialect=timm", "--with-preprocessing"], ["--dialect=onnx"]),
    (["--dialect=timm", "--image-hw=250x125"], ["250x125", "multiples", "16"]),
    (["--dialect=timm", "--out={tmp}"], ["--out={tmp}", "exists"]),
    (["--dialect=timm", "--out={tmp}/file"], ["--out={tmp}/file", "exists"]),
    (["--dialect=timm", "--out=/proc/nowhere/x"], ["/proc/nowhere"]),
    (["--dialect=timm", "--size=3"], ["--size=3", "--help"]),
  ],
)
def test_a_mistake_is_one_line(tmp_path, checkpoint, monkeypatch, capfd, flags, words):
  monkeypatch.setitem(sys.modules, "torch", None)
  (tmp_path / "file").touch()
  flags = [flag.format(tmp=tmp_path) for flag in (["--out={tmp}/out"] + flags)]
  assert run(*flags) == 2
  error = capfd.readouterr().err
  assert error.startswith("saip export: error: ") and error.count("\n") == 1, error
  assert all(word.format(tmp=tmp_path) in error for word in words), error
  assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.torch
@pytest.mark.parametrize("dialect", ["timm", "torchscript"])
def test_a_timm_that_computes_something_else_is_refused(tmp_path, monkeypatch, torch, capfd, dialect):
  monkeypatch.setattr(export, "open_weights", lambda path: backbone_weights("vit_tiny_rope"))
  monkeypatch.setattr(export.importlib.metadata, "version", lambda package: "1.0.28")
  assert run(f"--dialect={dialect}", f"--out={tmp_path / 'out'}") == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and "vit_tiny_rope needs timm 1.0.30" in error and "1.0.28 is installed" in error
  assert not list(tmp_path.iterdir())


@pytest.mark.torch
def test_vitpose_takes_squares_only(tmp_path, checkpoint, torch, capfd):
  assert run("--dialect=vitpose", f"--out={tmp_path / 'out'}", "--image-hw=256x192") == 2
  assert "--image-hw=256x256" in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_a_broken_installation_is_told_apart_from_none(tmp_path, checkpoint, monkeypatch, capfd):
  def fail(package):
    raise RuntimeError("operator torchvision::nms\ndoes not exist")

  monkeypatch.setattr(torch_model.importlib, "import_module", fail)
  assert run("--dialect=mae", f"--out={tmp_path / 'out'}") == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and "torch cannot be imported (operator torchvision::nms does not exist)" in error


@pytest.mark.torch
@pytest.mark.parametrize("fits", [True, False])
def test_torchvision_is_imported_whether_or_not_it_fits_torch(tmp_path, torch, fits):
  """In a process of its own: PyTorch keeps operators for good, and a torchvision that fits aborts if they exist."""
  (tmp_path / "torchvision.py").write_text(
    "import torch\n"
    "library = torch.library.Library('torchvision', 'DEF')\n"
    "library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
    if fits
    else "import torch\ntorch.library.register_fake('torchvision::nms')(lambda dets, scores, iou_threshold: dets)\n"
  )
  script = "from saip_jax.interop.torch_model import import_package; import_package('torchvision')"
  done = subprocess.run(
    [sys.executable, "-c", f"{script}; import torch, torchvision; print(torch.ops.torchvision.nms)"],
    env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}"},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0 and done.stdout.strip() == "torchvision.nms", done.stderr


def test_weights_without_a_teacher_are_refused_by_name(tmp_path, checkpoint, weights, monkeypatch, capfd):
  monkeypatch.setitem(sys.modules, "torch", None)
  monkeypatch.setattr(export, "open_weights", lambda path: dataclasses.replace(weights, teacher=None))
  assert run("--dialect=timm", "--which=teacher", f"--out={tmp_path / 'out'}") == 2
  assert "no teacher" in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_the_card_tells_how_the_weights_were_made(tmp_path, checkpoint, monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  run_folder = tmp_path / "W"
  for step in (2, 40):
    (run_folder / "checkpoints" / str(step)).mkdir(parents=True)
  (run_folder / "config.json").write_text(
    json.dumps(
      {
        "batch_size": 2048,
        "precision": "bfloat16",
        "total_steps": 100,
        "data": {"source": "folder", "path": "/a/crops"},
        "method": {"name": "saip", "fidelity": "official"},
        "init_from": None,
      }
    )
  )
  for checkpoint_path, step, images in ((run_folder, 40, "81,920"), (run_folder / "checkpoints" / "2", 2, "4,096")):
    out = tmp_path / f"out{step}"
    assert cli.main(["export", f"--checkpoint={checkpoint_path}", "--dialect=timm", f"--out={out}"]) == 0
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n") and "{" not in card
    for words in ("saip, fidelity official", f"| {step} of 100 |", "| folder (crops) |", images, "256x128", "3 heads"):
      assert words in card, words
    assert str(tmp_path) not in card
  history = run_history(run_folder)
  assert history == run_history(tmp_path / "out40") == run_history(tmp_path / "out40" / "model.safetensors")
  assert run_history(tmp_path / "out40" / "other.safetensors") == run_history(tmp_path) == {}


def test_no_folders_of_the_own_disk_are_told():
  assert shortened("step 200 of the run /home/me/runs/W") == "step 200 of the run runs/W"
  assert shortened("/data/a/model.pth (saip)") == "a/model.pth (saip)" and shortened("model.pth") == "model.pth"


@pytest.mark.torch
def test_the_lines_in_the_documentation_work(tmp_path, checkpoint, torch, capfd):
  blocks = re.findall(r"```python\n(.*?)```", (REPO / "docs" / "interop" / "export.md").read_text(), re.DOTALL)
  lines = [block for block in blocks if "local-dir:" in block]
  assert len(lines) == 1 and len(lines[0].splitlines()) <= 12
  assert run("--dialect=timm", f"--out={tmp_path / 'DIR'}") == 0
  capfd.readouterr()

  torch.manual_seed(0)
  exec(lines[0].replace("local-dir:DIR", f"local-dir:{tmp_path / 'DIR'}"), {})
  assert float(capfd.readouterr().out.split()[-1]) < 0.5  # the layer has learned its labels


@pytest.mark.torch
def test_a_backbone_that_timm_lacks_is_an_error_of_one_line(monkeypatch):
  add_toy_backbone(monkeypatch)
  mine = dataclasses.replace(ARCHITECTURES["vit_toy"], timm_name="vit_of_mine")
  monkeypatch.setitem(ARCHITECTURES, "vit_toy", mine)
  with pytest.raises(
    ValueError, match="has no model 'vit_of_mine', the counterpart of the backbone vit_toy.*dialect=saip"
  ):
    torch_model.timm_model(random_weights().spec, {})
