"""The boxes of the persons in a photo."""

from collections.abc import Mapping

import numpy as np

from input_pipeline.fields.base import AnnotatedImage, Field
from input_pipeline.fields.coverage import coverage
from input_pipeline.source import ImageSource

MOST_BOXES = 256  # of a photo
COUNTED, IGNORED = 1, -1


class BoxesField(Field):
  """`boxes` (256, 5) float32, and `has_boxes`, whether persons are annotated at all.

  A row is x, y, width, height in pixels of the canvas, and 1; or -1 for persons whose detection counts neither way; or
  0 for no box. Boxes of whole bodies where a data set has them, clipped to the photo; of more than 256, the largest.

  Args:
    source: the photos.

  Raises:
    ValueError: none of the images tried has any.
  """

  classes = ("person",)

  def __init__(self, source: ImageSource):
    self.summary = coverage(
      source,
      lambda facts, _: any(map(box_of, facts.get("people") or ())),
      "boxes",
      "has any; choose data with boxes of persons, such as people or crowdhuman",
    )

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"boxes": ((MOST_BOXES, 5), np.float32), "has_boxes": ((), np.bool_)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    people = image.facts.get("people")
    if people is None:
      return None
    if not all(map(box_of, people)):
      return "boxes: a person without one"
    boxes, ignored = boxes_in(people, image.image_hw)
    largest = np.argsort(-boxes[:, 2:].prod(1), kind="stable")[:MOST_BOXES]
    row["boxes"][: len(largest), :4] = boxes[largest] * np.tile(image.valid_hw[::-1], 2)
    row["boxes"][: len(largest), 4] = np.where(ignored[largest], IGNORED, COUNTED)
    row["has_boxes"][...] = True
    return f"boxes: more than {MOST_BOXES}" if len(boxes) > MOST_BOXES else None


def box_of(person: Mapping) -> list[float] | None:
  """Returns the box of the whole person if it is known, else of the visible part; None if both are unknown."""
  return person.get("boxes", {}).get("full") or person.get("box_full") or person.get("box")


def boxes_in(people: list[Mapping], image_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the boxes of persons, clipped to the photo, without those outside of it.

  Args:
    people: their facts, see records.py; each has a box.
    image_hw: size of the photo in pixels.

  Returns:
    (n, 4) float64 x, y, width, height as shares of the photo's size, and (n,) bool, whether a person is ignored.
  """
  corners = np.array([box_of(person) for person in people], np.float64).reshape(-1, 4)
  corners[:, 2:] += corners[:, :2]
  corners = np.clip(corners / np.tile(image_hw[::-1], 2), 0, 1)
  corners[:, 2:] -= corners[:, :2]
  ignored = np.array([bool(person.get("ignore")) for person in people], bool)
  inside = (corners[:, 2:] > 0).all(1)
  return corners[inside], ignored[inside]
