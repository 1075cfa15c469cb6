"""Which categories of annotations are persons, and how many annotations have which."""

import re
from collections.abc import Mapping

from input_pipeline.sources.annotated.person import Annotated

_PERSONS = frozenset({"person", "persons", "people", "pedestrian", "pedestrians", "human", "humans"})
_WHOLE = re.compile(r"(-?\d+)\.0+")
_MOST_NAMED = 10


def is_person(name) -> bool:
  """Whether the name of a category or class stands for persons."""
  return str(name).strip().casefold() in _PERSONS


def key_of(identifier) -> str:
  """What tells images and categories apart: 1, 1.0 (as pandas writes it) and "1" are the same."""
  if isinstance(identifier, float) and identifier.is_integer():
    return str(int(identifier))
  text = str(identifier).strip()
  return whole[1] if (whole := _WHOLE.fullmatch(text)) else text


class Categories:
  """The categories of a JSON in COCO's form.

  Where some are called person (people, pedestrian, human), these are the persons. Else all are: faces, hands, animals.

  Args:
    content: the parsed file; `categories` may be missing or of another form.
  """

  def __init__(self, content: dict):
    listed = content.get("categories")
    if isinstance(listed, dict):  # {"1": "person"}
      listed = [{"id": key, **(c if isinstance(c, dict) else {"name": c})} for key, c in listed.items()]
    valid = [c for c in listed if isinstance(c, dict)] if isinstance(listed, list) else []
    self._all = {key_of(category.get("id")): category for category in valid}
    self.persons = {key: c for key, c in self._all.items() if is_person(c.get("name"))} or self._all
    """Id, as `key_of` makes it -> category, of those that are persons."""

  def find(self, identifier, annotated: Annotated) -> tuple[dict | None, str]:
    """The category of an annotation, which is counted.

    Args:
      identifier: its `category_id`; None: it has none.
      annotated: counts the annotations of each category.

    Returns:
      (category, "") of a person, {} where nothing names a category; (None, "") of anything else; (None, reason) of a
      category that the file does not list.
    """
    if not self._all:
      return {}, ""
    if identifier is None:
      annotated.count_category("no category", True)
      return {}, ""
    category = self._all.get(key_of(identifier))
    if category is None:
      return None, f"it is of category {identifier!r}, which the file does not list"
    taken = key_of(identifier) in self.persons
    annotated.count_category(str(category.get("name") or f"category {identifier}"), taken)
    return (category, "") if taken else (None, "")


def categories_text(categories: Mapping[str, Mapping[str, int]]) -> list[str]:
  """Sentences on what was taken for persons. Args: categories: as of `ImageSource.categories`; {}: nothing to say."""
  persons, others = categories.get("persons", {}), categories.get("others", {})
  sentences = []
  if persons:
    chosen = (
      "Taken for persons"
      if any(map(is_person, persons))
      else ("No category is called person, so all are taken for persons")
    )
    sentences.append(f"{chosen}: annotations of {_named(persons)}.")
  if others:
    sentences.append(f"Not taken: annotations of {_named(others)}.")
  return sentences


def _named(counts: Mapping[str, int]) -> str:
  first = [f"{name!r} ({count:,})" for name, count in list(counts.items())[:_MOST_NAMED]]
  more = len(counts) - _MOST_NAMED
  return ", ".join(first) + (f" and {more} more ({sum(list(counts.values())[_MOST_NAMED:]):,})" if more > 0 else "")
