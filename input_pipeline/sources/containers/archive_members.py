"""What tar and zip have in common: where a member lies, which names may be used, which members make one sample."""

import collections
import json
import posixpath
import re
from typing import NamedTuple

from input_pipeline import storage
from input_pipeline.sources.containers.folder import EXTENSIONS

TAR = -1
"""The `method` of a tar's members, which are there as they are; those of zip's are zip's numbers."""

MAX_IMAGE = 256 << 20
"""Bytes; larger ones are left out: a few bytes of a zip may claim to be any number of them."""
_MAX_ANNOTATION = 64 << 20

# Of several pictures of one sample with equally plain names, a photo is more likely one of the first.
_PREFERENCE = ["jpg", "jpeg", "png", "webp", "bmp", "ppm"]

# What the record convention calls the labels of a picture: never pictures of their own.
_LABELS = frozenset({"depth.png", "instances.png", "parts.png"})

# No sample has so many pictures: these are names with dots in them, and no samples of WebDataset.
_MAX_PICTURES = 16

_TEXTS = frozenset({"txt", "text", "caption", "transcript", "cls", "cls2", "id", "index", "inx"})
_PICKLES = frozenset({"pyd", "pickle", "pkl", "pyc", "pt", "pth"})


class Member(NamedTuple):
  """Where a member lies in its archive, in bytes."""

  start: int
  """Where reading begins: at the contents in a tar, at the member's header in a zip."""
  span: int
  """How many bytes to read there."""
  stored: int
  """The size of the contents as they are stored."""
  method: int
  """How they are stored."""
  size: int
  """The size of the contents."""


class Contents:
  """The members of one archive, each name once, in the order of the file.

  Attributes:
    members: name -> place, of the regular files that may be used.
    left_out: (name, reason) of what may not.
  """

  def __init__(self):
    self.members: dict[str, Member] = {}
    self.left_out: list[tuple[str, str]] = []

  def add(self, name: str, member: Member) -> None:
    """Takes a member, or leaves it out for its name; of two with one name the last counts, as after extracting."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name or re.match("[A-Za-z]:", name):
      self.left_out.append((name, "refused: its name climbs out of the archive"))
    elif parts and not any(part.startswith(".") for part in parts):  # hidden: a Mac's copies of names and icons
      name = "/".join(parts)
      if self.members.pop(name, None) is not None:
        self.left_out.append((name, "the same name comes again in the archive; the last one counts"))
      self.members[name] = member

  def add_folder(self, name: str) -> None:
    """Notes a folder, which is worth a word only if it is named like an image."""
    if _is_image(name.rstrip("/")):
      self.left_out.append((name, "a folder that is named like an image"))


class Sample(NamedTuple):
  """An image and what lies beside it."""

  name: str
  image: Member
  others: list[tuple[str, Member]]
  """(what follows the sample's name, e.g. "json" or "depth.png"; place) of its other members."""


def samples_of(contents: Contents, dotted: bool) -> tuple[list[Sample], collections.Counter, list[str]]:
  """Puts members together to samples; what falls out on the way is added to `contents.left_out`.

  Args:
    contents: what an archive holds.
    dotted: members are one sample if their names agree up to the first dot and one picture is its image (the rule of
      WebDataset); else if they agree up to the last dot, and each picture is an image.

  Returns:
    The samples in the order of the archive, how many other members there are of each extension, and the pickles.
  """
  groups: dict[str, list[tuple[str, str]]] = {}
  for name in contents.members:
    folder, base = posixpath.split(name)
    stem, dot, extension = base.partition(".") if dotted else base.rpartition(".")
    groups.setdefault(f"{folder}/{stem}", []).append((extension.lower() if dot else "", name))
  samples, found, pickles = [], collections.Counter(), []
  for group in groups.values():
    images = _images_of(group, dotted, contents)
    taken, others = {name for _, name in images}, []
    for extension, name in group:
      kind = extension.rpartition(".")[2]
      if name in taken:
        continue
      found[kind] += 1
      if kind in _PICKLES:
        pickles.append(name)
      elif contents.members[name].size > _MAX_ANNOTATION:
        contents.left_out.append((name, too_large(_MAX_ANNOTATION)))
      elif extension:
        others.append((extension, contents.members[name]))
    for _, name in images:
      if contents.members[name].size > MAX_IMAGE:
        contents.left_out.append((name, too_large(MAX_IMAGE)))
      else:
        samples.append(Sample(name, contents.members[name], others))
  return samples, found, pickles


def _images_of(group: list[tuple[str, str]], dotted: bool, contents: Contents) -> list[tuple[str, str]]:
  """Those members of a sample that are images: (extension, name)."""
  pictures = [item for item in group if _is_image("." + item[0])]
  images = [item for item in pictures if not (dotted and item[0] in _LABELS)]
  if pictures and not images:
    contents.left_out += [(name, "a label without its picture") for _, name in pictures]
  if dotted and 1 < len(images) <= _MAX_PICTURES:
    kind = lambda item: item[0].rpartition(".")[2].replace("jpeg", "jpg")
    first, *rest = sorted(
      images, key=lambda item: (item[0].count("."), len(item[0]), _PREFERENCE.index(kind(item)), item)
    )
    if "." in first[0]:  # nothing says which is the picture and which its label, if their formats do not
      contents.left_out += [
        (
          item[1],
          f"taken as a label of {first[1]}: both are one sample by WebDataset's rule (the name up to its first dot)",
        )
        for item in rest
        if kind(item) == kind(first)
      ]
    images = [first]
  return images


def annotations_from(others: list[tuple[str, bytes]]) -> tuple[dict, dict[str, bytes]]:
  """What lies beside an image as facts and files.

  Args:
    others: (extension, contents).

  Returns:
    Facts: those of the object in `json`, other JSON and texts under their extension; files under theirs.

  Raises:
    ValueError: JSON that is none.
  """
  facts, files = {}, {}
  for extension, data in others:
    kind = extension.rpartition(".")[2]
    if kind == "json":
      try:
        value = json.loads(storage.text_of(data), parse_constant=lambda _: None)  # NaN is no JSON
      except (ValueError, RecursionError) as error:
        raise ValueError(f"its {extension} is no JSON: {error}") from None
      facts |= value if extension == "json" and isinstance(value, dict) else {extension: value}
    elif kind in _TEXTS:
      facts[extension] = storage.text_of(data, "replace").strip()
    else:
      files[extension] = data
  return facts, files


def too_large(limit: int) -> str:
  """The reason for leaving out what has more than `limit` bytes."""
  return f"more than {limit >> 20} MiB, the limit for one of its kind"


def _is_image(name: str) -> bool:
  return posixpath.splitext("x" + name)[1].lower() in EXTENSIONS
