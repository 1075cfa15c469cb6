"""Attribute recognition: linear probes and nearest neighbors on frozen image features, and fine-tuned heads."""

from typing import Any

import numpy as np
from scipy.special import expit

from saip_jax.evaluation.encoders import Encoder, encode_images, striped
from saip_jax.evaluation.logistic import fit_binary
from saip_jax.evaluation.metrics.attributes import THRESHOLD, balanced_accuracy, evaluate_attributes
from saip_jax.evaluation.metrics.knn import knn_attributes
from saip_jax.evaluation.resampling import Resampling
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from saip_jax.evaluation.tasks.base import Result, check_same_labels, facts_of
from saip_jax.losses.classification import attribute_weights

UNKNOWN = 2

_NEIGHBORS, _TEMPERATURE = 20, 0.07


def attribute_labels(images: LabeledImages) -> tuple[list[str], np.ndarray]:
  """Returns the names of the attributes and (n, A) int64 labels: 0, 1, or `UNKNOWN`."""
  names = images.legend.get("attributes")
  if not names:
    why = next((f" ({name}: {reason})" for name, reason in images.source.left_out if "attributes" in reason), "")
    raise ValueError(f"{images.source.identity['name']!r} has no attributes{why}: choose other --data, such as people")
  values = images.of_first_persons("attributes", "attributes")
  wrong = next((i for i, value in enumerate(values) if len(value) != len(names)), None)
  if wrong is not None:
    raise ValueError(
      f"{images.source.name(wrong)} has {len(values[wrong])} attributes: expected {len(names)}, one for each name"
    )
  return list(names), np.array([[UNKNOWN if v is None else v for v in value] for value in values], np.int64)


def probe_attributes(encoder: Encoder, data: Data) -> Result:
  """A logistic regression for each attribute; rare values weigh more, as in fine-tuning."""
  train, test = data.train_and_test()
  (names, to_fit), (_, truth) = _both_labels(train, test)
  damaged: list[str] = []
  rows, features = encode_images(encoder, train.source, damaged)
  labels = to_fit[rows]
  true = labels == 1
  shares = true.sum(0) / np.maximum(np.sum(labels != UNKNOWN, axis=0), 1)
  probe = fit_binary(features, labels, groups(train)[rows], weights=np.asarray(attribute_weights(true, shares)))
  rows, features = encode_images(encoder, test.source, damaged)
  facts = facts_of(train=train, test=test) | {
    "image_features": encoder.image_features,
    "loss": "weighted as in arXiv 2107.03576",
    "strengths": dict(zip(names, probe.strength.tolist())),
  }
  return score_attributes(expit(probe.logits(features)), truth[rows], names, facts, damaged, groups(test)[rows])


def probe_attribute_stripes(encoder: Encoder, data: Data) -> Result:
  """As `probe_attributes`, on the maxima and deviations of the cells in four stripes of an image."""
  return probe_attributes(striped(encoder, "maxima", "deviations"), data)


def nearest_attributes(encoder: Encoder, data: Data) -> Result:
  """The 20 nearest images by cosine vote for each attribute, with DINO's weights, see metrics/knn.py."""
  train, test = data.train_and_test()
  (names, labels), (_, truth) = _both_labels(train, test)
  damaged: list[str] = []
  rows, features = encode_images(encoder, train.source, damaged)
  labels = labels[rows]
  rows, found = encode_images(encoder, test.source, damaged)
  shares = knn_attributes(features, labels, found, _NEIGHBORS, _TEMPERATURE)
  facts = facts_of(train=train, test=test) | {
    "neighbors": _NEIGHBORS,
    "temperature": _TEMPERATURE,
    "ties": "equally near images share their votes",
  }
  return score_attributes(shares, truth[rows], names, facts, damaged, groups(test)[rows])


def finetuned_attributes(network: Encoder, data: Data) -> Result:
  """An attribute is predicted if its logit is positive."""
  train, test = data.train_and_test()
  names, truth = attribute_labels(test)
  check_same_labels(train.legend["attributes"], names, test)
  damaged: list[str] = []
  rows, logits = encode_images(network, test.source, damaged)
  facts = facts_of(train=train, test=test)
  return score_attributes(expit(logits.astype(np.float64)), truth[rows], names, facts, damaged, groups(test)[rows])


def _both_labels(train: LabeledImages, test: LabeledImages):
  """Returns `attribute_labels` of both parts; raises ValueError if their attributes differ."""
  of_train, of_test = attribute_labels(train), attribute_labels(test)
  check_same_labels(of_train[0], of_test[0], test)
  return of_train, of_test


def score_attributes(
  probabilities: np.ndarray,
  truth: np.ndarray,
  names: list[str],
  facts: dict[str, Any],
  damaged: list[str],
  persons: np.ndarray,
) -> Result:
  """Measures predicted attributes.

  Args:
    probabilities: (n, A) from 0 to 1.
    truth: (n, A) int labels of the same images, see `attribute_labels`.
    names: (A,) names of the attributes.
    facts: facts about the protocol, see `Result`.
    damaged: see `Result`.
    persons: (n,) int group of each image, see `splits.groups`.
  """
  found = evaluate_attributes(probabilities, truth)
  scores = {
    "mA": found.mA,
    "F1": found.f1,
    "accuracy": found.accuracy,
    "precision": found.precision,
    "recall": found.recall,
  }
  facts = facts | {
    "balanced_accuracy": dict(zip(names, found.balanced_accuracy)),
    "one_sided": [names[a] for a in found.one_sided],
    "threshold": THRESHOLD,
    "F1": "of the mean precision and recall",
  }
  predicted, true = probabilities > THRESHOLD, truth == 1
  score = lambda weights: float(balanced_accuracy(predicted, true, weights).mean())
  return Result(scores, facts, damaged, Resampling("mA", persons, score))
