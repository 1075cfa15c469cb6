"""The joints of the person in a crop, in space."""

from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.fields.base import AnnotatedImage, Field
from input_pipeline.fields.joints import joint_list
from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import parts_of

_ROOTS = (("left_hip", "right_hip"), ("pelvis",))


class JointsXyzField(Field):
  """`joints_xyz` (J, 4) float32 of the first person: x, y, z from the root in meters, and 1; zeros where unknown.

  In the camera's frame: x right, y down, z forward. The root is the middle of the hips, or the pelvis.

  Args:
    source: the images.

  Raises:
    ValueError: it names no joints in space, or no root is among them.
  """

  def __init__(self, source: ImageSource):
    parts = list(parts_of(source).values())
    self.classes, self._key = joints_in_space(parts[0]), _key(parts[0].legend)
    data = f"data.source={source.identity['source']} ({source.identity['name']!r})"
    if any((joints_in_space(part), _key(part.legend)) != (self.classes, self._key) for part in parts):
      raise ValueError(f"the parts of {data} have different joints in space: expected the same of each")
    self._root = root_of(self.classes, data)
    self.summary = [f"{len(self.classes)} joints in space"]

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"joints_xyz": ((len(self.classes), 4), np.float32)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    given = image.first_person.get(self._key)
    if given is None:
      return None
    if len(given) != len(self.classes):
      return "joints in space: not one place or null for each name"
    places = np.array([[np.nan] * 3 if place is None else place for place in given], np.float64)
    places -= places[self._root].mean(0)
    known = np.isfinite(places).all(1)
    row["joints_xyz"][known] = np.concatenate([places, np.ones((len(places), 1))], axis=1)[known]
    return None if known.any() else "joints in space: the root is not known"


def joints_in_space(source: ImageSource) -> tuple[str, ...]:
  """Returns the names of the joints of a data set that may be known in space; () for none."""
  return tuple(source.legend["landmarks"]) if "landmarks" in source.legend else joint_list(source)[1]


def root_of(names: Sequence[str], data: str) -> list[int]:
  """Returns the joints whose mean is the root. Args: data: the data set, for messages."""
  root = next(([list(names).index(joint) for joint in root] for root in _ROOTS if set(root) <= set(names)), None)
  if root is None:
    raise ValueError(
      f"the 3-D joints of {data} are {', '.join(names)}: expected left_hip and right_hip, or pelvis, to measure from"
    )
  return root


def _key(legend: Mapping) -> str:
  return "landmarks_xyz" if "landmarks" in legend else "joints_xyz"
