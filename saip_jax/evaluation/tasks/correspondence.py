"""Dense correspondence without fitting: joints of one picture found in another by the likeness of features alone.

Each joint that both pictures show is sought as in DIFT (Tang et al. 2023, section 4) and in studies of DINO's features:
at the place of the second whose features have the largest cosine with those at the joint in the first. Left arm and
right arm look alike, so that errors are often whole sides. Of several places with the largest cosine each counts with
its share, as if one of them were drawn.
"""

import itertools

import numpy as np

from saip_jax.evaluation.encoders import Encoder, encode_source
from saip_jax.evaluation.metrics.pck import KeypointScores, keypoint_scores
from saip_jax.evaluation.metrics.similarity import on_distinct_rows
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from saip_jax.evaluation.tasks.base import Result, facts_of
from saip_jax.evaluation.tasks.grid_cells import cells_at
from saip_jax.evaluation.tasks.joints import box_origin, true_joints
from saip_jax.evaluation.tasks.keypoints import all_maxima

_MOST = 2000  # pairs


def nearest_cells(encoder: Encoder, data: Data) -> Result:
  """Features at the first picture's joints are bilinear, the second's cell is refined by a parabola.

  Pairs are of one person where persons are known, else of different ones. What the place in the picture tells without
  any feature is part of the facts: persons stand in the middle of crops.
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
    raise ValueError(f"no two pictures of {test.source.identity['name']!r} show the same joint: expected larger --data")
  found = [_transferred(cells[a], cells[b], truth.places[a, both]) for (a, b), both in zip(pairs, shown)]
  pair, joint = np.nonzero(shown)
  start = np.cumsum(shown.sum(1)) - shown.sum(1)  # of each pair among all joints that are sought
  sought = np.concatenate([which + first for (which, _), first in zip(found, start)])

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
  return Result(scores | {"error": by_features.error}, facts, damaged)


def _pairs(images: LabeledImages) -> tuple[list[tuple[int, int]], bool]:
  """Returns each picture and the next one of the same person, and whether persons are known; else any next picture."""
  of_one = "identity" in images.first_person(0)
  owners = groups(images) if of_one else np.zeros(len(images), np.int64)
  pairs = []
  for owner in np.unique(owners):
    own = np.flatnonzero(owners == owner).tolist()
    pairs += zip(own, own[1:] + own[:1]) if len(own) > 1 else []
  if not pairs:
    raise ValueError(
      f"{images.source.identity['name']!r} has one picture of each person: correspondence needs two of "
      "some; choose larger --data"
    )
  return pairs[:: -(-len(pairs) // _MOST)], of_one


def _unit(vectors: np.ndarray) -> np.ndarray:
  return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _transferred(first: np.ndarray, second: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns (m,) which joint, and (m, 2) where in the second picture, as shares of its sides: one place or several.

  Args:
    first: (h, w, E) cells of length 1.
    second: likewise, of the other picture.
    places: (J, 2) of the joints in the first.
  """
  asked = _unit(cells_at(first, np.clip(places, 0, 1)))
  cosines = on_distinct_rows(lambda rows: rows @ asked.T, second.reshape(-1, second.shape[-1]))
  return all_maxima(cosines.T.reshape(len(places), *second.shape[:2]))
