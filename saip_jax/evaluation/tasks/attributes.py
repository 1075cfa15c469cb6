"""Attributes of a person: a logistic probe for each, on frozen image features."""

from typing import Any

import numpy as np
from scipy.special import expit

from saip_jax.evaluation.encoders import Encoder, encode_images, striped
from saip_jax.evaluation.logistic import fit_binary
from saip_jax.evaluation.metrics.attributes import evaluate_attributes
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from saip_jax.evaluation.tasks.base import Result, facts_of
from saip_jax.losses.classification import attribute_weights

UNKNOWN = 2


def attribute_labels(images: LabeledImages) -> tuple[list[str], np.ndarray]:
  """Returns the names of the attributes and (n, A) int64: 0, 1, or `UNKNOWN`."""
  names = images.legend.get("attributes")
  if not names:
    why = next((f" ({name}: {reason})" for name, reason in images.source.left_out if "attributes" in reason), "")
    raise ValueError(f"{images.source.identity['name']!r} names no attributes{why}: choose other --data")
  values = images.of_first_persons("attributes", "attributes")
  wrong = next((i for i, value in enumerate(values) if len(value) != len(names)), None)
  if wrong is not None:
    raise ValueError(
      f"{images.source.name(wrong)} has {len(values[wrong])} attributes: expected {len(names)}, one for each name"
    )
  return list(names), np.array([[UNKNOWN if v is None else v for v in value] for value in values], np.int64)


def probe_attributes(encoder: Encoder, data: Data) -> Result:
  """A logistic regression for each attribute; what is rare counts more, as where networks are trained for them."""
  train, test = data.train_and_test()
  (names, to_fit), (_, truth) = both_parts = attribute_labels(train), attribute_labels(test)
  check_names(*both_parts)
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
  return score_attributes(expit(probe.logits(features)), truth[rows], names, facts, damaged)


def probe_attribute_stripes(encoder: Encoder, data: Data) -> Result:
  """As `probe_attributes`, on what is there and what stands out in each of four stripes of an image."""
  return probe_attributes(striped(encoder, "maxima", "deviations"), data)


def check_names(train: tuple[list[str], np.ndarray], test: tuple[list[str], np.ndarray]) -> None:
  """Raises ValueError where two parts, as `attribute_labels` gives them, have other attributes."""
  if train[0] != test[0]:
    raise ValueError(f"the attributes of the two parts differ: {', '.join(train[0])} and {', '.join(test[0])}")


def score_attributes(
  probabilities: np.ndarray, truth: np.ndarray, names: list[str], facts: dict[str, Any], damaged: list[str]
) -> Result:
  """Measures attributes that were predicted, by whatever.

  Args:
    probabilities: (n, A) from 0 to 1.
    truth: (n, A) int of the same images, see `attribute_labels`.
    names: (A,) of the attributes.
    facts: what must be known to compare the scores, besides what is told here.
    damaged: see `Result`.
  """
  found = evaluate_attributes(probabilities, truth)
  scores = {
    "mA": found.mA,
    "F1": found.f1,
    "accuracy": found.accuracy,
    "precision": found.precision,
    "recall": found.recall,
  }
  told = {
    "balanced_accuracy": dict(zip(names, found.balanced_accuracy)),
    "one_sided": [names[a] for a in found.one_sided],
    "threshold": 0.5,
    "F1": "of the mean precision and recall",
  }
  return Result(scores, facts | told, damaged)
