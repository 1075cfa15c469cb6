"""Text-to-image retrieval: which pictures does a sentence describe.

No text encoder is trained here: a linear layer says from the image which words its captions will hold, and pictures are
ranked by how well these fit the words of the query. Published results train the text side too and are higher.
"""

import collections
from collections.abc import Callable
from typing import Any

import numpy as np

from input_pipeline.fields.captions import captions_of_person, words_of
from saip_jax.evaluation.encoders import Encoder, encode_images
from saip_jax.evaluation.metrics.retrieval import TIES, evaluate_text_retrieval
from saip_jax.evaluation.metrics.similarity import on_distinct_rows
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from saip_jax.evaluation.tasks.base import Result, facts_of

_FEWEST = 3  # captions that a word must be in
_MOST_WORDS = 2000


def image_captions(images: LabeledImages) -> list[list[str]]:
  """Returns the sentences that describe the first person of each image."""
  given = [captions_of_person(images.first_person(i)) for i in range(len(images))]
  missing = next((i for i, captions in enumerate(given) if not captions), None)
  if missing is not None:
    raise ValueError(
      f"{images.source.name(missing)} of {images.source.identity['name']!r} has no caption: text "
      "retrieval needs one for each image; choose other --data, such as people"
    )
  return given


def probe_text(encoder: Encoder, data: Data) -> Result:
  """Ridge regression from image features to the weights of words (tf-idf) in the captions of an image."""
  train, test = data.train_and_test()
  said, asked = image_captions(train), image_captions(test)
  words = CaptionWords([caption for captions in said for caption in captions])
  damaged: list[str] = []
  rows, features = encode_images(encoder, train.source, damaged)
  to_fit = np.stack([words.vectors(captions).mean(0) for captions in said])
  probe = fit_ridge(features, to_fit[rows], groups=groups(train)[rows])
  rows, features = encode_images(encoder, test.source, damaged)
  middle = to_fit.mean(0)
  facts = facts_of(train=train, test=test) | {
    "words": len(words),
    "text_encoder": "none: words that a linear layer says",
    "ridge_strength": probe.strength,
  }
  say = lambda captions: words.vectors(captions) - middle
  return score_text_retrieval(
    say, on_distinct_rows(probe.predict, features) - middle, rows, test, asked, facts, damaged
  )


def score_text_retrieval(
  of_text: Callable[[list[str]], np.ndarray],
  of_images: np.ndarray,
  rows: np.ndarray,
  test: LabeledImages,
  asked: list[list[str]],
  facts: dict[str, Any],
  damaged: list[str],
) -> Result:
  """Measures how well captions find the pictures that they describe.

  Args:
    of_text: captions -> (queries, D) features.
    of_images: (n, D) features of images, which are compared by cosine with those of captions.
    rows: (n,) int, the images.
    test: all images.
    asked: the captions of all of them, see `image_captions`.
    facts: what must be known to compare the scores, besides what is told here.
    damaged: see `Result`.
  """
  persons = np.array(test.of_first_persons("identity", "text retrieval"), np.int64)[rows]
  captions = [asked[row] for row in rows]
  queries = of_text([caption for each in captions for caption in each])
  owners = np.repeat(persons, [len(each) for each in captions])
  found = evaluate_text_retrieval(queries, owners, of_images, persons)
  scores = {"mAP": found.mAP, "mINP": found.mINP} | {f"R@{k}": share for k, share in found.cmc.items()}
  told = {"queries": found.queries, "queries_with_ties": found.queries_with_ties, "ties": TIES}
  return Result(scores, facts | told, damaged)


class CaptionWords:
  """The words of some captions, and how much each says: log(captions / captions with the word).

  Args:
    captions: sentences; at most `_MOST_WORDS` words that are in three of them or more are kept, the most frequent.
  """

  def __init__(self, captions: list[str]):
    counts = collections.Counter(word for caption in captions for word in set(words_of(caption)))
    kept = sorted((word for word, n in counts.items() if n >= _FEWEST), key=lambda word: (-counts[word], word))
    if not kept:
      raise ValueError(f"no word is in {_FEWEST} of the {len(captions)} captions: expected more of them")
    self._places = {word: place for place, word in enumerate(kept[:_MOST_WORDS])}
    self._worth = np.array([np.log(len(captions) / counts[word]) for word in self._places])

  def __len__(self) -> int:
    return len(self._places)

  def vectors(self, captions: list[str]) -> np.ndarray:
    """Returns (n, words) float64 of length 1, or 0 where no word is known."""
    found = np.zeros((len(captions), len(self)))
    for row, caption in enumerate(captions):
      for word in set(words_of(caption)) & self._places.keys():
        found[row, self._places[word]] = self._worth[self._places[word]]
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
