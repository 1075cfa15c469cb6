"""Dense correspondence without fitting: the joints of one image are found in another by feature similarity.

The match of a joint is the place in the second image with the largest cosine to the features at the joint in the first,
as in DIFT (Tang et al. 2023, section 4), for each joint that both images show. Left and right limbs look alike, so
errors often swap sides. If several places have the largest cosine, each counts with equal weight, the expectation of
drawing one of them.
"""

import itertools

import numpy as np

from saip_jax.evaluation.encoders import Encoder, encode_source
from saip_jax.evaluation.metrics.pck import KeypointScores, keypoint_scores
from saip_jax.evaluation.metrics.similarity import on_distinct_rows
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from saip_jax.evaluation.tasks.base import Result, facts_of
from saip_jax.evaluation.tasks.grid_cells import cells_at
from saip_jax.evaluation.tasks.joints import box_origin, resampling_of, true_joints
from saip_jax.evaluation.tasks.keypoints import all_maxima

_MOST = 2000  # pairs


def nearest_cells(encoder: Encoder, data: Data) -> Result:
  """Features at the first image's joints are interpolated bilinearly; the match is refined by a parabola.

  Pairs show one person if identities are known, otherwise different persons. The facts include the score of predicting
  the same place, without any features: persons are in the center of crops.
  """
  test, damaged = data.test().having("keypoints"), []
  truth = true_joints(test)
  pairs, of_one = _pairs(test)
  cells = {}
  wanted = set(itertools.chain(*pairs))
  for part in encode_source(encoder, test.source, damaged):
    cells |= {int(row): _unit(each) for row, each in zip(part.rows, part.cells) if row in wanted}
  pairs = np.array([pair for pair in pairs if cells.keys() >= set(pair)], np.int64).reshape(-1, 2)
  shown = truth.known[pairs[:, 0]] & truth.known[pairs[:, 1]]
  if not shown.any():
    raise ValueError(f"no two images of {test.source.identity['name']!r} show the same joint: expected larger --data")
  found = [_transferred(cells[a], cells[b], truth.places[a, both]) for (a, b), both in zip(pairs, shown)]
  pair, joint = np.nonzero(shown)
  start = np.cumsum(shown.sum(1)) - shown.sum(1)  # index of the first joint of each pair
  sought = np.concatenate([joints + first for (joints, _), first in zip(found, start)])

  def score(sought: np.ndarray, places: np.ndarray) -> KeypointScores:
    second = pairs[pair[sought], 1]
    sizes = truth.sizes[second]
    return keypoint_scores(
      (places * sizes)[:, None],
      (truth.places[second, joint[sought]] * sizes)[:, None],
      np.ones((len(sought), 1), bool),
      sizes[:, 1],
      1 / np.bincount(sought)[sought],
    )

  by_features = score(sought, np.concatenate([places for _, places in found]))
  by_place = score(np.arange(len(joint)), truth.places[pairs[pair, 0], joint])
  scores = {f"PCK@{limit:g}": share for limit, share in reversed(by_features.pck.items())}
  facts = facts_of(test=test) | {
    "pairs": len(pairs),
    "pairs_of": "one person" if of_one else "different persons",
    "boxes": box_origin(images["people"][0] for images in truth.facts),
    "joints": list(truth.names),
    "counted_joints": by_features.joints,
    "unit": "height of the crop",
    "joints_with_ties": int(np.count_nonzero(np.bincount(sought) > 1)),
    "PCK@0.1_of_the_same_place": round(by_place.pck[0.1], 4),
  }
  persons = groups(test)[pairs[pair[sought], 0]]
  return Result(scores | {"error": by_features.error}, facts, damaged, resampling_of(by_features, persons))


def _pairs(images: LabeledImages) -> tuple[list[tuple[int, int]], bool]:
  """Returns pairs of each image and the next one of its person, or of any person if identities are unknown.

  The second result is whether identities are known.
  """
  of_one = "identity" in images.first_person(0)
  owners = groups(images) if of_one else np.zeros(len(images), np.int64)
  pairs = []
  for owner in np.unique(owners):
    own = np.flatnonzero(owners == owner).tolist()
    pairs += zip(own, own[1:] + own[:1]) if len(own) > 1 else []
  if not pairs:
    raise ValueError(
      f"{images.source.identity['name']!r} has one image of each person: correspondence needs two of "
      "some person; choose larger --data"
    )
  return pairs[:: -(-len(pairs) // _MOST)], of_one


def _unit(vectors: np.ndarray) -> np.ndarray:
  return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _transferred(first: np.ndarray, second: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns (m,) the joint and (m, 2) x, y of its matches in the second image, as fractions; ties are several matches.

  Args:
    first: (h, w, E) cells of length 1.
    second: the same for the other image.
    places: (J, 2) places of the joints in the first image.
  """
  wanted = _unit(cells_at(first, np.clip(places, 0, 1)))
  cosines = on_distinct_rows(lambda rows: rows @ wanted.T, second.reshape(-1, second.shape[-1]))
  return all_maxima(cosines.T.reshape(len(places), *second.shape[:2]))
