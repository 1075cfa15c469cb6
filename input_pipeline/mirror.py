"""Names of joints and classes that change sides in the mirror image."""

from collections.abc import Sequence

from input_pipeline.body import MIRRORED_FACE


def flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
  """Returns the places of names that change sides in the mirror image, as of ("left_eye", "right_eye"): ((0, 1),).

  They differ in left and right alone; those of the face in COCO-WholeBody have numbers.
  """
  places = {name.lower(): place for place, name in enumerate(names)}
  other = lambda name: MIRRORED_FACE.get(name, name.replace("left", "right"))
  return tuple(
    (place, places[other(name)]) for name, place in places.items() if other(name) != name and other(name) in places
  )
