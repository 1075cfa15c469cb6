"""The documentation as a site, its tutorials and the example of the README, executed."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.support.docs_pages import DOCS, REPO
from tests.support.notebooks import TORCHVISION, execute

pytestmark = [pytest.mark.slow, pytest.mark.compile]

TUTORIALS = [page for page in sorted((DOCS / "tutorials").glob("*.md")) if "{code-cell}" in page.read_text("utf-8")]


@pytest.fixture
def environment(tmp_path):
  """An environment in which `saip` is this checkout's."""
  program = tmp_path / "bin" / "saip"
  program.parent.mkdir()
  program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m saip_jax "$@"\n')
  program.chmod(0o755)
  path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
  return os.environ | {"PATH": path, "PYTHONPATH": str(REPO), "JAX_NUM_CPU_DEVICES": "1"}


def test_the_site_builds_without_a_warning(tmp_path, environment):
  pytest.importorskip("myst_nb")
  pytest.importorskip("sphinx_book_theme")
  command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path / "html"]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stderr
  for page in ("index", "methods/saip", "reference/generated/cli_pretrain", "tutorials/write_a_method"):
    assert (tmp_path / "html" / f"{page}.html").is_file()
  assert "Search.setIndex" in (tmp_path / "html" / "searchindex.js").read_text("utf-8")


@pytest.mark.torch
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page, tmp_path, environment):
  read = pytest.importorskip("myst_nb.core.read")
  nbformat = pytest.importorskip("nbformat")
  notebook = read.read_myst_markdown_notebook(page.read_text("utf-8"), path=str(page))
  assert sum(cell.cell_type == "code" for cell in notebook.cells) >= 3
  notebook.cells.insert(0, nbformat.v4.new_code_cell("import sys" + TORCHVISION))
  folder = tmp_path / "here"
  folder.mkdir()
  execute(notebook, sys.executable, folder, environment)


def test_the_example_of_the_readme_runs(tmp_path, environment):
  (example,) = re.findall(r"```python\n(.*?)```", (REPO / "README.md").read_text("utf-8"), re.DOTALL)
  assert len(example.strip().splitlines()) <= 12
  done = subprocess.run(
    [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
  )
  assert done.returncode == 0, done.stderr
  (shown,) = re.findall(r"^print.*  # (.*)$", example, re.MULTILINE)
  assert done.stdout.splitlines()[-1] == shown
  assert pathlib.Path(tmp_path, "runs", "nano", "metrics.jsonl").is_file()
