"""Person re-identification: which gallery images show the person of a query."""

import numpy as np

from saip_jax.evaluation.encoders import Encoder, encode_images, striped
from saip_jax.evaluation.metrics.retrieval import DISTRACTOR, TIES, RetrievalScores, evaluate_retrieval
from saip_jax.evaluation.resampling import Resampling, mean_of
from saip_jax.evaluation.splits import Data, LabeledImages, cameras
from saip_jax.evaluation.tasks.base import Result, facts_of


def nearest_persons(encoder: Encoder, data: Data) -> Result:
  """Ranks by cosine similarity of image features, without re-ranking; same-camera images of the person are excluded."""
  query, gallery = data.query_and_gallery()
  damaged: list[str] = []
  of_query = _side(encoder, query, damaged)
  found = evaluate_retrieval(*of_query, *_side(encoder, gallery, damaged))
  scores = {"mAP": found.mAP, "mINP": found.mINP} | {f"CMC@{k}": share for k, share in found.cmc.items()}
  facts = facts_of(query=query, gallery=gallery) | {
    "queries": found.queries,
    "queries_without_match": found.queries_without_match,
    "re_ranking": False,
    "queries_with_ties": found.queries_with_ties,
    "ties": TIES,
    "same_camera": "excluded",
    "image_features": encoder.image_features,
  }
  return Result(scores, facts, damaged, resampling_of(found, of_query[1]))


def nearest_persons_by_stripes(encoder: Encoder, data: Data) -> Result:
  """As `nearest_persons`, by the deviations of the cells in four stripes of an image."""
  return nearest_persons(striped(encoder, "deviations"), data)


def resampling_of(found: RetrievalScores, persons: np.ndarray) -> Resampling:
  """Returns the resampling of mAP by the persons of the queries, (Q,) int; the gallery stays."""
  measured = np.array(list(found.average_precision))
  precisions = np.array(list(found.average_precision.values()))
  return Resampling("mAP", persons[measured], mean_of(precisions, np.ones(len(precisions))))


def _side(encoder: Encoder, images: LabeledImages, damaged: list[str]):
  """Returns features, identities from 1 (0 for a distractor), and cameras."""
  persons = np.array(images.of_first_persons("identity", "re-identification"), np.int64)
  ids = np.where(persons == images.legend.get("distractor"), DISTRACTOR, persons + 1)  # some count from 0
  rows, features = encode_images(encoder, images.source, damaged)
  return features, ids[rows], cameras(images)[rows]
