"""`saip export --dialect=stablehlo`: JAX alone runs the file, and computes the same features."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from saip_jax.interop import export, proof
from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.export import export_weights
from saip_jax.interop.stablehlo import STABLEHLO_FILE, run_stablehlo
from tests.support.exports import parity, run
from tests.support.trained_weights import backbone_weights

HW = (64, 32)
_OF_EACH_KIND = ("vit_tiny_rope", "tinyvit_5m", "swin_tiny", "convnext_femto", "hrnet_w18_bilinear")


@pytest.fixture
def weights():
  return backbone_weights("vit_nano", HW)


def test_the_code_of_the_card_runs_with_jax_alone(tmp_path, checkpoint, weights, monkeypatch, capfd):
  monkeypatch.setitem(sys.modules, "torch", None)  # neither needed to write nor to compare
  assert run("--dialect=stablehlo", "--which=teacher", f"--out={tmp_path / 'out'}") == 0
  printed = capfd.readouterr()
  assert printed.out.count("\n") == 1 and "jax.export.deserialize" in printed.out and not printed.err
  images = np.random.default_rng(3).standard_normal((5, *HW, 3), np.float32)  # another batch than that of the proof
  np.save(tmp_path / "images.npy", images)
  card = (tmp_path / "out" / "README.md").read_text()
  code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
  script = (
    "import sys, numpy as np\nsys.modules['saip_jax'] = sys.modules['flax'] = None\n"
    f"images = np.load({str(tmp_path / 'images.npy')!r})\n{code}"
    f"np.savez({str(tmp_path / 'features.npz')!r}, **features)\n"
  )
  environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}
  subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path / "out", env=environment)
  ours = proof.jax_features(weights, "teacher", images)
  with np.load(tmp_path / "features.npz") as theirs:
    for name in ("cls", "patch_tokens"):
      assert theirs[name].shape == ours[name].shape and np.abs(theirs[name] - ours[name]).max() < 2e-5
  assert not np.allclose(ours["cls"], proof.jax_features(weights, "student", images)["cls"], atol=0.1)


def test_the_record_states_platforms_and_versions(tmp_path, weights):
  record = export_weights(weights, "stablehlo", tmp_path / "out", license="apache-2.0")
  assert record == json.loads(json.dumps(record)) and parity(tmp_path / "out")["license"] == "apache-2.0"
  facts = record["stablehlo"]
  assert facts["platforms"] == ["cpu", "tpu", "cuda"] and facts["input"] == "float32[batch,64,32,3]"
  assert facts["outputs"] == {"cls": "float32[batch,96]", "patch_tokens": "float32[batch,32,96]"}
  assert re.fullmatch(r"1\.\d+\.\d+", facts["stablehlo_version"]) and facts["calling_convention_version"] >= 9
  card = (tmp_path / "out" / "README.md").read_text()
  for words in ("6 months", "3 weeks", facts["stablehlo_version"], "cpu, tpu, cuda", "apache-2.0"):
    assert words in card, words
  assert record["parity"]["limit"] == 1e-4 and 0 <= record["parity"]["max_abs_difference"] < 2e-5
  assert set(record["outputs"]) == {"cls", "patch_tokens"} and set(record["files"]) == {"README.md", STABLEHLO_FILE}


def test_a_file_that_computes_something_else_is_not_left(tmp_path, checkpoint, monkeypatch, capfd):
  def other(path, images):
    return {name: value + 1 for name, value in run_stablehlo(path, images).items()}

  monkeypatch.setattr(proof, "run_stablehlo", other)
  assert run("--dialect=stablehlo", f"--out={tmp_path / 'out'}") == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and "computes something else" in error and not list(tmp_path.iterdir())


def test_every_backbone_has_it():
  assert all("stablehlo" in architecture.dialects for architecture in ARCHITECTURES.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", _OF_EACH_KIND)
def test_other_networks_take_any_batch(tmp_path, monkeypatch, name):
  monkeypatch.setattr(export, "open_weights", lambda path: backbone_weights(name, HW))
  assert run("--dialect=stablehlo", f"--out={tmp_path / 'out'}") == 0
  images = proof.probe_images(HW)[:2]
  theirs = run_stablehlo(tmp_path / "out" / STABLEHLO_FILE, images)
  ours = proof.jax_features(backbone_weights(name, HW), "student", images)
  assert np.abs(theirs["patch_tokens"] - ours["patch_tokens"]).max() < 2e-5
