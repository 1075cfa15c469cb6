"""Examples in docstrings: each runs and prints what it shows."""

import doctest
import importlib
import pathlib

import pytest

pytestmark = pytest.mark.compile

REPO = pathlib.Path(__file__).resolve().parents[1]
MODULES = [
  ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")
  for package in ("saip_jax", "input_pipeline")
  for path in sorted((REPO / package).rglob("*.py"))
  if ">>> " in path.read_text("utf-8")
]


SLOW = {"saip_jax.pretraining": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in MODULES])
def test_examples_print_what_they_show(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # an example may write a run
  result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
  assert result.attempted and not result.failed


def test_the_names_that_newcomers_meet_first_have_one():
  """`load_backbone`, `build_train_data`, `matching_loss` and so on."""
  assert len(MODULES) >= 10
