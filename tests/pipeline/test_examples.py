"""The examples in the docstrings of the pipeline do what they show."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["body", "checks", "pipeline", "schema", "settings"])
def test_examples_run(module):
  failed, tried = doctest.testmod(importlib.import_module(f"input_pipeline.{module}"))
  assert tried and not failed
