"""The interface of a field: an annotated image in, arrays of a batch out."""

import abc
import dataclasses
import functools

import numpy as np

from input_pipeline.planes import UnusablePlane, decode_plane
from input_pipeline.records import IGNORE_LABEL


@dataclasses.dataclass(frozen=True)
class AnnotatedImage:
  """An image of a batch with its annotations.

  Attributes:
    index: its index in the source.
    facts: as in records.py, in the image's own pixels.
    files: as in records.py.
    image_hw: its own size in pixels.
    valid_hw: its size on the canvas, at the top left.
  """

  index: int
  facts: dict
  files: dict[str, bytes]
  image_hw: tuple[int, int]
  valid_hw: tuple[int, int]

  @property
  def first_person(self) -> dict:
    """The facts of the first person, which is the person of a crop."""
    return first_person(self.facts)

  @functools.cached_property
  def person(self) -> np.ndarray | None:
    """The silhouette (H, W) bool of the first person, in the image's own pixels; None if there is none.

    Raises:
      UnusablePlane: the mask cannot be read or is not on the image's grid.
    """
    if "instances.png" in self.files:
      return self.plane("instances.png") == 1
    if "parts.png" in self.files:
      parts = self.plane("parts.png")
      return (parts > 0) & (parts != IGNORE_LABEL)
    return None

  def plane(self, name: str) -> np.ndarray:
    """Returns a file of one channel, (H, W) in the image's own pixels; raises UnusablePlane."""
    plane = decode_plane(self.files[name])
    if plane.shape != tuple(self.image_hw):
      raise UnusablePlane(f"{name} is of another size than the image")
    return plane


def first_person(facts: dict) -> dict:
  """Returns the facts of the first person of an image; {} if it shows no person."""
  return next(iter(facts.get("people") or ()), {})


class Field(abc.ABC):
  """Reads one kind of annotation into arrays of a batch.

  It is pickled into worker processes and called by several threads at once.

  Attributes:
    summary: what the data set holds of it, in lines for people.
    classes: the names of its labels, by their numbers or positions; () where labels are no classes.
  """

  summary: list[str]
  classes: tuple[str, ...] = ()

  @abc.abstractmethod
  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    """Returns name -> shape and dtype of one row, for images on a canvas of this size. A row of zeros is unknown."""

  @abc.abstractmethod
  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    """Fills one row.

    Args:
      image: the image.
      row: name -> array of one row, all zero.

    Returns:
      Why an annotation could not be used and stays unknown, in the same words for every image; None if all could be
      used, or there are none.
    """
