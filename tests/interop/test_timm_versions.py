"""Exported folders in older and newer versions of timm: Kaggle has 1.0.26, Colab 1.0.28."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from saip_jax.interop import export, proof
from saip_jax.interop.architectures import ARCHITECTURES
from tests.support.exports import parity, run
from tests.support.package_index import installed_alone
from tests.support.trained_weights import REPO, backbone_weights

pytestmark = [pytest.mark.torch, pytest.mark.slow]

FEATURES = 2e-5
FAMILIES = ("vit_tiny", "vit_nano", "vit_tiny_rope", "swin_tiny", "convnext_femto", "hrnet_w18")
READER = """
import json, pathlib, re, sys
from saip_jax.interop.torch_model import why_missing  # imports timm beside any torchvision
assert not why_missing(("torch", "timm"))
import numpy as np, timm, torch, transformers

def inputs(folder):
  record = json.loads((folder / "parity.json").read_text())
  rng = np.random.default_rng(record["inputs"]["seed"])
  height, width = record["model"]["image_hw"]
  return torch.from_numpy(rng.standard_normal((3, height, width, 3), dtype="float32").transpose(0, 3, 1, 2).copy())

torch.set_num_threads(1)
found = {}
refused = {}
with torch.no_grad():
  for folder in map(pathlib.Path, sys.argv[2:]):
    line = re.search("model = (timm.*?)  #", (folder / "README.md").read_text())[1]  # as the model card has it
    try:
      outputs = eval(line.replace("DIR", str(folder)))(inputs(folder))
    except TypeError as e:
      refused[folder.name] = str(e)
      continue
    maps = outputs if isinstance(outputs, list) else [outputs]  # HRNet has four
    found[folder.name] = torch.cat([m.mean((2, 3)) if m.ndim == 4 else m for m in maps], dim=1).numpy()
  folder = pathlib.Path(sys.argv[2])
  found["in transformers"] = transformers.AutoModel.from_pretrained(folder).eval()(inputs(folder)).pooler_output.numpy()
np.savez(sys.argv[1], **found)
print(json.dumps([timm.__version__, timm.__file__, refused]))
"""


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
  """The timm dialect of every family that has it, proven with the installed timm."""
  folder = tmp_path_factory.mktemp("exports")
  assert {ARCHITECTURES[name].kind for name in FAMILIES} == {
    a.kind for a in ARCHITECTURES.values() if "timm" in a.dialects
  }
  for name in FAMILIES:
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(export, "open_weights", lambda path, name=name: backbone_weights(name))
      assert run("--dialect=timm", f"--out={folder / name}") == 0
  return folder


@pytest.mark.parametrize("requirement", ["timm==1.0.17", "timm==1.0.26", "timm==1.0.28", "timm"])
def test_every_version_computes_the_features(tmp_path, exports, torch, requirement):
  pytest.importorskip("transformers")
  target = installed_alone(requirement, tmp_path / "timm")
  folders = [str(exports / name) for name in FAMILIES]
  command = [sys.executable, "-c", READER, str(tmp_path / "features.npz"), *folders]
  paths = os.pathsep.join((str(target), str(REPO)))
  done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  version, place, refused = json.loads(done.stdout.splitlines()[-1])
  assert place.startswith(str(target)) and requirement in (f"timm=={version}", "timm")
  numbers = lambda text: [int(number) for number in text.split(".")]
  too_old = {name for name in FAMILIES if numbers(version) < numbers(ARCHITECTURES[name].oldest_timm)}
  assert refused.keys() == too_old and all("unexpected keyword argument" in e for e in refused.values())
  with np.load(tmp_path / "features.npz") as found:
    np.testing.assert_allclose(found["in transformers"], found[FAMILIES[0]], rtol=0, atol=FEATURES)
    for name in set(FAMILIES) - refused.keys():
      weights = backbone_weights(name)
      ours = proof.jax_features(weights, "student", proof.probe_images(weights.spec.image_hw))["cls"]
      assert ours.shape == found[name].shape and np.abs(ours).max() > 1
      np.testing.assert_allclose(found[name], ours, rtol=0, atol=FEATURES, err_msg=name)
      recorded = parity(exports / name)["outputs"]["cls"]["reloaded"]  # the first values of the first image
      np.testing.assert_allclose(found[name][0, :8], recorded, rtol=0, atol=FEATURES, err_msg=name)
