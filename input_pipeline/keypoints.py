"""Keypoints of the persons in training images: COCO's 17, whatever a data set calls and orders its own."""

import bisect
from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.people.landmarks import COCO_JOINTS
from input_pipeline.sources.base import ImageSource
from input_pipeline.sources.combined import MixtureSource


class CocoKeypoints:
  """Picks COCO's joints, by their names, out of the annotations of a source.

  It travels to worker processes, where sources have lost their legends, so it keeps what it needs of them.

  Args:
    source: the images; `legend["joints"]` names their keypoints, in one list or in one for each kind of person.

  Attributes:
    named: data set, or part of a mixture -> how many of the 17 joints it names.

  Raises:
    ValueError: no joint of COCO is named.
  """

  def __init__(self, source: ImageSource):
    parts = {name: part.source for name, part in source.parts.items()} if isinstance(source, MixtureSource) else {
        source.identity["name"]: source}
    self._ends = np.cumsum([len(part) for part in parts.values()]).tolist()
    self._columns = [_columns_of(part.legend) for part in parts.values()]
    self.named = {name: max((int((c >= 0).sum()) for c in columns.values()), default=0)
                  for name, columns in zip(parts, self._columns)}
    if not any(self.named.values()):
      raise ValueError(
          f"data.source={source.identity['source']} ({source.identity['name']!r}) names none of COCO's 17 joints, "
          "which this method reads (nose, left_shoulder, ...): choose a data.source with keypoints, such as people, "
          "coco or lsp, or for hap set config.method.masks.most_parts=0")

  def read(self, i: int, facts: dict, image_hw: tuple[int, int], valid_hw: Sequence[int]) -> tuple[np.ndarray, int]:
    """Keypoints of the first person of image `i`.

    Args:
      i: its index in the source.
      facts: what the source knows of it, in its own pixels.
      image_hw: its size in pixels.
      valid_hw: the size that it has on its canvas.

    Returns:
      (17, 3) float32: x, y in pixels of the canvas, and the visibility given, all 0 where nothing is known; and how
      many were left out because they are not finite or outside the image.
    """
    found = np.zeros((len(COCO_JOINTS), 3), np.float32)
    person = next(iter(facts.get("people") or ()), {})
    columns = self._columns[bisect.bisect_right(self._ends, i)]
    column = columns.get(person.get("joints"), columns.get(None))
    if column is None or not person.get("keypoints"):
      return found, 0
    try:
      points = np.array(person["keypoints"], np.float64).reshape(-1, 3)
    except (TypeError, ValueError):  # not three numbers each
      points = np.zeros((0, 3))
    points = np.concatenate([points, np.full((max(column.max() + 1 - len(points), 0), 3), np.nan)])
    points = np.where(column[:, None] >= 0, points[column], 0.0)
    given = ~(points[:, 2] <= 0)
    size_xy = np.array(image_hw[::-1])
    good = given & np.isfinite(points).all(1) & (points[:, :2] >= 0).all(1) & (points[:, :2] < size_xy).all(1)
    scale_xy = np.array(valid_hw[::-1]) / size_xy
    found[good] = points[good] * [*scale_xy, 1]
    return found, int((given & ~good).sum())


def _columns_of(legend: Mapping) -> dict[str | None, np.ndarray]:
  """Joint list -> (17,) the place of each of COCO's joints in it, -1 for none; None: the only list."""
  joints = legend.get("joints", {})
  lists = joints if isinstance(joints, Mapping) else {None: joints}
  plain = lambda name: str(name).strip().lower().replace(" ", "_").replace("-", "_")
  places = {of: {plain(name): place for place, name in enumerate(names)} for of, names in lists.items()}
  columns = {of: np.array([place.get(joint, -1) for joint in COCO_JOINTS]) for of, place in places.items()}
  return {of: column for of, column in columns.items() if column.max() >= 0}
