"""The notebook for Colab and Kaggle: executed on CPU, very small; what it installs fits what those machines have."""

import base64
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import venv

import pytest

from tests.support.notebooks import TORCHVISION, execute
from tests.support.package_index import need_package_index
from tests.support.tiny_saip import TINY

pytestmark = pytest.mark.compile

REPO = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOK = REPO / "scripts" / "colab.ipynb"
MACHINES = {path.stem: path for path in sorted((REPO / "tests" / "fixtures" / "hosted").glob("*.txt"))}


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


def install(monkeypatch, folder: pathlib.Path, source: str):
  """Runs the install cell where nothing is installed; returns the arguments of pip.

  Returns:
    The requirements, the constraints, and the names in the folder that the first requirement is, if it is one.
  """
  calls = []

  class Process:
    stdout, returncode = [], 0

    def __init__(self, command, **_):
      assert command[1:4] == ["-m", "pip", "--disable-pip-version-check"] and command[4:6] == [
        "install",
        "--progress-bar=off",
      ]
      option, *requirements = command[6:]
      place = pathlib.Path(requirements[0])
      names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
      calls.append((requirements, pathlib.Path(option.removeprefix("--constraint=")).read_text(), names))

    __enter__, __exit__ = (lambda self: self), (lambda self, *_: None)

  def finished(command, stdout=None, **_):
    if "list" in command:
      stdout.write("torch==2.11.0+cu128\njax==0.7.2\n")
    return subprocess.CompletedProcess(command, 0 if "list" in command else 1)

  monkeypatch.chdir(folder)
  monkeypatch.setenv("SAIP_NOTEBOOK_FOLDER", str(folder / "out"))
  monkeypatch.setenv("SAIP_NOTEBOOK_SOURCE", source)
  monkeypatch.setattr(subprocess, "run", finished)
  monkeypatch.setattr(subprocess, "Popen", Process)
  exec("\n".join(cells()[:2]), {})
  (call,) = calls
  return call


def test_the_notebook_installs_from_a_url(tmp_path, monkeypatch):
  requirements, constraints, _ = install(monkeypatch, tmp_path, "git+https://example.com/saip_jax")
  assert requirements == ["git+https://example.com/saip_jax", "timm"]
  assert constraints == "torch==2.11.0+cu128\njax==0.7.2\n"


def test_the_notebook_installs_a_copy_of_a_checkout(tmp_path, monkeypatch):
  """Kaggle's inputs cannot be written to, and what an older build left must not be installed."""
  for name in ("saip_jax", "build", "runs", ".git"):
    (tmp_path / "input" / name).mkdir(parents=True)
  (copy, timm), _, names = install(monkeypatch, tmp_path, str(tmp_path / "input"))
  assert copy != str(tmp_path / "input") and timm == "timm" and names == ["saip_jax"]


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_that_a_machine_has_is_changed(tmp_path, monkeypatch, machine):
  """A resolution exists that holds every recorded package at its version, beside what the install cell asks for."""
  uv = pytest.importorskip("uv")
  need_package_index()
  freeze = MACHINES[machine].read_text()
  python = re.search(r"^# Python (3\.\d+)", freeze, re.MULTILINE)[1]
  present = dict(re.findall(r"^([\w-]+)==(\S+)$", freeze, re.MULTILINE))
  with monkeypatch.context() as patch:
    (_, *others), _, _ = install(patch, tmp_path, "git+https://example.com/saip_jax")
  ignore = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info")
  package = shutil.copytree(REPO, tmp_path / "saip_jax", ignore=ignore)  # the build writes into it
  (tmp_path / "in.txt").write_text("\n".join([f"saip-jax @ {package.as_uri()}", *others, freeze]))
  command = [
    uv.find_uv_bin(),
    "pip",
    "compile",
    "--no-header",
    "--no-annotate",
    "--no-python-downloads",
    f"--python-version={python}",
  ]
  command += ["--python-platform=x86_64-manylinux_2_31", "--cache-dir", str(tmp_path / "cache"), "in.txt"]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stderr
  resolved = dict(re.findall(r"^([\w-]+)==(\S+)$", done.stdout, re.MULTILINE))
  assert {name: resolved.get(name) for name in present} == present


