"""Dense correspondence without fitting: joints of one picture found in another by the likeness of features alone.

Each joint that both pictures show is sought as in DIFT (Tang et al. 2023, section 4) and in studies of DINO's features:
at the place of the second whose features have the largest cosine with those at the joint in the first. Left arm and
right arm look alike, so that errors are often whole sides.
"""

import itertools

import numpy as np

from saip_jax.evaluation.encoders import Encoder, encode
from saip_jax.evaluation.metrics.pck import keypoint_scores
from saip_jax.evaluation.splits import Data, Labelled, groups
from saip_jax.evaluation.tasks.base import Result, facts_of
from saip_jax.evaluation.tasks.cells import cells_at
from saip_jax.evaluation.tasks.joints import joints_of
from saip_jax.evaluation.tasks.keypoints import maxima

_MOST = 2000  # pairs


def nearest(encoder: Encoder, data: Data) -> Result:
  """Features at the first picture's joints are bilinear, the second's cell is refined by a parabola.

  Pairs are of one person where persons are known, else of different ones. What the place in the picture tells without
  any feature is part of the facts: persons stand in the middle of crops.
  """
  test, damaged = data.test().having("keypoints"), []
  truth = joints_of(test)
  pairs, of_one = _pairs(test)
  cells = {}
  wanted = set(itertools.chain(*pairs))
  for part in encode(encoder, test.source, damaged):
    cells |= {int(row): _unit(each) for row, each in zip(part.rows, part.cells) if row in wanted}
  pairs = np.array([pair for pair in pairs if cells.keys() >= set(pair)], np.int64).reshape(-1, 2)
  shown = truth.known[pairs[:, 0]] & truth.known[pairs[:, 1]]
  if not shown.any():
    raise ValueError(f"no two pictures of {test.source.identity['name']!r} show the same joint: expected larger --data")
  found = np.stack([_transferred(cells[a], cells[b], truth.places[a]) for a, b in pairs])
  sizes = truth.sizes[pairs[:, 1]]
  score = lambda places: keypoint_scores(
      places * sizes[:, None], truth.places[pairs[:, 1]] * sizes[:, None], shown, sizes[:, 1])
  by_features, by_place = score(found), score(truth.places[pairs[:, 0]])
  scores = {f"PCK@{limit:g}": share for limit, share in reversed(by_features.pck.items())}
  facts = facts_of(test=test) | {
      "pairs": len(pairs), "pairs_of": "one person" if of_one else "different persons", "boxes": "ground truth",
      "joints": list(truth.names), "counted_joints": by_features.joints, "unit": "height of the crop",
      "PCK@0.1_of_the_same_place": round(by_place.pck[0.1], 4),
  }
  return Result(scores | {"error": by_features.error}, facts, damaged)


def _pairs(images: Labelled) -> tuple[list[tuple[int, int]], bool]:
  """Returns each picture and the next one of the same person, and whether persons are known; else any next picture."""
  of_one = "identity" in images.first_person(0)
  owners = groups(images) if of_one else np.zeros(len(images), np.int64)
  pairs = []
  for owner in np.unique(owners):
    own = np.flatnonzero(owners == owner).tolist()
    pairs += zip(own, own[1:] + own[:1]) if len(own) > 1 else []
  if not pairs:
    raise ValueError(f"{images.source.identity['name']!r} has one picture of each person: correspondence needs two of "
                     "some; choose larger --data")
  return pairs[::-(-len(pairs) // _MOST)], of_one


def _unit(vectors: np.ndarray) -> np.ndarray:
  return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _transferred(first: np.ndarray, second: np.ndarray, places: np.ndarray) -> np.ndarray:
  """(h, w, E) cells of two pictures and (J, 2) places in the first -> (J, 2) in the second, as shares of its sides."""
  asked = _unit(cells_at(first, np.clip(places, 0, 1)))
  return maxima((second @ asked.T)[None])[0][0]
