"""Prediction of attributes by the nearest neighbors of frozen features.

The protocol of DINO (Caron et al. 2021, section 4.1; Wu et al. 2018): the k training features of largest cosine
similarity s vote with the weight exp(s / temperature), k = 20 and temperature = 0.07. If t training features are
equally similar and only r of them are among the k, each has r/t of a vote, the expectation over their orders, so that
predictions do not depend on the order of files.
"""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_matrix

from saip_jax.evaluation.metrics.similarity import similarities, unit_features


def knn_attributes(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  features: np.ndarray,
  neighbors: int = 20,
  temperature: float = 0.07,
) -> np.ndarray:
  """Returns (n, A) float64 the fraction of votes for each attribute.

    >>> train_features = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> knn_attributes(train_features, np.array([[1], [1], [0]]), np.array([[1.0, 0.1]]), neighbors=2)
    array([[1.]])

  Args:
    train_features: (m, D) float, normalized here.
    train_labels: (m, A) int: 1 true, 0 false, else unknown, without a vote. Without votes the fraction is 0.
    features: (n, D) float, normalized here.
    neighbors: number of neighbors that vote; all if there are fewer.
    temperature: of the softmax of similarities.

  Raises:
    ValueError: wrong shapes, features that are not finite, no neighbor, or a temperature that is not positive.
  """
  labels = np.asarray(train_labels)
  if labels.ndim != 2 or len(labels) != len(train_features) or labels.dtype.kind not in "iu":
    raise ValueError(
      f"train_labels are {labels.dtype} {labels.shape}: expected a row of integers for each of the "
      f"{len(train_features)} train_features"
    )
  true, known = (labels == 1).astype(float), ((labels == 0) | (labels == 1)).astype(float)
  votes = [(weights @ true, weights @ known) for weights in _weights(train_features, features, neighbors, temperature)]
  return np.concatenate([yes / np.where(all_known > 0, all_known, 1) for yes, all_known in votes])


def _weights(train_features, features, neighbors: int, temperature: float) -> Iterator[csr_matrix]:
  """Yields, for blocks of the features, (rows, m) weights of the votes of the training rows."""
  train, features = unit_features("train_features", train_features), unit_features("features", features)
  if train.shape[1] != features.shape[1]:
    raise ValueError(
      f"train_features are {train.shape[1]} wide and features {features.shape[1]}: expected features of one backbone"
    )
  if neighbors < 1 or temperature <= 0:
    raise ValueError(f"neighbors={neighbors} and temperature={temperature}: expected at least one and above zero")
  k = min(neighbors, len(train))
  for _, near in similarities(features, train):
    least = -np.partition(-near, k - 1, axis=1)[:, k - 1 : k]
    above, level = np.count_nonzero(near > least, axis=1), np.count_nonzero(near == least, axis=1)
    rows, columns = np.nonzero(near >= least)
    nearness = (near - near.max(1, keepdims=True))[rows, columns].astype(np.float64)
    shares = np.where(near[rows, columns] > least[rows, 0], 1.0, ((k - above) / level)[rows])
    yield csr_matrix((np.exp(nearness / temperature) * shares, (rows, columns)), near.shape)
