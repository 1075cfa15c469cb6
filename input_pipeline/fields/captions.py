"""Captions of the person in an image, as numbers of words."""

import re
import zlib
from collections.abc import Mapping

import numpy as np

from input_pipeline.fields.base import AnnotatedImage, Field, first_person
from input_pipeline.fields.coverage import coverage
from input_pipeline.source import ImageSource

WORDS = 2**14  # numbers of words, with 0 for none
LENGTH = 64  # words of a caption
MOST_CAPTIONS = 2  # of an image: as CUHK-PEDES and RSTPReid have them

_WORD = re.compile(r"[a-z]+")


class CaptionsField(Field):
  """`captions` (2, 64) int32: the words of the first two captions of the first person; see `word_numbers`.

  Args:
    source: the images.

  Raises:
    ValueError: none of the images tried has any.
  """

  def __init__(self, source: ImageSource):
    self.summary = coverage(
      source,
      lambda facts, _: bool(captions_of_person(first_person(facts))),
      "captions",
      "has any; choose data with captions, such as people or cuhkpedes",
    )

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"captions": ((MOST_CAPTIONS, LENGTH), np.int32)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    for place, caption in enumerate(captions_of_person(image.first_person)[:MOST_CAPTIONS]):
      row["captions"][place] = word_numbers(caption)
    return None


def captions_of_person(person: Mapping) -> list[str]:
  """Returns the sentences that describe a person."""
  return list(person.get("captions") or filter(None, [person.get("caption")]))


def words_of(caption: str) -> list[str]:
  """Returns the words of a sentence in lower case, without punctuation and digits."""
  return _WORD.findall(caption.lower())


def word_numbers(caption: str) -> np.ndarray:
  """Returns (64,) int32, the numbers of the first 64 words, from 1; 0 after the last word.

  A word's number is its hash, so no vocabulary is kept. CUHK-PEDES has 5,000 words; a quarter of them, mostly rare
  ones, share a number with another word.
  """
  numbers = np.zeros(LENGTH, np.int32)
  words = words_of(caption)[:LENGTH]
  numbers[: len(words)] = [1 + zlib.crc32(word.encode()) % (WORDS - 1) for word in words]
  return numbers
