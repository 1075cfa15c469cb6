"""The built-in people as a benchmark: colors alone neither identify a person nor fail completely."""

import importlib.util
import pathlib

import numpy as np
import pytest

from input_pipeline.people.dataset import PeopleSource
from input_pipeline.people.prepare import prepare_people
from input_pipeline.people.spec import SetSpec

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "bench_people.py"


def _load_script():
  spec = importlib.util.spec_from_file_location("bench_people", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_average_precision_of_a_known_order():
  """Matches of image 0 rank first and third of three: (1 + 2/3) / 2; of 1, its one match first; of 3, second."""
  features = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.5], [1.0, 0.9]])
  identities, cameras = np.array([0, 0, 1, 0]), np.array([0, 1, 1, 1])
  found = _load_script().mean_average_precision(features, identities, cameras)
  np.testing.assert_allclose(found, np.mean([(1 + 2 / 3) / 2, 1, 1 / 2]))


@pytest.mark.compile
def test_a_linear_color_baseline_neither_solves_identity_nor_fails(tmp_path):
  script = _load_script()
  path = prepare_people(tmp_path / "people", SetSpec("crops", (64, 32), 0, 64), 512, progress=False)
  train, test = (script.color_histograms(PeopleSource(path, split)) for split in ("train", "test"))
  linear = script.mean_average_precision((test[0] - train[0].mean(0)) @ script.learn_linear_map(*train[:2]), *test[1:])
  plain = script.mean_average_precision(*test)
  chance = np.mean(
    [
      script.mean_average_precision(np.random.default_rng(k).normal(size=(len(test[1]), 8)), *test[1:])
      for k in range(5)
    ]
  )
  assert 1.2 * chance < linear < 0.6 and plain < 0.6
