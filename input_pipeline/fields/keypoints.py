"""Keypoints of the person in a crop, in COCO's joint list, whatever the list of the data set."""

import bisect
from collections.abc import Mapping

import numpy as np

from input_pipeline.body import COCO_JOINTS
from input_pipeline.fields.base import AnnotatedImage, Field
from input_pipeline.source import ImageSource
from input_pipeline.sources.annotated.person import plain_joint
from input_pipeline.sources.combined import parts_of


class KeypointsField(Field):
  """`keypoints` (17, 3) float32: x, y in pixels of the canvas and visibility, 0 for unknown, of the first person.

  The joints are found by their names in the joint list of the source. Keypoints that are not finite or lie outside the
  image are left out.

  The columns of each list are kept, as sources lose their legends when they are pickled into worker processes.

  Args:
    source: the images; `legend["joints"]` names their keypoints, in one list or in one for each kind of person.

  Raises:
    ValueError: no joint of COCO is named.
  """

  classes = tuple(COCO_JOINTS)

  def __init__(self, source: ImageSource):
    parts = parts_of(source)
    self._ends = np.cumsum([len(part) for part in parts.values()]).tolist()
    self._columns = [_columns_of(part.legend) for part in parts.values()]
    named = {
      name: max((int((c >= 0).sum()) for c in columns.values()), default=0)
      for name, columns in zip(parts, self._columns)
    }
    if not any(named.values()):
      raise ValueError(
        f"data.source={source.identity['source']} ({source.identity['name']!r}) names none of COCO's 17 joints, "
        "which this method reads (nose, left_shoulder, ...): choose a data.source with keypoints, such as people, "
        "coco or lsp (one part of a mixture is enough), or for hap set config.method.masks.most_parts=0"
      )
    self.summary = [f"{count} of COCO's 17 joints are named by {name!r}" for name, count in named.items()]

  def arrays(self, canvas_hw: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {"keypoints": ((len(COCO_JOINTS), 3), np.float32)}

  def read(self, image: AnnotatedImage, row: dict[str, np.ndarray]) -> str | None:
    person = next(iter(image.facts.get("people") or ()), {})
    columns = self._columns[bisect.bisect_right(self._ends, image.index)]
    column = columns.get(person.get("joints"), columns.get(None))
    if column is None or not person.get("keypoints"):
      return None
    try:
      points = np.array(person["keypoints"], np.float64).reshape(-1, 3)
    except (TypeError, ValueError):  # not three numbers each
      points = np.zeros((0, 3))
    points = np.concatenate([points, np.full((max(column.max() + 1 - len(points), 0), 3), np.nan)])
    return put_on_canvas(np.where(column[:, None] >= 0, points[column], 0.0), image, row["keypoints"])


def put_on_canvas(points: np.ndarray, image: AnnotatedImage, row: np.ndarray) -> str | None:
  """Writes keypoints into a row; returns as `Field.read`.

  Args:
    points: (J, 3) x, y in pixels of the image and visibility.
    image: the image.
    row: (J, 3) zeros; filled with x, y in pixels of the canvas and visibility.
  """
  given = ~(points[:, 2] <= 0)
  size_xy = np.array(image.image_hw[::-1])
  good = given & np.isfinite(points).all(1) & (points[:, :2] >= 0).all(1) & (points[:, :2] < size_xy).all(1)
  row[good] = points[good] * [*np.array(image.valid_hw[::-1]) / size_xy, 1]
  return "keypoints: not finite or outside the image" if (given & ~good).any() else None


def _columns_of(legend: Mapping) -> dict[str | None, np.ndarray]:
  """Returns joint list -> (17,), the column of each of COCO's joints, -1 for none; the key of the only list is None."""
  joints = legend.get("joints", {})
  lists = joints if isinstance(joints, Mapping) else {None: joints}
  places = {of: {plain_joint(name): place for place, name in enumerate(names)} for of, names in lists.items()}
  columns = {of: np.array([place.get(joint, -1) for joint in COCO_JOINTS]) for of, place in places.items()}
  return {of: column for of, column in columns.items() if column.max() >= 0}
