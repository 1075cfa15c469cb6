"""Text-to-image retrieval: which images show the person that a caption describes.

The probe has no text encoder: a linear layer predicts the words of an image's captions, and images are ranked by how
well these fit the words of the query. Published results also train a text encoder and are higher. Fine-tuned networks
have a small one.
"""

import collections
from collections.abc import Callable
from typing import Any

import numpy as np

from input_pipeline.fields.captions import captions_of_person, words_of
from saip_jax.evaluation.encoders import Encoder, encode_images
from saip_jax.evaluation.finetuned_networks import TextEncoder
from saip_jax.evaluation.metrics.retrieval import TIES, evaluate_text_retrieval
from saip_jax.evaluation.metrics.similarity import on_distinct_rows
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from saip_jax.evaluation.tasks.base import Result, facts_of
from saip_jax.evaluation.tasks.reid import resampling_of

_FEWEST = 3  # captions that must contain a word
_MOST_WORDS = 2000


def image_captions(images: LabeledImages) -> list[list[str]]:
  """Returns the captions of the first person of each image."""
  given = [captions_of_person(images.first_person(i)) for i in range(len(images))]
  missing = next((i for i, captions in enumerate(given) if not captions), None)
  if missing is not None:
    raise ValueError(
      f"{images.source.name(missing)} of {images.source.identity['name']!r} has no caption: text "
      "retrieval needs one for each image; choose other --data, such as people"
    )
  return given


def probe_text(encoder: Encoder, data: Data) -> Result:
  """Ridge regression from image features to the tf-idf weights of the words in an image's captions."""
  train, test = data.train_and_test()
  of_train, of_test = image_captions(train), image_captions(test)
  words = CaptionWords([caption for captions in of_train for caption in captions])
  damaged: list[str] = []
  rows, features = encode_images(encoder, train.source, damaged)
  to_fit = np.stack([words.vectors(captions).mean(0) for captions in of_train])
  probe = fit_ridge(features, to_fit[rows], groups=groups(train)[rows])
  rows, features = encode_images(encoder, test.source, damaged)
  middle = to_fit.mean(0)
  facts = facts_of(train=train, test=test) | {
    "words": len(words),
    "text_encoder": "none: words predicted by a linear layer",
    "ridge_strength": probe.strength,
  }
  of_text = lambda captions: words.vectors(captions) - middle
  return score_text_retrieval(
    of_text, on_distinct_rows(probe.predict, features) - middle, rows, test, of_test, facts, damaged
  )


def finetuned_text(network: TextEncoder, data: Data) -> Result:
  """Captions and images are compared by the cosine of the network's features."""
  train, test = data.train_and_test()
  captions, damaged = image_captions(test), []
  rows, features = encode_images(network, test.source, damaged)
  facts = facts_of(train=train, test=test) | {"text_encoder": "a small transformer, trained with the task"}
  return score_text_retrieval(network.of_text, features, rows, test, captions, facts, damaged)


def score_text_retrieval(
  of_text: Callable[[list[str]], np.ndarray],
  of_images: np.ndarray,
  rows: np.ndarray,
  test: LabeledImages,
  captions: list[list[str]],
  facts: dict[str, Any],
  damaged: list[str],
) -> Result:
  """Measures how well captions find the images that they describe.

  Args:
    of_text: captions -> (queries, D) features.
    of_images: (n, D) features of images, compared with those of captions by cosine.
    rows: (n,) int, the positions of these images in `test`.
    test: the test part.
    captions: the captions of its images, see `image_captions`.
    facts: facts about the protocol, see `Result`.
    damaged: see `Result`.
  """
  persons = np.array(test.of_first_persons("identity", "text retrieval"), np.int64)[rows]
  of_each = [captions[row] for row in rows]
  queries = of_text([caption for each in of_each for caption in each])
  owners = np.repeat(persons, [len(each) for each in of_each])
  found = evaluate_text_retrieval(queries, owners, of_images, persons)
  scores = {"mAP": found.mAP, "mINP": found.mINP} | {f"R@{k}": share for k, share in found.cmc.items()}
  facts = facts | {"queries": found.queries, "queries_with_ties": found.queries_with_ties, "ties": TIES}
  return Result(scores, facts, damaged, resampling_of(found, owners))


class CaptionWords:
  """The vocabulary of some captions, weighted by inverse document frequency: log(captions / captions with the word).

  Args:
    captions: sentences. The vocabulary is the `_MOST_WORDS` most frequent words that occur in at least three of them.
  """

  def __init__(self, captions: list[str]):
    counts = collections.Counter(word for caption in captions for word in set(words_of(caption)))
    frequent = sorted((word for word, n in counts.items() if n >= _FEWEST), key=lambda word: (-counts[word], word))
    if not frequent:
      raise ValueError(f"no word is in {_FEWEST} of the {len(captions)} captions: expected more captions")
    self._places = {word: place for place, word in enumerate(frequent[:_MOST_WORDS])}
    self._weights = np.array([np.log(len(captions) / counts[word]) for word in self._places])

  def __len__(self) -> int:
    return len(self._places)

  def vectors(self, captions: list[str]) -> np.ndarray:
    """Returns (n, words) float64 tf-idf vectors of length 1, or 0 if no word is in the vocabulary."""
    found = np.zeros((len(captions), len(self)))
    for row, caption in enumerate(captions):
      for word in set(words_of(caption)) & self._places.keys():
        found[row, self._places[word]] = self._weights[self._places[word]]
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
