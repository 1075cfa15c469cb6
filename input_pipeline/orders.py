"""The orders of images in training, each a pure function of (seed, position)."""

import grain
import numpy as np

from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import MixtureSource

ENDLESS = 2**48
"""More samples than any run reads; Grain's own endless length overflows if a host's share of a batch is one row."""


def shuffled(source: ImageSource, seed: int) -> grain.MapDataset:
  """Returns the indices of a source without end, in a new order in each epoch.

  The parts of a mixture are shuffled and repeated each by itself, and take turns by their weights in a fixed pattern.
  """
  if not isinstance(source, MixtureSource):
    return _repeated(range(len(source)), seed)
  parts = [_repeated(indices, seed + number) for number, indices in enumerate(source.ranges)]
  return grain.MapDataset.mix(parts, [part.weight for part in source.parts.values()])[:ENDLESS]


def _repeated(indices: range, seed: int) -> grain.MapDataset:
  epochs = -(-ENDLESS // len(indices))
  return grain.MapDataset.range(indices.start, indices.stop).seed(seed).shuffle().repeat(epochs)[:ENDLESS]


def balanced(numbers: np.ndarray, pictures: int, seed: int) -> grain.MapDataset:
  """Returns the indices of images without end, several of one person, then several of another.

  In an epoch a person has one turn per `pictures` images, at least one, and turns are shuffled. The images of a turn
  are drawn without replacement, or with it if a person has fewer.

  Args:
    numbers: (n,) the identity of each image, see `identities.number_identities`; images with 0 are never used.
    pictures: images of a turn.
    seed: of all draws.

  Source: the P x K batches of Hermans et al. 2017, arXiv 1703.07737, section 2.
  """
  by_person = np.argsort(numbers, kind="stable")
  bounds = np.searchsorted(numbers[by_person], np.arange(1, int(numbers.max()) + 2))
  members = [by_person[start:stop] for start, stop in zip(bounds, bounds[1:])]
  turns = [person for person, images in enumerate(members) for _ in range(max(1, len(images) // pictures))]
  epochs = -(-ENDLESS // (len(turns) * pictures))
  order = grain.MapDataset.range(len(turns)).seed(seed).shuffle().repeat(epochs)

  def draw(turn: int, rng: np.random.Generator) -> list[int]:
    images = members[turns[turn]]
    return rng.choice(images, pictures, replace=len(images) < pictures).tolist()

  drawn = order.random_map(draw)  # turn -> its images
  return grain.MapDataset.range(ENDLESS).map(lambda position: drawn[position // pictures][position % pictures])
