"""Annotated persons, as every reader of annotations makes them, in one pixel frame whatever the format.

Coordinates are measured from the photo's edge, x right, y down: the center of the top left pixel is (0.5, 0.5).
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from input_pipeline.body import COCO_JOINTS
from input_pipeline.checks import LARGEST_NUMBER, is_number

BOX_MARGIN = 0.25
"""Growth of a box around keypoints on every side, as a fraction of its larger side: joints lie inside the body."""

CROWD = "a crowd, not one person"
"""Why an annotation with `iscrowd` is left out."""

_NUMBERS = frozenset({int, float})


@dataclasses.dataclass(slots=True)
class AnnotatedPerson:
  """One annotated person (face, hand, animal) in a photo.

  Attributes:
    photo: path of the photo below the data set's root.
    id: identifier of the person within its photo.
    box: x1, y1, x2, y2 in pixels of the photo; may reach beyond the photo.
    facts: JSON-able, as annotations() returns them, in pixels of the photo; `keypoints` and each list in
      `more_keypoints` are [[x, y, v], ...], `boxes` holds further boxes [x, y, width, height].
    photo_facts: facts of the whole photo, e.g. {"camera": 2}.
    mask: reference of the person's mask, see masks.py; None if unknown.
    size: (width, height) of the photo that the annotation was made for; None if unspecified.
    upright: the coordinates are in the photo with its orientation applied, not in its stored pixels.
    ignored: why this is not one person that counts, e.g. a crowd; "" if it is one.
  """

  photo: str
  id: str
  box: tuple[float, float, float, float]
  facts: dict
  photo_facts: dict = dataclasses.field(default_factory=dict)
  mask: dict | None = None
  size: tuple[int, int] | None = None
  upright: bool = False
  ignored: str = ""

  def as_facts(self, legend: Mapping) -> dict:
    """Returns the facts of the person with its box, and `box_from` if the box was made from the keypoints.

    `joints` is included only if `legend` names several joint lists.
    """
    x1, y1, x2, y2 = self.box
    several = isinstance(legend.get("joints"), dict)
    facts = {key: value for key, value in self.facts.items() if several or key != "joints"}
    made = {"box_from": "keypoints"} if self.box == box_around(facts.get("keypoints") or ()) else {}
    return facts | {"box": [round(number, 3) for number in (x1, y1, x2 - x1, y2 - y1)]} | made


@dataclasses.dataclass(slots=True)
class Annotations:
  """All annotations of a data set.

  Attributes:
    persons: in the order of the annotations.
    photos: photo -> its facts, for every annotated photo, also if it has no person.
    left_out: (name, reason) of every annotation that is not a usable person.
    joints: name of a joint list -> its joints; a person's `joints` names the list of its keypoints.
    read_from: files, and folders of files, that were read besides those that the user gave.
    tracks: video and track -> identity of the person, a number from 0.
    legend: the meaning of further numbers in facts, e.g. {"attributes": names}.
    categories: "persons" and "others" -> name of a category -> number of its annotations, see
      `ImageSource.categories`.
  """

  persons: list[AnnotatedPerson] = dataclasses.field(default_factory=list)
  photos: dict[str, dict] = dataclasses.field(default_factory=dict)
  left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)
  joints: dict[str, list[str]] = dataclasses.field(default_factory=dict)
  read_from: set[str] = dataclasses.field(default_factory=set)
  tracks: dict[str, int] = dataclasses.field(default_factory=dict)
  legend: dict = dataclasses.field(default_factory=dict)
  categories: dict[str, collections.Counter] = dataclasses.field(
    default_factory=lambda: {"persons": collections.Counter(), "others": collections.Counter()}
  )

  def count_category(self, name: str, is_person: bool) -> None:
    """Counts an annotation of a category that is read as a person, or is not."""
    self.categories["persons" if is_person else "others"][name] += 1

  def counted_categories(self) -> dict[str, dict[str, int]]:
    """Returns `categories` as JSON, the most frequent first; {} if the data set names none."""
    counts = {
      kind: dict(sorted(names.items(), key=lambda item: (-item[1], item[0]))) for kind, names in self.categories.items()
    }
    return counts if any(counts.values()) else {}

  def joint_list(self, of: str, names: Sequence[str], count: int) -> str:
    """Returns the name of the joint list for `count` keypoints, which is declared at its first use.

    Args:
      of: the annotated thing, e.g. a category.
      names: the names that the data set gives. If their number is not `count`, the first ones are used if they are
        COCO's, as HumanArt lists 21 names for 17 joints; otherwise none is used.
      count: number of keypoints of the annotation.
    """
    first = list(names)[:count]
    known = len(names) == count or tuple(map(plain_joint, first)) == COCO_JOINTS
    joints = first if known else [f"joint_{k}" for k in range(count)]
    name = of if self.joints.setdefault(of, joints) == joints else f"{of}_{count}"
    self.joints.setdefault(name, joints)
    return name

  def make_ids_unique(self) -> None:
    """Appends a number to ids that repeat within a photo, from the second on."""
    seen = collections.Counter()
    for person in self.persons:
      person.id = person.id.encode("utf-8", "replace").decode()
      seen[person.photo, person.id] += 1
      if seen[person.photo, person.id] > 1:
        person.id = f"{person.id}({seen[person.photo, person.id]})"

  def joint_legend(self, persons: Iterable[AnnotatedPerson]) -> dict:
    """Returns {"joints": names} for these persons: one list, or list name -> names if they use several."""
    used = {
      name for person in persons for name in (person.facts.get("joints"), *person.facts.get("more_keypoints", ()))
    }
    joints = {name: names for name, names in self.joints.items() if name in used}
    return {"joints": joints if len(joints) > 1 else [*joints.values()][0]} if joints else {}


def plain_joint(name) -> str:
  """Returns the name of a joint in COCO's form: left_shoulder for "Left shoulder"."""
  return str(name).strip().lower().replace(" ", "_").replace("-", "_")


