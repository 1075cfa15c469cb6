"""Attributes by the nearest neighbors of frozen image features: nothing is fitted, so nothing is chosen."""

from saip_jax.evaluation.encoders import Encoder, encode_images
from saip_jax.evaluation.metrics.knn import knn_attributes
from saip_jax.evaluation.splits import Data
from saip_jax.evaluation.tasks.attributes import attribute_labels, check_names, score_attributes
from saip_jax.evaluation.tasks.base import Result, facts_of

_NEIGHBORS, _TEMPERATURE = 20, 0.07


def nearest_attributes(encoder: Encoder, data: Data) -> Result:
  """The 20 nearest pictures by cosine vote for each attribute, with DINO's weights (see metrics/knn.py)."""
  train, test = data.train_and_test()
  (names, labels), (_, truth) = both_parts = attribute_labels(train), attribute_labels(test)
  check_names(*both_parts)
  damaged: list[str] = []
  rows, features = encode_images(encoder, train.source, damaged)
  labels = labels[rows]
  rows, found = encode_images(encoder, test.source, damaged)
  shares = knn_attributes(features, labels, found, _NEIGHBORS, _TEMPERATURE)
  facts = facts_of(train=train, test=test) | {
    "neighbors": _NEIGHBORS,
    "temperature": _TEMPERATURE,
    "ties": "equally near pictures share their votes",
  }
  return score_attributes(shares, truth[rows], names, facts, damaged)
