"""What every reader of annotations makes: persons, in one frame of pixels whatever the format counts from.

Coordinates are measured from the picture's edge, x right, y down: the center of the top left pixel is (0.5, 0.5).
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from input_pipeline.body import COCO_JOINTS
from input_pipeline.checks import LARGEST_NUMBER, is_number

BOX_MARGIN = 0.25
"""What a box around keypoints is grown by on every side, as a fraction of its larger side: joints lie inside a body."""

_NUMBERS = frozenset({int, float})


@dataclasses.dataclass(slots=True)
class Person:
  """One annotated person (face, hand, animal) in a photo.

  Attributes:
    photo: path of the photo below the data set's root.
    id: what names the person within its photo.
    box: x1, y1, x2, y2 in pixels of the photo; it may reach beyond the picture.
    facts: JSON-able, as annotations() gives them, in pixels of the photo; `keypoints` and each list in
      `more_keypoints` are [[x, y, v], ...], `boxes` holds further boxes [x, y, width, height].
    photo_facts: what is known of the photo as a whole, e.g. {"camera": 2}.
    mask: where the person's pixels are, one of the references that masks.py reads; None: not known.
    size: (width, height) of the photo for which the annotation was made; None: not said.
    upright: the coordinates count in the photo after its orientation is applied, not in its stored pixels.
    ignored: why this is no single person to count, e.g. a crowd; "": it is one.
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
    """The facts of the person with its box, and `box_from` where that was made from the keypoints.

    `joints` only where `legend` names several lists of them.
    """
    x1, y1, x2, y2 = self.box
    several = isinstance(legend.get("joints"), dict)
    facts = {key: value for key, value in self.facts.items() if several or key != "joints"}
    made = {"box_from": "keypoints"} if self.box == box_around(facts.get("keypoints") or ()) else {}
    return facts | {"box": [round(number, 3) for number in (x1, y1, x2 - x1, y2 - y1)]} | made


@dataclasses.dataclass(slots=True)
class Annotated:
  """All that the annotations of a data set say.

  Attributes:
    persons: in the order of the annotations.
    photos: photo -> its facts, of every photo that was looked through for persons, also where none was found.
    left_out: (name, reason) of what is no usable person.
    joints: name of a joint list -> its joints; a person's `joints` names the list of its keypoints.
    read_from: files and folders of files that were read besides those that the user named.
    tracks: video and track -> the person's identity, a number from 0.
    legend: what else the numbers in facts mean, e.g. {"attributes": names}.
    categories: "persons" and "others" -> name of a category -> its annotations, see `ImageSource.categories`.
  """

  persons: list[Person] = dataclasses.field(default_factory=list)
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
    """Counts an annotation of a category, which is taken for a person or not."""
    self.categories["persons" if is_person else "others"][name] += 1

  def counted_categories(self) -> dict[str, dict[str, int]]:
    """`categories` as JSON, the commonest first; {}: the data set names none."""
    counts = {
      kind: dict(sorted(names.items(), key=lambda item: (-item[1], item[0]))) for kind, names in self.categories.items()
    }
    return counts if any(counts.values()) else {}

  def joint_list(self, of: str, names: Sequence[str], count: int) -> str:
    """The name of the joint list for `count` keypoints of a kind of thing, declared at its first use.

    Args:
      of: what the keypoints are of, e.g. a category.
      names: the joints as the data set names them. Where they are not `count`, the first ones if these are COCO's, as
        HumanArt lists 21 names for 17 joints; else none.
      count: number of keypoints that an annotation really has.
    """
    first = list(names)[:count]
    known = len(names) == count or tuple(map(plain_joint, first)) == COCO_JOINTS
    joints = first if known else [f"joint_{k}" for k in range(count)]
    name = of if self.joints.setdefault(of, joints) == joints else f"{of}_{count}"
    self.joints.setdefault(name, joints)
    return name

  def make_ids_unique(self) -> None:
    """Gives the persons of one photo that have the same id a number behind it, from the second on."""
    seen = collections.Counter()
    for person in self.persons:
      person.id = person.id.encode("utf-8", "replace").decode()
      seen[person.photo, person.id] += 1
      if seen[person.photo, person.id] > 1:
        person.id = f"{person.id}({seen[person.photo, person.id]})"

  def joint_legend(self, persons: Iterable[Person]) -> dict:
    """{"joints": their names} for these persons: one list, or list name -> names where they have several."""
    used = {
      name for person in persons for name in (person.facts.get("joints"), *person.facts.get("more_keypoints", ()))
    }
    joints = {name: names for name, names in self.joints.items() if name in used}
    return {"joints": joints if len(joints) > 1 else [*joints.values()][0]} if joints else {}


def plain_joint(name) -> str:
  """The name of a joint in the form of COCO's: left_shoulder for "Left shoulder"."""
  return str(name).strip().lower().replace(" ", "_").replace("-", "_")


def numbers(value, count: int | None = None) -> list[float] | None:
  """A flat list of finite numbers, of length `count` if given; None: it is something else."""
  if not isinstance(value, (list, tuple)) or count not in (None, len(value)) or not _are_numbers(value):
    return None
  return list(value)


def _are_numbers(values: Sequence) -> bool:
  """As `is_number` of each, at the speed that millions of them take."""
  for value in values:
    if type(value) not in _NUMBERS or not abs(value) <= LARGEST_NUMBER:
      return False
  return True


def keypoints_of(points: Sequence[Sequence], shift: float) -> list[list]:
  """Keypoints in our frame.

  Args:
    points: (x, y, v) each; what is not finite or has v at or below 0 is unknown.
    shift: pixels to add: +0.5 where the format gives the pixels' numbers from 0, -0.5 where from 1.

  Returns:
    [[x, y, v], ...]; unknown ones are [0, 0, 0], v is 1 or 2 else.
  """
  return [
    [round(x + shift, 3), round(y + shift, 3), 1 if v < 1.5 else 2]
    if _are_numbers((x, y, v)) and v > 0
    else [0.0, 0.0, 0]
    for x, y, v in points
  ]


def box_around(keypoints: Sequence[Sequence[float]]) -> tuple[float, float, float, float] | None:
  """A box around the known keypoints with `BOX_MARGIN`; None: fewer than two different ones are known."""
  known = [(x, y) for x, y, v in keypoints if v > 0]
  if len(set(known)) < 2:
    return None
  (x1, y1), (x2, y2) = (tuple(map(choose, zip(*known))) for choose in (min, max))
  margin = BOX_MARGIN * max(x2 - x1, y2 - y1)
  return x1 - margin, y1 - margin, x2 + margin, y2 + margin


def plain_facts(values: dict, without: frozenset[str]) -> dict:
  """The numbers, words and truth values among the members of a JSON object, so far as they can be kept as they are."""
  return {
    key: value
    for key, value in values.items()
    if key not in without and (isinstance(value, (str, bool)) or is_number(value))
  }