def numbers(value, count: int | None = None) -> list[float] | None:
  """Returns `value` if it is a flat list of finite numbers, of length `count` if given; otherwise None."""
  if not isinstance(value, (list, tuple)) or count not in (None, len(value)) or not _are_numbers(value):
    return None
  return list(value)


def _are_numbers(values: Sequence) -> bool:
  """Returns whether `is_number` holds for all; faster, as there are millions of them."""
  for value in values:
    if type(value) not in _NUMBERS or not abs(value) <= LARGEST_NUMBER:
      return False
  return True


def keypoints_of(points: Sequence[Sequence], shift: float) -> list[list]:
  """Converts keypoints to the frame of this module.

  Args:
    points: (x, y, v) each; unknown if not finite or if v <= 0.
    shift: pixels to add: +0.5 if the format counts pixels from 0, -0.5 if from 1.

  Returns:
    [[x, y, v], ...]; v is 1 or 2, and unknown keypoints are [0, 0, 0].
  """
  return [
    [round(x + shift, 3), round(y + shift, 3), 1 if v < 1.5 else 2]
    if _are_numbers((x, y, v)) and v > 0
    else [0.0, 0.0, 0]
    for x, y, v in points
  ]


def box_around(keypoints: Sequence[Sequence[float]]) -> tuple[float, float, float, float] | None:
  """Returns a box around the known keypoints with `BOX_MARGIN`; None if fewer than two different ones are known."""
  known = [(x, y) for x, y, v in keypoints if v > 0]
  if len(set(known)) < 2:
    return None
  (x1, y1), (x2, y2) = (tuple(map(choose, zip(*known))) for choose in (min, max))
  margin = BOX_MARGIN * max(x2 - x1, y2 - y1)
  return x1 - margin, y1 - margin, x2 + margin, y2 + margin


def plain_facts(values: dict, without: frozenset[str]) -> dict:
  """Returns the members of a JSON object that are numbers, strings or bools, except those in `without`."""
  return {
    key: value
    for key, value in values.items()
    if key not in without and (isinstance(value, (str, bool)) or is_number(value))
  }
