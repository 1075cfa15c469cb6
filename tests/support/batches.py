"""Batches of the training data, for tests of their order."""

import numpy as np


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
