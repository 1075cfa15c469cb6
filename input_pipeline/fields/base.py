"""What a reader of a field sees of an image, and what it must give."""

import abc
import dataclasses
import functools

import numpy as np

from input_pipeline.planes import UnusablePlane, decode_plane

# What parts.png says of pixels that are not counted.
NOT_COUNTED = 255


@dataclasses.dataclass(frozen=True)
class AnnotatedImage:
  """An image of a batch and all that its source knows of it.

  Attributes:
    index: its index in the source.
    facts: as in records.py, in the image's own pixels.
    files: as in records.py.
    image_hw: its own size in pixels.
    valid_hw: the size that it has on its canvas, at the top left.
  """

  index: int
  facts: dict
  files: dict[str, bytes]
  image_hw: tuple[int, int]
  valid_hw: tuple[int, int]

  @property
  def first_person(self) -> dict:
    """What is known of the first person, the one whom a crop shows."""
    return first_person(self.facts)

  @functools.cached_property
  def person(self) -> np.ndarray | None:
    """The silhouette (H, W) bool of the first person, in the image's own pixels; None: there is none.

    Raises:
      UnusablePlane: the mask cannot be read or is not on the image's grid.
    """
    if "instances.png" in self.files:
      return self.plane("instances.png") == 1
    if "parts.png" in self.files:
      parts = self.plane("parts.png")
      return (parts > 0) & (parts != NOT_COUNTED)
    return None

  def plane(self, name: str) -> np.ndarray:
    """A file of one channel, (H, W) in the image's own pixels; raises UnusablePlane."""
    plane = decode_plane(self.files[name])
    if plane.shape != tuple(self.image_hw):
      raise UnusablePlane(f"{name} is of another size than the image")
    return plane


def first_person(facts: dict) -> dict:
  """Returns what is known of the first person of an image; {} where nobody is."""
  return next(iter(facts.get("people") or ()), {})


class Field(abc.ABC):
  """Reads one kind of thing out of the annotations of images into arrays of a batch.

  It travels to worker processes and is called by several threads at once.

  Attributes:
    summary: what the data set holds of it, in lines for a person.
    classes: what the numbers, or the places, of its labels stand for; () where they are no classes.
  """

  summary: list[str]
  classes: tuple[str, ...] = ()

  @abc.abstractmethod
  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    """Name -> shape and dtype of one row, for images on a canvas of this size. A row of zeros says "unknown"."""

  @abc.abstractmethod
  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    """Fills one row.

    Args:
      image: the image.
      row: name -> array of one row, all zero.

    Returns:
      Why something that the source holds is left out and stays unknown, in the same words for every image; None:
      nothing is, which an image without any such thing says too.
    """
