"""Who is in the images of a data set, and an order of them in which everybody comes up several times at once."""

import grain
import numpy as np

from input_pipeline.sources.base import ImageSource
from input_pipeline.sources.combined import parts_of


def number_identities(source: ImageSource) -> tuple[np.ndarray, tuple[str, ...]]:
  """Numbers the persons of a data set; the annotations of all images are read.

  Args:
    source: the images. Parts of a mixture share nobody.

  Returns:
    (n,) int32, the first person of each image: a number from 1, or 0 where nobody knows, or it is one whom the data set
    calls a distractor; and the names of the persons 1, 2, ..., sorted.

  Raises:
    ValueError: nobody is known.
  """
  known = {}  # index -> (part, identity)
  parts, start = parts_of(source), 0
  for name, part in parts.items():
    distractor = part.legend.get("distractor")
    for i in range(len(part)):
      identity = _identity(part, i)
      if identity is not None and identity != distractor:
        known[start + i] = (name, identity)
    start += len(part)
  if not known:
    raise ValueError(f"data.source={source.identity['source']} ({source.identity['name']!r}) knows no identity, which "
                     "re-identification learns from: choose data with identities, such as people or market1501")
  persons = sorted(set(known.values()), key=lambda person: (person[0], isinstance(person[1], str), person[1]))
  number_of = {person: number for number, person in enumerate(persons, 1)}
  numbers = np.zeros(len(source), np.int32)
  numbers[list(known)] = [number_of[person] for person in known.values()]
  return numbers, tuple(str(identity) if len(parts) == 1 else f"{name}/{identity}" for name, identity in persons)


def _identity(source: ImageSource, i: int) -> int | str | None:
  try:
    facts, _ = source.annotations(i)
  except OSError:  # counted as damage when it is met
    return None
  return next(iter(facts.get("people") or ()), {}).get("identity")


def balanced_order(numbers: np.ndarray, pictures: int, seed: int, endless: int) -> grain.MapDataset:
  """Returns the indices of images in an order of several of one person, then several of another.

  In an epoch a person has a turn for each `pictures` images, at least one, and turns are shuffled. In a turn images are
  drawn without replacement, or with it where a person has fewer. A pure function of (seed, position).

  Args:
    numbers: see `number_identities`; images with 0 never come up.
    pictures: images of a turn.
    seed: of all draws.
    endless: length of the result, which no run reaches.

  Source: the P x K batches of Hermans et al. 2017, arXiv 1703.07737, section 2.
  """
  members = {number: np.flatnonzero(numbers == number) for number in range(1, int(numbers.max()) + 1)}
  turns = [number for number, images in members.items() for _ in range(max(1, len(images) // pictures))]
  epochs = -(-endless // (len(turns) * pictures))
  order = grain.MapDataset.range(len(turns)).seed(seed).shuffle().repeat(epochs)

  def draw(turn: int, rng: np.random.Generator) -> list[int]:
    images = members[turns[turn]]
    return rng.choice(images, pictures, replace=len(images) < pictures).tolist()

  drawn = order.random_map(draw)  # turn -> its images
  return grain.MapDataset.range(endless).map(lambda position: drawn[position // pictures][position % pictures])
