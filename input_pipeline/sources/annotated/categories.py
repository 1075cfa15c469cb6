"""Which categories of annotations are persons, and how many annotations each category has."""

import re
from collections.abc import Mapping

from input_pipeline.sources.annotated.person import Annotations

_PERSONS = frozenset({"person", "persons", "people", "pedestrian", "pedestrians", "human", "humans"})
_WHOLE = re.compile(r"(-?\d+)\.0+")
_MOST_NAMED = 10


def is_person(name) -> bool:
  """Returns whether the name of a category or class means persons."""
  return str(name).strip().casefold() in _PERSONS


def key_of(identifier) -> str:
  """Returns the key that identifies an image or category: 1, 1.0 (as pandas writes it) and "1" have the same key."""
  if isinstance(identifier, float) and identifier.is_integer():
    return str(int(identifier))
  text = str(identifier).strip()
  return whole[1] if (whole := _WHOLE.fullmatch(text)) else text


class Categories:
  """The categories of a JSON in COCO format.

  Categories named person (people, pedestrian, human) are the persons. If there are none, all categories are: faces,
  hands, animals.

  Args:
    content: the parsed file; `categories` may be missing or malformed.
  """

  def __init__(self, content: dict):
    listed = content.get("categories")
    if isinstance(listed, dict):  # {"1": "person"}
      listed = [{"id": key, **(c if isinstance(c, dict) else {"name": c})} for key, c in listed.items()]
    valid = [c for c in listed if isinstance(c, dict)] if isinstance(listed, list) else []
    self._all = {key_of(category.get("id")): category for category in valid}
    self.persons = {key: c for key, c in self._all.items() if is_person(c.get("name"))} or self._all
    """`key_of` of the id -> category, for the categories that are persons."""

  def find(self, identifier, annotated: Annotations) -> tuple[dict | None, str]:
    """Returns the category of an annotation and counts the annotation.

    Args:
      identifier: its `category_id`; None if it has none.
      annotated: counts the annotations of each category.

    Returns:
      (category, "") for a person, with {} as category if the file or the annotation names none; (None, "") for
      anything else; (None, reason) for a category that the file does not list.
    """
    if not self._all:
      return {}, ""
    if identifier is None:
      annotated.count_category("no category", True)
      return {}, ""
    category = self._all.get(key_of(identifier))
    if category is None:
      return None, f"it is of category {identifier!r}, which the file does not list"
    is_read = key_of(identifier) in self.persons
    annotated.count_category(str(category.get("name") or f"category {identifier}"), is_read)
    return (category, "") if is_read else (None, "")


def categories_text(categories: Mapping[str, Mapping[str, int]]) -> list[str]:
  """Returns sentences on which categories are read as persons.

  Args:
    categories: `ImageSource.categories`; {} gives no sentence.
  """
  persons, others = categories.get("persons", {}), categories.get("others", {})
  sentences = []
  if persons:
    chosen = (
      "Read as persons" if any(map(is_person, persons)) else "No category is called person, so all are read as persons"
    )
    sentences.append(f"{chosen}: annotations of {_named(persons)}.")
  if others:
    sentences.append(f"Not read: annotations of {_named(others)}.")
  return sentences


def _named(counts: Mapping[str, int]) -> str:
  first = [f"{name!r} ({count:,})" for name, count in list(counts.items())[:_MOST_NAMED]]
  more = len(counts) - _MOST_NAMED
  return ", ".join(first) + (f" and {more} more ({sum(list(counts.values())[_MOST_NAMED:]):,})" if more > 0 else "")