def hosted_machine(folder: pathlib.Path) -> pathlib.Path:
  """Returns the interpreter of an environment with all that is installed here but this package."""
  venv.create(folder, with_pip=False)
  python = folder / "bin" / "python"
  place = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
  # Folders in a .pth file are searched, their own .pth files are not: an editable installation is left out.
  found = [path for path in sys.path if pathlib.Path(path).name == "site-packages"]
  pathlib.Path(place.strip(), "all.pth").write_text("\n".join(found))
  return python


def executed(python: pathlib.Path, folder: pathlib.Path, environment: dict[str, str]):
  """Returns the notebook with its outputs, executed by a kernel of this interpreter in this folder."""
  nbformat = pytest.importorskip("nbformat")
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  at = next(i for i, cell in enumerate(notebook.cells) if cell.id == "features")
  notebook.cells.insert(at, nbformat.v4.new_code_cell(TORCHVISION))
  notebook.cells.append(nbformat.v4.new_code_cell("print('jax' in sys.modules, pathlib.Path(timm.__file__).parent)"))
  execute(notebook, python, folder, environment)
  return notebook


def pictures(cell) -> list[bytes]:
  return [base64.b64decode(out.data["image/png"]) for out in cell.outputs if "image/png" in out.get("data", {})]


@pytest.mark.slow
@pytest.mark.torch
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
  """From an empty folder, on a machine without the package: it is installed from a checkout."""
  for package in ("timm", "nbclient", "ipykernel"):
    pytest.importorskip(package)
  need_package_index()
  # The numbers of tests/test_end_to_end.py: whichever runs later finds the step compiled.
  settings = [s for s in TINY if not s.startswith("data.path")] + ["optimizer.min_learning_rate=5e-4"]
  python, here = hosted_machine(tmp_path / "machine"), tmp_path / "here"
  here.mkdir()
  environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
    "SAIP_NOTEBOOK_STEPS": "4",
    "SAIP_NOTEBOOK_IMAGES": "40",
    "SAIP_NOTEBOOK_SOURCE": str(REPO),
    "SAIP_NOTEBOOK_FOLDER": str(tmp_path / "out"),
    "SAIP_NOTEBOOK_SETTINGS": shlex.join(f"--config.{s}" for s in settings),
  }
  places = "build", "*.egg-info", "scripts/*", "runs/*"
  present = lambda: {path for place in places for path in REPO.glob(place)}
  at_first = present()
  notebook = executed(python, here, environment)
  assert present() <= at_first and not list(here.iterdir())
  installed = list((tmp_path / "machine").glob("lib/python*/site-packages/*.dist-info"))
  assert [path.name.split("-")[0] for path in installed] == ["saip_jax"]  # nothing else was added or changed
  assert (installed[0].parent / "saip_jax" / "__init__.py").is_file()  # not an editable installation

  by_id = {cell.id: cell for cell in notebook.cells}
  text = lambda cell: "".join(out.get("text", "") for out in cell.outputs)
  assert text(by_id["devices"]).splitlines()[-1] == "cpu"
  made = {path.name for path in (tmp_path / "out").iterdir()}
  assert made == {"people.png", "people_labels.png", "people_40", "run", "losses.png", "timm"}
  panels = sorted((tmp_path / "out" / "run" / "panels").glob("*.png"))
  shown = {name: pictures(by_id[name]) for name in ("people", "curve", "panels", "features")}
  assert shown["people"] == [(tmp_path / "out" / f"people{kind}.png").read_bytes() for kind in ("", "_labels")]
  assert shown["curve"] == [(tmp_path / "out" / "losses.png").read_bytes()]
  assert shown["panels"] and {*shown["panels"]} <= {path.read_bytes() for path in panels}
  assert len((tmp_path / "out" / "run" / "metrics.jsonl").read_text().splitlines()) == 4
  assert {"config.json", "model.safetensors", "parity.json"} <= {p.name for p in (tmp_path / "out" / "timm").iterdir()}
  assert "192 features of an image of (128, 256)" in text(by_id["features"])
  assert text(notebook.cells[-1]).startswith("False ")  # JAX stays outside of the kernel
