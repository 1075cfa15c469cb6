"""Members of tar and zip archives: their positions, the names that are accepted, and how they form samples."""

import collections
import json
import posixpath
import re
from typing import NamedTuple

from input_pipeline import storage
from input_pipeline.sources.containers.folder import EXTENSIONS

TAR = -1
"""The `method` of members of a tar, which are stored as they are; members of a zip have zip's method numbers."""

MAX_IMAGE = 256 << 20
"""Bytes; larger images are left out, as a few bytes of a zip may claim any size."""
_MAX_ANNOTATION = 64 << 20

# Among several image files of one sample with equally short extensions, the first of these is the image.
_PREFERENCE = ["jpg", "jpeg", "png", "webp", "bmp", "ppm"]

# Label planes of an image (see records.py), which are not images themselves.
_LABELS = frozenset({"depth.png", "instances.png", "parts.png"})

# A sample has fewer image files: a larger group comes from names with dots, not from WebDataset's rule.
_MAX_SAMPLE_IMAGES = 16

_TEXTS = frozenset({"txt", "text", "caption", "transcript", "cls", "cls2", "id", "index", "inx"})
_PICKLES = frozenset({"pyd", "pickle", "pkl", "pyc", "pt", "pth"})


class Member(NamedTuple):
  """The position of a member in its archive, in bytes."""

  start: int
  """Where to read: the contents in a tar, the member's header in a zip."""
  span: int
  """Number of bytes to read there."""
  stored: int
  """Size of the stored, perhaps compressed contents."""
  method: int
  """How the contents are stored: `TAR` or zip's method number."""
  size: int
  """Size of the contents."""


class Contents:
  """The members of one archive, each name once, in the order of the file.

  Attributes:
    members: name -> position, of the usable files.
    left_out: (name, reason) of the others.
  """

  def __init__(self):
    self.members: dict[str, Member] = {}
    self.left_out: list[tuple[str, str]] = []

  def add(self, name: str, member: Member) -> None:
    """Adds a member, or leaves it out because of its name; the last of equal names counts, as after extraction."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name or re.match("[A-Za-z]:", name):
      self.left_out.append((name, "refused: its name leads out of the archive"))
    elif parts and not any(part.startswith(".") for part in parts):  # hidden files, such as those of macOS
      name = "/".join(parts)
      if self.members.pop(name, None) is not None:
        self.left_out.append((name, "the archive has the same name again; the last one counts"))
      self.members[name] = member

  def add_folder(self, name: str) -> None:
    """Leaves out a folder that is named like an image; other folders are not listed."""
    if _is_image(name.rstrip("/")):
      self.left_out.append((name, "a folder that is named like an image"))


class ArchiveSample(NamedTuple):
  """An image and the other members of its sample."""

  name: str
  image: Member
  others: list[tuple[str, Member]]
  """(extension after the sample's name, e.g. "json" or "depth.png"; position) of the other members."""


def samples_of(contents: Contents, dotted: bool) -> tuple[list[ArchiveSample], collections.Counter, list[str]]:
  """Groups the members of an archive into samples; adds unusable members to `contents.left_out`.

  Args:
    contents: the members of the archive.
    dotted: True for WebDataset's rule: members with the same name up to the first dot are one sample with one image.
      False: members with the same name up to the last dot belong together, and each image file is an image.

  Returns:
    The samples in the order of the archive, the number of other members by extension, and the pickles.
  """
  groups: dict[str, list[tuple[str, str]]] = {}
  for name in contents.members:
    folder, base = posixpath.split(name)
    stem, dot, extension = base.partition(".") if dotted else base.rpartition(".")
    groups.setdefault(f"{folder}/{stem}", []).append((extension.lower() if dot else "", name))
  samples, found, pickles = [], collections.Counter(), []
  for group in groups.values():
    images = _images_of(group, dotted, contents)
    image_names, others = {name for _, name in images}, []
    for extension, name in group:
      kind = extension.rpartition(".")[2]
      if name in image_names:
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
        samples.append(ArchiveSample(name, contents.members[name], others))
  return samples, found, pickles


def _images_of(group: list[tuple[str, str]], dotted: bool, contents: Contents) -> list[tuple[str, str]]:
  """Returns (extension, name) of the members of a sample that are its images."""
  files = [item for item in group if _is_image("." + item[0])]
  images = [item for item in files if not (dotted and item[0] in _LABELS)]
  if files and not images:
    contents.left_out += [(name, "a label without its image") for _, name in files]
  if dotted and 1 < len(images) <= _MAX_SAMPLE_IMAGES:
    kind = lambda item: item[0].rpartition(".")[2].replace("jpeg", "jpg")
    first, *rest = sorted(
      images, key=lambda item: (item[0].count("."), len(item[0]), _PREFERENCE.index(kind(item)), item)
    )
    if "." in first[0]:  # only different formats tell the image from its labels
      contents.left_out += [
        (
          item[1],
          f"read as a label of {first[1]}: both are one sample by WebDataset's rule (the name up to its first dot)",
        )
        for item in rest
        if kind(item) == kind(first)
      ]
    images = [first]
  return images


def annotations_from(others: list[tuple[str, bytes]]) -> tuple[dict, dict[str, bytes]]:
  """Converts the other members of a sample to facts and files.

  Args:
    others: (extension, contents) of each.

  Returns:
    The facts: the members of the object in `json`, and other JSON and texts by their extension; the files by theirs.

  Raises:
    ValueError: invalid JSON.
  """
  facts, files = {}, {}
  for extension, data in others:
    kind = extension.rpartition(".")[2]
    if kind == "json":
      try:
        value = json.loads(storage.text_of(data), parse_constant=lambda _: None)  # NaN is not JSON
      except (ValueError, RecursionError) as error:
        raise ValueError(f"its {extension} is not JSON: {error}") from None
      facts |= value if extension == "json" and isinstance(value, dict) else {extension: value}
    elif kind in _TEXTS:
      facts[extension] = storage.text_of(data, "replace").strip()
    else:
      files[extension] = data
  return facts, files


def too_large(limit: int) -> str:
  """Returns the reason for leaving out a file of more than `limit` bytes."""
  return f"more than {limit >> 20} MiB, the limit for one of its kind"


def _is_image(name: str) -> bool:
  return posixpath.splitext("x" + name)[1].lower() in EXTENSIONS
