"""Sources made of sources: a subset of one, and a mixture of several."""

import bisect
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.source import ImageSource


class SubsetSource(ImageSource):
  """Some images of a source.

  Args:
    source: all images.
    indices: (n,) the images to take, in ascending order.
    name: the name of the choice, e.g. the base name of its list.
  """

  def __init__(self, source: ImageSource, indices: np.ndarray, name: str):
    self._source, self._indices = source, np.asarray(indices, np.int64)
    self.left_out, self.legend, self.categories = source.left_out, source.legend, source.categories
    whole = source.identity
    digest = hashlib.sha256(whole["digest"].encode() + self._indices.tobytes()).hexdigest()[:16]
    self.identity = whole | {"name": f"{whole['name']}[{name}]", "length": len(self), "digest": digest}

  def __len__(self) -> int:
    return len(self._indices)

  def read(self, i: int) -> bytes:
    return self._source.read(int(self._indices[i]))

  def name(self, i: int) -> str:
    return self._source.name(int(self._indices[i]))

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    return self._source.annotations(int(self._indices[i]))

  def __getstate__(self) -> dict:
    return self.__dict__ | {"left_out": (), "legend": {}}


@dataclasses.dataclass(frozen=True)
class WeightedSource:
  """One part of a mixture. Its share of a batch is `weight` / the sum of all weights, whatever its length."""

  source: ImageSource
  weight: float


class MixtureSource(ImageSource):
  """Several sources one after another; the pipeline draws from each by its weight.

  Args:
    parts: name -> part, at least one; indices count them in the order of their names.
  """

  def __init__(self, parts: Mapping[str, WeightedSource]):
    self.parts = dict(sorted(parts.items()))
    self._names, self._sources = list(self.parts), [part.source for part in self.parts.values()]
    self._ends = list(itertools.accumulate(len(source) for source in self._sources))
    self.left_out = [
      (f"{name}/{item}", reason) for name, part in self.parts.items() for item, reason in part.source.left_out
    ]
    identities = {name: part.source.identity | {"weight": part.weight} for name, part in self.parts.items()}
    self.identity = {
      "source": "mixture",
      "name": " + ".join(f"{part.weight:g} {name}" for name, part in self.parts.items()),
      "length": len(self),
      "digest": hashlib.sha256(json.dumps(identities).encode()).hexdigest()[:16],
    }

  @property
  def ranges(self) -> Sequence[range]:
    """The indices of each part, in the order of `parts`."""
    return [range(end - len(source), end) for end, source in zip(self._ends, self._sources)]

  def __len__(self) -> int:
    return self._ends[-1]

  def read(self, i: int) -> bytes:
    part, i = self._place(i)
    return self._sources[part].read(i)

  def name(self, i: int) -> str:
    part, i = self._place(i)
    return f"{self._names[part]}/{self._sources[part].name(i)}"

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    part, i = self._place(i)
    return self._sources[part].annotations(i)

  def _place(self, i: int) -> tuple[int, int]:
    if not 0 <= i < len(self):
      raise IndexError(f"image {i} of a mixture of {len(self)}")
    part = bisect.bisect_right(self._ends, i)
    return part, i - (self._ends[part] - len(self._sources[part]))

  def __getstate__(self) -> dict:
    return self.__dict__ | {"left_out": ()}


def parts_of(source: ImageSource) -> dict[str, ImageSource]:
  """Returns name -> source of the parts of a mixture, in the order of their indices; any other source has one part."""
  if isinstance(source, MixtureSource):
    return {name: part.source for name, part in source.parts.items()}
  return {source.identity["name"]: source}
