"""Opens annotated photos as a CropSource: lists the usable persons in an index."""

import collections
import hashlib
import json
import os
from collections.abc import Callable, Sequence

import numpy as np

from input_pipeline.checks import is_number
from input_pipeline.source import bounded
from input_pipeline.sources.annotated.categories import categories_text
from input_pipeline.sources.annotated.crop_source import CropSource
from input_pipeline.sources.annotated.labeled_images import LabeledSource, open_labeled
from input_pipeline.sources.annotated.person import CROWD, AnnotatedPerson, Annotations
from input_pipeline.sources.annotated.photos import NO_PHOTO, Photos, frame_of, list_header, stamps, still_holds
from input_pipeline.sources.annotated.whole_photos import labels_of_photos
from input_pipeline.sources.index import cached_index

DEFAULT_MARGIN = 0.1
"""Growth of a box on every side, as a fraction of its larger side."""

DEFAULT_MIN_SIDE = 16
"""Pixels; a person is left out if the shorter side of its box, inside the photo, is smaller."""

# The folder above a data set is searched only if it holds at most this many files.
_MAX_FILES_ABOVE = 1_000_000

# The facts that keypoint AP needs of a person without a crop.
_AP_FACTS = ("box", "area", "num_keypoints", "joints", "keypoints", "more_keypoints")

_as_json = json.JSONEncoder(separators=(",", ":")).encode  # one encoder, as millions of facts are written


def open_crops(
  kind: str,
  path: str,
  root: str,
  files: Sequence[str],
  read: Callable[[Photos], Annotations],
  *,
  cache_dir: str,
  setting: str,
  margin: float,
  min_side: int,
  whole: bool,
  split: str | None = None,
  search_above: bool = False,
) -> CropSource | LabeledSource:
  """Opens the persons of a data set, listed in an index that is reused while its files are unchanged.

  Args:
    kind: kind of source, e.g. "coco".
    path: the path that the user gave; its base name becomes the name of the data set.
    root: folder or URL of the photos.
    files: the annotation files; the index is rebuilt if one of them changes, or a folder of photos (except in a
      bucket, where folders have no times).
    read: returns the annotations, given the photos; called only if the index must be built.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.
    margin: growth of a box on every side, as a fraction of its larger side; 0 or more.
    min_side: pixels; a person is left out if the shorter side of its box, inside the photo, is smaller.
    whole: whole photos with all persons, instead of crops (see whole_photos.py); no person is too small then.
    split: the split that `files` and `read` belong to.
    search_above: if no photo is found below `root`, search the folder above it: annotations are often stored in a
      folder beside the photos of another data set.

  Raises:
    ValueError: no usable person, or options out of range.
  """
  if not is_number(margin) or margin < 0:
    raise ValueError(f"margin={margin!r}: expected a fraction of the box's larger side, 0 or more (--margin)")
  if not is_number(min_side) or min_side < 0:
    raise ValueError(f"min_side={min_side!r}: expected pixels, 0 or more (--min-side)")

  if whole:
    return open_labeled(
      kind,
      path,
      root,
      files,
      lambda: labels_of_photos(*_read(root, read, search_above)),
      cache_dir=cache_dir,
      setting=setting,
      protocol={"photos": "whole"} | ({"split": split} if split else {}),
    )

  def build() -> tuple[dict, dict, dict]:
    try:
      seen = stamps(files)
      photos, annotated = _read(root, read, search_above)
      seen |= stamps(annotated.read_from)
    except OSError as error:
      raise ValueError(f"{setting}={path} cannot be read: {error}") from error
    rows, not_cut_out = _rows(photos, annotated, min_side)
    left_out = annotated.left_out
    if not rows:
      raise ValueError(
        f"{setting}={path} has no usable person: {len(photos):,} photos in {root}, "
        f"{len(left_out):,} annotations left out{_reasons(left_out)}"
        + "".join(f"; {sentence}" for sentence in categories_text(annotated.counted_categories()))
      )
    header = list_header(photos, seen) | {
      "left_out": bounded(left_out),
      "legend": annotated.legend,
      "categories": annotated.counted_categories(),
    }
    return _columns(rows, not_cut_out, header, annotated)

  index = cached_index(
    cache_dir,
    kind,
    f"{path} split={split} min_side={min_side} root={root}",
    lambda header: still_holds(header, files, root),
    build,
  )
  return CropSource(index, {"source": kind, "name": os.path.basename(path)}, float(margin))


def _read(root: str, read: Callable[[Photos], Annotations], search_above: bool) -> tuple[Photos, Annotations]:
  """Returns the photos and their annotations."""
  photos = Photos(root)
  annotated = read(photos)
  if search_above and not annotated.persons and any(reason == NO_PHOTO for _, reason in annotated.left_out):
    photos, annotated = _found_above(root, read) or (photos, annotated)
  annotated.make_ids_unique()
  return photos, annotated


