"""What names the version agrees: the package, its citation and the changes."""

import pathlib

import yaml

from saip_jax.version import __version__

REPO = pathlib.Path(__file__).resolve().parents[2]


def test_citation_and_changes_are_of_this_version():
  citation = yaml.safe_load((REPO / "CITATION.cff").read_text("utf-8"))
  assert citation["version"] == __version__ and citation["license"] == "Apache-2.0"
  assert {"cff-version", "message", "title", "authors"} <= citation.keys()
  newest = next(line for line in (REPO / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## "))
  assert newest.split()[1] == __version__
