"""The sdist and the wheel: what is in them, and a user's first commands with the wheel alone, far from the checkout."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from saip_jax.version import __version__

pytestmark = pytest.mark.slow

REPO = pathlib.Path(__file__).resolve().parents[2]
_FOLDERS = ("saip_jax", "input_pipeline", "configs", "scripts", "tests")
_NAME = f"saip_jax-{__version__}"
# `python -m build` calls the same two hooks, in an environment that it downloads.
_BUILD = "import sys, setuptools.build_meta as backend; getattr(backend, f'build_{sys.argv[1]}')(sys.argv[2])"
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}


def run(*command, cwd, **environment) -> str:
  """Runs a command outside of the checkout; returns its output and errors together."""
  done = subprocess.run(
    [str(part) for part in command],
    cwd=cwd,
    env=_ENVIRONMENT | environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stdout
  return done.stdout


def recipes_and_modules() -> dict[str, bytes]:
  """Returns what an installation holds: path in site-packages -> content."""
  files = {path.relative_to(REPO): path for name in _FOLDERS[:2] for path in (REPO / name).rglob("*")}
  files |= {pathlib.Path("saip_jax/configs", path.name): path for path in (REPO / "configs").glob("*.py")}
  return {
    str(name): path.read_bytes() for name, path in files.items() if path.is_file() and "__pycache__" not in name.parts
  }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  """The sdist of a copy of the checkout and the wheel of that sdist: (sdist, wheel, what the builds printed)."""
  folder = tmp_path_factory.mktemp("built")
  source = folder / "source"
  for name in _FOLDERS:
    shutil.copytree(REPO / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "fixtures"))
  for path in REPO.iterdir():
    if path.is_file():
      shutil.copy(path, source)
  printed = run(sys.executable, "-c", _BUILD, "sdist", folder, cwd=source)
  sdist, wheel = folder / f"{_NAME}.tar.gz", folder / f"{_NAME}-py3-none-any.whl"
  with tarfile.open(sdist) as archive:
    archive.extractall(folder, filter="data")
  printed += run(sys.executable, "-c", _BUILD, "wheel", folder, cwd=folder / _NAME)
  return sdist, wheel, printed


def test_they_build_without_warnings(built):
  assert re.findall(r".*(?:warning|deprecat).*", built[2], re.IGNORECASE) == []


def test_the_wheel_holds_all_modules_and_recipes_and_nothing_else(built):
  with zipfile.ZipFile(built[1]) as wheel:
    held = {name: wheel.read(name) for name in wheel.namelist()}
  metadata = {name for name in held if name.startswith(f"{_NAME}.dist-info/")}
  assert {name: data for name, data in held.items() if name not in metadata} == recipes_and_modules()
  text = held[f"{_NAME}.dist-info/METADATA"].decode()
  for line in (f"Version: {__version__}", "License-Expression: Apache-2.0", "Description-Content-Type: text/markdown"):
    assert line in text.splitlines()
  assert "Requires-Dist: jax" in text and "# saip_jax" in text


def test_the_sdist_holds_what_the_wheel_needs_and_no_tests(built):
  with tarfile.open(built[0]) as archive:
    names = {name.removeprefix(f"{_NAME}/") for name in archive.getnames()}
  assert {"pyproject.toml", "setup.py", "requirements.txt", "README.md", "LICENSE"} <= names
  assert {"CHANGELOG.md", "CITATION.cff", "configs/saip_demo.py"} <= names
  assert not any(name.startswith("tests") for name in names)


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
  """The folder of programs of a new environment with the wheel; the packages that it requires are those of this one."""
  environment = tmp_path_factory.mktemp("environment")
  run(sys.executable, "-m", "venv", environment, cwd=environment)
  pip = (environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
  run(*pip, built[1], cwd=environment)
  (packages,) = environment.glob("lib/python*/site-packages")
  required = [place for place in sys.path if pathlib.Path(place).name in ("site-packages", "dist-packages")]
  (packages / "required.pth").write_text("\n".join(required))
  return environment / "bin"


def test_a_user_s_first_commands_with_the_wheel_alone(installed, tmp_path):
  python, saip = installed / "python", installed / "saip"
  where = "import saip_jax, input_pipeline; print(saip_jax.__file__, input_pipeline.__file__, sep='\\n')"
  for path in run(python, "-c", where, cwd=tmp_path).splitlines():
    assert path.startswith(str(installed.parent)), path

  assert run(saip, "--version", cwd=tmp_path) == f"saip {__version__}\n"
  assert re.search(r"(?m)^  saip_demo +SAIP at demo size: ", run(saip, "recipes", cwd=tmp_path))
  assert run(saip, "recipes", "saip_parts_demo", "--out=my.py", cwd=tmp_path)
  same = "from saip_jax.recipes import load_recipe; print(load_recipe('my.py') == load_recipe('saip_parts_demo'))"
  assert run(python, "-c", same, cwd=tmp_path) == "True\n"

  common = ("--task=keypoints", "--protocol=coordinates", "--data=people", "--people-count=64")
  assert re.search(r"(?m)^PCK@0.1 +", run(saip, "evaluate", "--checkpoint=saip_nano_people", *common, cwd=tmp_path))

  settings = {
    "total_steps": 2,
    "batch_size": 8,
    "panel_every": 0,
    "data.people_count": 64,
    "model.backbone": "vit_nano",
    "model.image_hw": (64, 32),
  }
  flags = [f"--config.{name}={value}" for name, value in settings.items()]
  run(saip, "pretrain", "--config=mae_demo", "--workdir=W", *flags, cwd=tmp_path)
  assert (tmp_path / "W" / "checkpoints" / "2").is_dir()
  scores = run(saip, "evaluate", "--checkpoint=W", "--task=reid", "--data=people", "--people-count=64", cwd=tmp_path)
  assert re.search(r"(?m)^mAP +[0-9.]+ %  \(95 %: ", scores)
  assert "timm, student at 64x32" in run(saip, "export", "--checkpoint=W", "--dialect=timm", "--out=E", cwd=tmp_path)
  assert (tmp_path / "E" / "model.safetensors").is_file()
  assert sorted(path.name for path in tmp_path.iterdir()) == ["E", "W", "my.py"]
