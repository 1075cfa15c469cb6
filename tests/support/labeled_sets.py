"""What tests ask of data sets with labels."""

import cv2
import numpy as np
import pytest

from input_pipeline.sources.table import open_source


def open_set(kind, path, split=None):
  return open_source(kind, path, split=split, cache_dir=str(path) + "_cache", setting="--path")


def people_of(source):
  return [source.annotations(i)[0]["people"] for i in range(len(source))]


def plane_of(source, i, name="parts.png"):
  return cv2.imdecode(np.frombuffer(source.annotations(i)[1][name], np.uint8), cv2.IMREAD_UNCHANGED)


def assert_refused(kind, path, *words, split=None):
  with pytest.raises(ValueError) as error:
    open_set(kind, path, split)
  message = str(error.value)
  assert "\n" not in message and message.startswith("--") and all(word in message for word in words), message
