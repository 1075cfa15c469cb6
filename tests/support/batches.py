"""The training data and its batches, for tests."""

import numpy as np

from input_pipeline.pipeline import TrainData, build_train_data
from input_pipeline.schema import from_dict
from input_pipeline.settings import DataConfig


def open_data(cache, *, fields, batch_size, seed=0, **settings):
  """Opens the data of these settings, which may be nested dicts, as those of a recipe."""
  config = from_dict(DataConfig, settings, "config.data")
  return build_train_data(config, fields=fields, batch_size=batch_size, seed=seed, cache_dir=cache)


def data_of_source(source, *, fields, batch_size, seed=0, pairs=None, **settings):
  """Returns the data of a source that the test has opened; further arguments are settings of `DataConfig`."""
  config = DataConfig(source="folder", **settings)
  return TrainData(source, None, config, fields=fields, batch_size=batch_size, seed=seed, pairs=pairs)


def take(data, steps, **where):
  """The first batches of an iterator over `data`, which is closed."""
  batches = data.batches(**where)
  try:
    return [next(batches) for _ in range(steps)]
  finally:
    batches.close()


def assert_same(left, right):
  """Two lists of batches are equal bit for bit."""
  assert len(left) == len(right)
  for a, b in zip(left, right):
    assert a.keys() == b.keys()
    for key in a:
      np.testing.assert_array_equal(a[key], b[key], err_msg=key)
