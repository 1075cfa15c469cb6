"""What is known of a person, in the pixels of another picture: one cut out of the first, or a smaller one."""

_DECIMALS = 4  # so few that they mean something, so many that a keypoint stays where it is


def moved_person(
  person: dict,
  scale_xy: tuple[float, float] = (1.0, 1.0),
  shift_xy: tuple[float, float] = (0.0, 0.0),
  size: tuple[int, int] | None = None,
) -> dict:
  """A person's facts, as in records.py, for a picture in which x becomes x * scale + shift.

  Args:
    person: facts; `keypoints`, `more_keypoints` (name -> keypoints), `box`, `box_full`, `box_visible` and `boxes`
      (name -> box) are in pixels, `area` in square ones, all others stay as they are.
    scale_xy: new size / old size.
    shift_xy: added after that, pixels.
    size: width and height of the new picture, outside of which a keypoint is unknown; None: none is.

  Returns:
    The facts for the new picture.
  """
  (scale_x, scale_y), (shift_x, shift_y) = scale_xy, shift_xy
  point = lambda x, y: (round(x * scale_x + shift_x, _DECIMALS), round(y * scale_y + shift_y, _DECIMALS))

  def keypoints(values):
    moved = []
    for x, y, v in values:
      x, y = point(x, y)
      inside = size is None or v and 0 <= x <= size[0] and 0 <= y <= size[1]
      moved.append([x, y, v] if inside else [0.0, 0.0, 0])
    return moved

  def box(value):
    return [*point(*value[:2]), round(value[2] * scale_x, _DECIMALS), round(value[3] * scale_y, _DECIMALS)]

  def area(value):  # data sets call other things so too
    return round(value * scale_x * scale_y, _DECIMALS) if type(value) in (int, float) else value

  each = lambda move: lambda values: {name: move(value) for name, value in values.items()}
  moves = {
    "keypoints": keypoints,
    "more_keypoints": each(keypoints),
    "box": box,
    "box_full": box,
    "box_visible": box,
    "boxes": each(box),
    "area": area,
  }
  return {key: moves[key](value) if key in moves else value for key, value in person.items()}


def keypoints_lost(person: dict, moved: dict) -> dict:
  """The known keypoints of a person that are unknown in a smaller picture, as they lie outside.

  Args:
    person: facts, with `keypoints` and `more_keypoints` where there are any.
    moved: `moved_person` of them.

  Returns:
    `keypoints` and `more_keypoints` with those alone, in the pixels of `person`, all others [0, 0, 0]; lists without
    any are left out.
  """

  def lost(values, kept):
    return [[*value] if value[2] > 0 and not inside[2] else [0.0, 0.0, 0] for value, inside in zip(values, kept)]

  known = lambda values: any(v for _, _, v in values)
  own = lost(person.get("keypoints") or (), moved.get("keypoints") or ())
  further = {
    name: lost(values, moved["more_keypoints"][name]) for name, values in person.get("more_keypoints", {}).items()
  }
  further = {name: values for name, values in further.items() if known(values)}
  return ({"keypoints": own} if known(own) else {}) | ({"more_keypoints": further} if further else {})
