"""Classification by the nearest neighbours of frozen features.

The protocol of DINO (Caron et al. 2021, section 4.1; Wu et al. 2018): the k training features of largest cosine
similarity s vote for their classes with the weight exp(s / temperature), k = 20 and temperature = 0.07.
"""

from typing import Iterator

import numpy as np

from saip_jax.evaluation.metrics.retrieval import unit_features

_BLOCK_BYTES = 64 * 2**20  # similarities held at once


def knn_predict(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    features: np.ndarray,
    neighbours: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
  """Returns (n,) the classes that the neighbours of features vote for, of equal ones the smallest.

  Args:
    train_features: (m, D) float, normalised here.
    train_labels: (m,) int, any numbers; of equally similar rows the earlier are neighbours.
    features: (n, D) float, normalised here.
    neighbours: how many vote, all if there are fewer.
    temperature: how fast a vote fades with distance.

  Raises:
    ValueError: shapes that do not fit, features that are not finite, no neighbour, or a temperature not above zero.
  """
  labels = np.asarray(train_labels)
  if labels.shape != (len(train_features),) or labels.dtype.kind not in "iu":
    raise ValueError(f"train_labels are {labels.dtype} {labels.shape}: expected one integer for each of the "
                     f"{len(train_features)} train_features")
  classes, class_of = np.unique(labels, return_inverse=True)
  found = np.empty(len(features), labels.dtype)
  for block, rows, columns, weights in _votes(train_features, features, neighbours, temperature):
    votes = np.zeros((len(found[block]), len(classes)))
    np.add.at(votes, (rows, class_of[columns]), weights)
    found[block] = classes[votes.argmax(1)]
  return found


def knn_attributes(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    features: np.ndarray,
    neighbours: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
  """Returns (n, A) float64 the share of the votes that says of each attribute that it is true.

  Args:
    train_features: as of `knn_predict`, like all others.
    train_labels: (m, A) int, 1: true; 0: not; another number: not known, no vote. Without any the share is 0.
  """
  labels = np.asarray(train_labels)
  if labels.ndim != 2 or len(labels) != len(train_features) or labels.dtype.kind not in "iu":
    raise ValueError(f"train_labels are {labels.dtype} {labels.shape}: expected a row of integers for each of the "
                     f"{len(train_features)} train_features")
  true, known = labels == 1, (labels == 0) | (labels == 1)
  found = np.empty((len(features), labels.shape[1]))
  for block, rows, columns, weights in _votes(train_features, features, neighbours, temperature):
    votes = np.zeros((2, *found[block].shape))
    for votes_of, said in zip(votes, (true, known)):
      np.add.at(votes_of, rows, weights[:, None] * said[columns])
    found[block] = votes[0] / np.where(votes[1] > 0, votes[1], 1)
  return found


def _votes(train_features, features, neighbours: int, temperature: float) -> Iterator:
  """Yields, block by block of the features: which they are, and row in the block, training row and weight of votes."""
  train, features = unit_features("train_features", train_features), unit_features("features", features)
  if train.shape[1] != features.shape[1]:
    raise ValueError(f"train_features are {train.shape[1]} wide and features {features.shape[1]}: expected features of "
                     "one backbone")
  if neighbours < 1 or temperature <= 0:
    raise ValueError(f"neighbours={neighbours} and temperature={temperature}: expected at least one and above zero")
  k = min(neighbours, len(train))
  size = max(1, _BLOCK_BYTES // (4 * len(train)))
  for start in range(0, len(features), size):
    block = slice(start, start + size)
    similarities = features[block] @ train.T
    least = -np.partition(-similarities, k - 1, axis=1)[:, k - 1:k]
    above, level = similarities > least, similarities == least
    rows, columns = np.nonzero(above | level & (np.cumsum(level, 1) <= k - above.sum(1, keepdims=True)))
    nearness = (similarities - similarities.max(1, keepdims=True))[rows, columns].astype(np.float64)
    yield block, rows, columns, np.exp(nearness / temperature)


def knn_accuracy(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    features: np.ndarray,
    labels: np.ndarray,
    neighbours: int = 20,
    temperature: float = 0.07,
) -> float:
  """Returns the share of features whose neighbours vote for their class, see `knn_predict`; labels: (n,) int."""
  labels = np.asarray(labels)
  if labels.shape != (len(features),) or labels.dtype.kind not in "iu":
    raise ValueError(f"labels are {labels.dtype} {labels.shape}: expected one integer for each of the {len(features)} "
                     "features")
  return float(np.mean(knn_predict(train_features, train_labels, features, neighbours, temperature) == labels))
