"""Keypoints of the person in a crop, all that a data set has, by its own names."""

from collections.abc import Callable, Mapping

import numpy as np

from input_pipeline.body import whole_body_names, whole_body_points
from input_pipeline.fields.base import AnnotatedImage, Field, first_person
from input_pipeline.fields.coverage import found_in
from input_pipeline.fields.keypoints import put_on_canvas
from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import parts_of


class Joints(Field):
  """`joints` (J, 3) float32: x, y in pixels of the canvas and visibility, 0 for unknown, of the first person.

  Where a data set has several lists of joints, those of the list that its first persons have.

  Args:
    source: the images; `legend["joints"]` names their keypoints.

  Raises:
    ValueError: no joint is named, or the parts of a mixture differ.
  """

  def __init__(self, source: ImageSource):
    self.summary = found_in(
      source,
      lambda facts, _: bool(first_person(facts).get("keypoints")),
      "keypoints",
      "has any of its first person; choose data with keypoints, such as people or coco",
    )
    self._list, self.classes = _the_same_of_each_part(source, joint_list, "joints")

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"joints": ((len(self.classes), 3), np.float32)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    person = image.first_person
    if not person.get("keypoints"):
      return None
    if self._list not in (None, person.get("joints")) or len(person["keypoints"]) != len(self.classes):
      return "keypoints: of another list of joints"
    return put_on_canvas(np.array(person["keypoints"], np.float64), image, row["joints"])


class Landmarks(Field):
  """`landmarks` (L, 3) float32, as `Joints`: of the whole body, with feet, and what else a data set has of it.

  Args:
    source: the images: of COCO-WholeBody, with 133 landmarks, or built-in people.

  Raises:
    ValueError: it has none.
  """

  def __init__(self, source: ImageSource):
    _, self.classes = _the_same_of_each_part(source, lambda part: (None, whole_body_names(part.legend)), "landmarks")
    self.summary = [f"{len(self.classes)} landmarks of the whole body"]

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"landmarks": ((len(self.classes), 3), np.float32)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    try:
      points = whole_body_points(image.facts)
    except ValueError:
      return "landmarks: a list of another length"
    if len(points) != len(self.classes):
      return "landmarks: of another list"
    return put_on_canvas(points, image, row["landmarks"])


def joint_list(source: ImageSource) -> tuple[str | None, tuple[str, ...]]:
  """Returns the list that persons of a data set have, None where there is but one, and the joints in it."""
  joints = source.legend.get("joints", ())
  if not isinstance(joints, Mapping):
    return None, tuple(joints)
  used = (first_person(source.annotations(i)[0]).get("joints") for i in range(len(source)))
  name = next((name for name in used if name in joints), None)
  return name, tuple(joints.get(name, ()))


def _the_same_of_each_part(source: ImageSource, find: Callable, what: str) -> tuple[str | None, tuple[str, ...]]:
  """Returns what is found in every part of a mixture; raises ValueError where there is nothing, or they differ."""
  found = {name: find(part) for name, part in parts_of(source).items()}
  which = f"data.source={source.identity['source']} ({source.identity['name']!r})"
  first = next(iter(found.values()))
  if not first[1]:
    raise ValueError(f"{which} names no {what}, which this method reads: choose data with {what}, such as people")
  if any(each != first for each in found.values()):
    raise ValueError(f"the parts of {which} have different {what}: expected the same of each")
  return first
