"""Retrieval of persons by features: gallery images of the person of a query, which is an image or a caption.

The gallery is ranked by cosine similarity, without re-ranking. With the m matches of a query at ranks r_1 < ... < r_m:

    AP = mean over k of k / r_k,  INP = m / r_m,  hit within K = (r_1 <= K)

and mAP, mINP, CMC@K are their means over the queries that have a match. With equal similarities these are expected
values over all orders of the equal ones, see ranking.py, so that scores do not depend on the order of files. torchreid,
fast-reid and IRRA use the order of their sort; without ties the numbers are identical.

Re-identification follows the protocol of Market-1501 in torchreid and fast-reid: for each query, images of the same
person by the same camera are excluded. Text-to-image retrieval follows that of CUHK-PEDES in IRRA: every caption is a
query, all images are the gallery, cameras are not used; CMC@K is called R@K there.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from saip_jax.evaluation.metrics.ranking import ranking_of
from saip_jax.evaluation.metrics.similarity import similarities, unit_features

CMC_RANKS = (1, 5, 10)
JUNK, DISTRACTOR = -1, 0
TIES = "equal similarities count as expected over their orders"
"""How ties are counted, for records."""


@dataclasses.dataclass(frozen=True)
class RetrievalScores:
  """Results of a retrieval; fractions are 0 to 1.

  Attributes:
    mAP: mean average precision.
    mINP: mean inverse negative penalty, by the rank of the last match.
    cmc: K -> fraction of queries with a match among the first K, for K in `CMC_RANKS`.
    queries: number of queries that are measured.
    queries_without_match: number of queries without a match in the gallery, which are left out.
    queries_with_ties: number of queries with a match of the same similarity as another entry.
    average_precision: position of each measured query -> its AP; mAP is their mean.
  """

  mAP: float
  mINP: float
  cmc: dict[int, float]
  queries: int
  queries_without_match: int
  queries_with_ties: int
  average_precision: dict[int, float]


def evaluate_retrieval(
  query_features: np.ndarray,
  query_ids: np.ndarray,
  query_cameras: np.ndarray,
  gallery_features: np.ndarray,
  gallery_ids: np.ndarray,
  gallery_cameras: np.ndarray,
) -> RetrievalScores:
  """Ranks the gallery for each query, without re-ranking, and measures the ranks of the matches.

    >>> query, gallery = np.eye(2), np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    >>> ids, gallery_ids, cameras = np.array([1, 2]), np.array([1, 2, 1]), np.array([0, 0, 0])
    >>> found = evaluate_retrieval(query, ids, cameras[:2], gallery, gallery_ids, cameras + 1)
    >>> round(found.mAP, 3), found.cmc[1]
    (0.667, 0.5)

  Args:
    query_features: (Q, D) float, normalized here.
    query_ids: (Q,) int identities, from 1.
    query_cameras: (Q,) int.
    gallery_features: (G, D) float, normalized here.
    gallery_ids: (G,) int identities from 1; 0 for a distractor, which matches no query; -1 for junk, which is left out.
    gallery_cameras: (G,) int.

  Returns:
    The scores.

  Raises:
    ValueError: nothing to rank, lengths or widths that differ, features that are not finite, a query that is junk or
      a distractor, or no query with a match.
  """
  query, query_ids = _checked("query", query_features, query_ids)
  gallery, gallery_ids = _checked("gallery", gallery_features, gallery_ids)
  query_cameras = _one_integer_each("query_cameras", query_cameras, query)
  gallery_cameras = _one_integer_each("gallery_cameras", gallery_cameras, gallery)
  unidentified = np.flatnonzero(query_ids <= 0)
  if len(unidentified):
    raise ValueError(
      f"query_ids[{unidentified[0]}] is {query_ids[unidentified[0]]}: expected identities from 1, as {DISTRACTOR} "
      f"(distractor) and {JUNK} (junk) are only for the gallery; add 1 to ids that start at 0"
    )
  ranked = gallery_ids != JUNK
  gallery, gallery_ids, gallery_cameras = gallery[ranked], gallery_ids[ranked], gallery_cameras[ranked]
  aside = lambda q, same: same & (gallery_cameras == query_cameras[q])
  return _rank(query, query_ids, gallery, gallery_ids, aside, "no other camera shows")


def evaluate_text_retrieval(
  text_features: np.ndarray, text_ids: np.ndarray, image_features: np.ndarray, image_ids: np.ndarray
) -> RetrievalScores:
  """Ranks all images for each caption and measures the ranks of the images of the described person.

  Args:
    text_features: (Q, D) float, one for each caption, normalized here.
    text_ids: (Q,) int, the described persons.
    image_features: (G, D) float, normalized here.
    image_ids: (G,) int, the shown persons.

  Returns:
    The scores.

  Raises:
    ValueError: nothing to rank, lengths or widths that differ, features that are not finite, or no caption with a
      match.
  """
  texts, text_ids = _checked("text", text_features, text_ids)
  images, image_ids = _checked("image", image_features, image_ids)
  return _rank(texts, text_ids, images, image_ids, None, "no image shows")


def _rank(query, query_ids, gallery, gallery_ids, aside: Callable | None, why_none: str) -> RetrievalScores:
  """Returns the scores of features of length 1; `aside(q, same)` is (G,) bool, the entries excluded for query q."""
  if query.shape[1] != gallery.shape[1]:
    raise ValueError(
      f"the features of queries are {query.shape[1]} wide and those of the gallery {gallery.shape[1]}: "
      "expected features of one backbone"
    )
  precisions: dict[int, float] = {}
  penalties, hits, ties = [], [], 0
  for block, rows in similarities(query, gallery):
    for q, row in zip(block, rows):
      same = gallery_ids == query_ids[q]
      if aside is not None:
        ranked = ~aside(q, same)
        row, same = row[ranked], same[ranked]
      ranking = ranking_of(row, same)
      if ranking is not None:
        precisions[int(q)] = ranking.average_precision()
        penalties.append(ranking.inverse_negative_penalty())
        hits.append([ranking.hit_within(k) for k in CMC_RANKS])
        ties += ranking.tied
  if not precisions:
    raise ValueError(
      f"none of the {len(query)} queries has a match: {why_none} their persons in the gallery of {len(gallery)}"
    )
  return RetrievalScores(
    float(np.mean(list(precisions.values()))),
    float(np.mean(penalties)),
    dict(zip(CMC_RANKS, np.mean(hits, axis=0).tolist())),
    len(precisions),
    len(query) - len(precisions),
    ties,
    precisions,
  )


def _checked(which: str, features, ids) -> tuple[np.ndarray, np.ndarray]:
  """Returns one side of a retrieval as arrays, features of length 1."""
  features = unit_features(f"{which}_features", features)
  return features, _one_integer_each(f"{which}_ids", ids, features)


def _one_integer_each(name: str, values, features: np.ndarray) -> np.ndarray:
  values = np.asarray(values)
  if values.shape != (len(features),) or values.dtype.kind not in "iu":
    raise ValueError(
      f"{name} are {values.dtype} {values.shape}: expected one integer for each of the {len(features)} features"
    )
  return values
