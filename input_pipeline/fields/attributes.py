"""Attributes of the person in an image, and how common they are."""

import numpy as np

from input_pipeline.fields.base import AnnotatedImage, Field
from input_pipeline.fields.legend import classes_of
from input_pipeline.source import ImageSource


class AttributesField(Field):
  """`attributes` (A,) int8 of the first person: 1 true, -1 false, 0 unknown.

  Args:
    source: the images.

  Raises:
    ValueError: it names no attributes.
  """

  def __init__(self, source: ImageSource):
    self.classes = classes_of(source, "attributes")
    self.summary = [f"{len(self.classes)} attributes"]

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"attributes": ((len(self.classes),), np.int8)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    signs = attribute_signs(image.facts, len(self.classes))
    if signs is None:
      return "attributes: not one 0, 1 or null for each name"
    row["attributes"][:] = signs
    return None


class AttributeSharesField(Field):
  """`attribute_shares` (A,) float32, the same for every image: the share of true attributes among the known ones.

  Losses use it to give rare attributes more weight.

  Args:
    source: the images; the annotations of all of them are read.

  Raises:
    ValueError: it names no attributes, or one of them is unknown in all images.
  """

  def __init__(self, source: ImageSource):
    names = classes_of(source, "attributes")
    true, known = np.zeros((2, len(names)), np.int64)
    for i in range(len(source)):
      try:
        signs = attribute_signs(source.annotations(i)[0], len(names))
      except OSError:  # counted as damage when a batch reads it
        continue
      if signs is not None:
        true += signs > 0
        known += signs != 0
    for place in np.flatnonzero(known == 0):
      raise ValueError(
        f"attribute {names[place]!r} is known of none of the {len(source):,} images of "
        f"{source.identity['name']!r}: choose other data"
      )
    self._shares = (true / known).astype(np.float32)
    self.summary = [f"attributes true in {self._shares.min():.1%} to {self._shares.max():.1%} of the images"]

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"attribute_shares": (self._shares.shape, np.float32)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    row["attribute_shares"][:] = self._shares
    return None


def attribute_signs(facts: dict, count: int) -> np.ndarray | None:
  """Returns (count,) int8, the attributes of the first person as in `AttributesField`; None if they are malformed."""
  given = next(iter(facts.get("people") or ()), {}).get("attributes")
  if given is None:
    return np.zeros(count, np.int8)
  if len(given) != count or any(value not in (None, 0, 1) for value in given):
    return None
  return np.array([0 if value is None else 2 * int(value) - 1 for value in given], np.int8)
