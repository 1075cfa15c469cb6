"""Keypoints of the person in a crop, in the joint list of the data set."""

from collections.abc import Callable, Mapping

import numpy as np

from input_pipeline.body import whole_body_names, whole_body_points
from input_pipeline.fields.base import AnnotatedImage, Field, first_person
from input_pipeline.fields.coverage import coverage
from input_pipeline.fields.keypoints import put_on_canvas
from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import parts_of


class JointsField(Field):
  """`joints` (J, 3) float32: x, y in pixels of the canvas and visibility, 0 for unknown, of the first person.

  Where a data set has several joint lists, the one of its first persons.

  Args:
    source: the images; `legend["joints"]` names their keypoints.

  Raises:
    ValueError: no joint is named, or the parts of a mixture differ in them.
  """

  def __init__(self, source: ImageSource):
    self.summary = coverage(
      source,
      lambda facts, _: bool(first_person(facts).get("keypoints")),
      "keypoints",
      "has any of its first person; choose data with keypoints, such as people or coco",
    )
    self._list, self.classes = _same_in_each_part(source, joint_list, "joints")

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"joints": ((len(self.classes), 3), np.float32)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    person = image.first_person
    if not person.get("keypoints"):
      return None
    if self._list not in (None, person.get("joints")) or len(person["keypoints"]) != len(self.classes):
      return "keypoints: of another list of joints"
    return put_on_canvas(np.array(person["keypoints"], np.float64), image, row["joints"])


class LandmarksField(Field):
  """`landmarks` (L, 3) float32, as `JointsField`, of the whole body: with feet, and all else that a data set has.

  Args:
    source: the images, of COCO-WholeBody with 133 landmarks, or built-in people.

  Raises:
    ValueError: it has none.
  """

  def __init__(self, source: ImageSource):
    _, self.classes = _same_in_each_part(source, lambda part: (None, whole_body_names(part.legend)), "landmarks")
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
  """Returns the name of the joint list that persons of a data set have, None if there is one, and its joints."""
  joints = source.legend.get("joints", ())
  if not isinstance(joints, Mapping):
    return None, tuple(joints)
  used = (first_person(source.annotations(i)[0]).get("joints") for i in range(len(source)))
  name = next((name for name in used if name in joints), None)
  return name, tuple(joints.get(name, ()))


def _same_in_each_part(source: ImageSource, find: Callable, what: str) -> tuple[str | None, tuple[str, ...]]:
  """Returns what `find` finds in all parts of a mixture; raises ValueError if they differ or have none."""
  found = {name: find(part) for name, part in parts_of(source).items()}
  data = f"data.source={source.identity['source']} ({source.identity['name']!r})"
  first = next(iter(found.values()))
  if not first[1]:
    raise ValueError(f"{data} names no {what}, which this method reads: choose data with {what}, such as people")
  if any(each != first for each in found.values()):
    raise ValueError(f"the parts of {data} have different {what}: expected the same of each")
  return first