def _found_above(root: str, read: Callable[[Photos], Annotations]) -> tuple[Photos, Annotations] | None:
  """Returns the photos of the folder above `root` and their annotations; None if it has no persons or is unreadable."""
  above = root.rpartition("/")[0]
  if not above or above.endswith(("/", ":")):
    return None
  try:
    photos = Photos(above, _MAX_FILES_ABOVE)
  except OSError:
    return None
  annotated = read(photos)
  return (photos, annotated) if annotated.persons else None


def _rows(
  photos: Photos, annotated: Annotations, min_side: int
) -> tuple[list[tuple], list[tuple[AnnotatedPerson, str]]]:
  """Returns (person, (height, width), box clipped to the photo) of the usable persons, sorted by photo, and
  (person, reason) of the unusable persons in usable photos; adds all unusable persons to left_out."""
  photos.measure(person.photo for person in annotated.persons)
  bytes_of = {photo: os.fsencode(photo) for photo in {person.photo for person in annotated.persons}}
  persons, rows, not_cut_out = sorted(annotated.persons, key=lambda person: bytes_of[person.photo]), [], []
  frames = [frame_of(photos.header(person.photo), person.size, person.upright) for person in persons]
  corners = np.array([person.box for person in persons], np.float32).reshape(-1, 4)  # as in the index
  inside = np.clip(corners, 0, [(size or (0, 0)) * 2 for size, *_ in frames] or np.zeros((0, 4)))
  sides = (inside[:, 2:] - inside[:, :2]).min(1)
  for person, (size, upright, reason), box, side in zip(persons, frames, inside.tolist(), sides.tolist()):
    person.upright, reason = upright, reason or person.ignored
    if not reason:
      if person.box[2] <= person.box[0] or person.box[3] <= person.box[1]:
        reason = "its box has no area"
      elif side <= 0:
        reason = "its box lies outside the photo"
      elif side < min_side:
        reason = f"too small: the shorter side of its box has less than {min_side} pixels"
    if reason:
      annotated.left_out.append((f"{person.photo}#{person.id}", reason))
      not_cut_out += [(person, reason)] * (size is not None)
    else:
      rows.append((person, size[::-1], box))
  return rows, not_cut_out


def _columns(
  rows: Sequence[tuple], not_cut_out: Sequence[tuple[AnnotatedPerson, str]], header: dict, annotated: Annotations
) -> tuple[dict, dict, dict]:
  """Returns header, texts and columns of the index."""
  people = [person for person, _, _ in rows]
  header["legend"] |= (named := annotated.joint_legend(people))
  others = collections.defaultdict(list)
  for person, reason in not_cut_out:
    others[person.photo].append(_ap_facts(person.as_facts(named)) | {"reason": reason, "crowd": reason == CROWD})
  beside = {photo: {"not_cut_out": persons} for photo, persons in others.items()}
  photos = {photo: os.fsencode(photo) for photo in {person.photo for person in people}}
  texts = {
    "name": [b"%s#%s" % (photos[person.photo], person.id.encode()) for person in people],
    "photo": [photos[person.photo] for person in people],
    "facts": [
      _as_json(person.photo_facts | beside.get(person.photo, {}) | {"person": person.as_facts(named)}).encode()
      for person in people
    ],
    "mask": [_as_json(person.mask).encode() if person.mask else b"" for person in people],
  }
  columns = {
    "box": np.array([box for _, _, box in rows], np.float32),
    "photo_hw": np.array([hw for _, hw, _ in rows], np.int32),
    "upright": np.array([person.upright for person in people], bool),
  }
  digest = hashlib.sha256()
  for data in (*texts["name"], columns["box"].tobytes(), columns["photo_hw"].tobytes(), columns["upright"].tobytes()):
    digest.update(b"%d " % len(data) + data)
  return header | {"digest": digest.hexdigest()[:16]}, texts, columns


def _ap_facts(facts: dict) -> dict:
  """Returns the facts that keypoint AP needs, without keypoints if none is known."""
  known = any(v > 0 for _, _, v in facts.get("keypoints") or ())
  return {key: facts[key] for key in _AP_FACTS if key in facts and (key not in ("joints", "keypoints") or known)}


def _reasons(left_out: Sequence[tuple[str, str]]) -> str:
  """Returns the three most frequent reasons with their counts."""
  counts = collections.Counter(reason for _, reason in left_out).most_common(3)
  return "".join(f"; {count:,}: {reason}" for reason, count in counts)
