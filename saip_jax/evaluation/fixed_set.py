"""A small fixed set of images of a data set, decoded once, on which monitors measure an encoder during training."""

import dataclasses
import functools

import numpy as np

from input_pipeline.names import shown
from input_pipeline.sources.combined import SubsetSource
from saip_jax.evaluation.resize import resized_batches
from saip_jax.evaluation.splits import Data, LabeledImages


@dataclasses.dataclass(frozen=True)
class FixedImages:
  """A part of a `FixedSet`.

  Attributes:
    images: the images with their annotations.
    rows: (n,) int64, their positions in `FixedSet.pictures`.
  """

  images: LabeledImages
  rows: np.ndarray


class FixedSet:
  """Images of the parts of a data set; a part is decoded at its first use.

  Args:
    data: the data set.
    image_hw: size in pixels that images are resized to, as by `saip evaluate`.
    most: most images of the training part, of the test part, and (approximately) of query and gallery together.

  Attributes:
    image_hw: the size.
    damaged: "name: reason" of each image that was left out because it cannot be read.
  """

  def __init__(self, data: Data, image_hw: tuple[int, int], most: int):
    self._data, self.image_hw, self._most = data, image_hw, most
    self._rows: dict[bytes, int] = {}  # bytes of each image -> its position; an image of several parts is stored once
    self.damaged: list[str] = []

  @property
  def pictures(self) -> np.ndarray:
    """The images of all parts used so far, (N, H, W, 3) uint8."""
    return np.frombuffer(b"".join(self._rows), np.uint8).reshape(-1, *self.image_hw, 3)

  @functools.cached_property
  def fit_and_test(self) -> tuple[FixedImages, FixedImages]:
    """The training part and the test part, evenly spaced images of each."""

    def evenly(images: LabeledImages) -> np.ndarray:
      count = min(len(images), self._most)
      return np.arange(count) * len(images) // count

    fit, test = self._data.train_and_test()
    return self._part(fit, evenly(fit)), self._part(test, evenly(test))

  @functools.cached_property
  def query_and_gallery(self) -> tuple[FixedImages, FixedImages]:
    """The two sides of a retrieval: all images of evenly spaced identities, up to `most`."""
    sides = self._data.query_and_gallery()
    persons = [np.array(side.of_first_persons("identity", "re-identification")) for side in sides]
    known, queried = np.unique(persons[0], return_counts=True)
    sizes = queried + np.array([np.count_nonzero(persons[1] == person) for person in known])
    count = max(1, min(len(known), int(self._most / sizes.mean())))
    chosen = known[np.arange(count) * len(known) // count]
    query, gallery = (self._part(side, np.flatnonzero(np.isin(of, chosen))) for side, of in zip(sides, persons))
    return query, gallery

  def _part(self, images: LabeledImages, indices: np.ndarray) -> FixedImages:
    """Decodes some of the images."""
    chosen = SubsetSource(images.source, indices, "a few")
    (batch,) = resized_batches(chosen, self.image_hw, len(chosen))
    damaged = [i for i, reason in enumerate(batch.reasons) if reason is not None]
    self.damaged += [f"{shown(chosen.name(i))}: {batch.reasons[i]}" for i in damaged]
    readable = np.setdiff1d(np.arange(len(chosen)), damaged)
    rows = [self._rows.setdefault(batch.images_u8[i].tobytes(), len(self._rows)) for i in readable]
    return FixedImages(LabeledImages(SubsetSource(images.source, indices[readable], "a few")), np.array(rows, np.int64))
