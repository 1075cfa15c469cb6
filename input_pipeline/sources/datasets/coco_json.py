"""Reads the persons of a JSON with COCO's conventions."""

import os
from collections.abc import Iterable

from tqdm import tqdm

from input_pipeline.body import FURTHER_JOINTS
from input_pipeline.checks import is_number
from input_pipeline.sources.annotated.categories import Categories, key_of
from input_pipeline.sources.annotated.masks import coco_mask
from input_pipeline.sources.annotated.person import (
  CROWD,
  AnnotatedPerson,
  Annotations,
  box_around,
  keypoints_of,
  numbers,
  plain_facts,
)
from input_pipeline.sources.annotated.photos import Photos

PIXELS_PER_SCALE = 200
"""Side of a person's box in pixels for scale 1, in MPII and data sets with its conventions."""

# Members of an annotation that are read here, or that have no meaning outside its file.
_READ = frozenset(
  {"id", "image_id", "category_id", "bbox", "keypoints", "segmentation", "iscrowd", "scale", "width", "height"}
)
# Member of an image -> name of the fact.
_PHOTO_FACTS = {"camera": "camera", "time": "time", "group": "group", "crowdIndex": "crowd_index"}
_LISTS = ("attributes", "keypoints_3d", "joint_valid")


def read_coco_json(content: dict, photos: Photos, annotated: Annotations, hint: str) -> None:
  """Adds the persons of one JSON to `annotated`.

  Keypoints are pixel indices from 0 and boxes are measured from the photo's edge, as pycocotools reads them.
  `Categories` decides which categories are persons.

  Args:
    content: the parsed file, with lists `images` and `annotations`.
    photos: the photos of the data set.
    annotated: receives the persons, the annotations left out, and the joint lists.
    hint: path of the file below the photos' root, without its extension, for `Photos.find`.
  """
  images = found_images(content["images"], photos, annotated, hint)
  categories = Categories(content)
  attributes = [c["attributes"] for c in categories.persons.values() if isinstance(c.get("attributes"), list)]
  if attributes:
    annotated.legend["attributes"] = attributes[0]
  tracks, file = annotated.tracks, os.path.basename(hint)
  for position, annotation in enumerate(tqdm(content["annotations"], file, disable=None, leave=False)):
    name = f"annotation {position}"
    if not isinstance(annotation, dict):
      annotated.left_out.append((f"{file}: {name}", "it is not a JSON object"))
      continue
    name = key_of(annotation.get("id", f"n{position}"))
    category, reason = categories.find(annotation.get("category_id"), annotated)
    image = images.get(key_of(annotation.get("image_id")))
    if image is None and category is not None:
      reason = f"it is of image {annotation.get('image_id')!r}, which the file does not list"
    if reason:
      annotated.left_out.append((f"{file}: annotation {name}", reason))
    if reason or category is None:
      continue
    if image["photo"] is None:
      continue  # already left out with its image
    person, reason = _person(annotation, image, category, annotated, name)
    if reason:
      annotated.left_out.append((f"{image['photo']}#{name}", reason))
      continue
    track = annotation.get("track_id")
    if (isinstance(track, (int, str)) or is_number(track)) and "identity" not in person.facts:
      person.facts["identity"] = tracks.setdefault(f"{image['video']}/{key_of(track)}", len(tracks))
    annotated.persons.append(person)


def found_images(images: list, photos: Photos, annotated: Annotations, hint: str) -> dict[str, dict]:
  """Returns image id as text -> {photo: path or None, size, facts, video}; adds unusable images to left_out."""
  file = os.path.basename(hint)
  names = [name for image in images if isinstance(image, dict) and (name := _file_name(image))]
  photo_of = dict(zip(names, photos.find_all(names, hint)))
  found = {}
  for position, image in enumerate(images):
    if not isinstance(image, dict) or image.get("id") is None or not _file_name(image):
      annotated.left_out.append((f"{file}: image {position}", "it has no id or no file name"))
      continue
    key, name = key_of(image["id"]), _file_name(image)
    if key in found:
      annotated.left_out.append((f"{file}: {name}", f"its id {key} belongs to an earlier image"))
      continue
    photo, reason = photo_of[name]
    if reason:
      annotated.left_out.append((name, reason))
    width, height = image.get("width"), image.get("height")
    size = (int(width), int(height)) if is_number(width) and is_number(height) and width > 0 < height else None
    found[key] = {
      "photo": photo,
      "size": size,
      "video": image.get("vid_id", image.get("video_id", "")),
      "facts": {fact: image[key] for key, fact in _PHOTO_FACTS.items() if is_number(image.get(key))},
    }
    if photo is not None:
      annotated.photos[photo] = found[key]["facts"]
  return found


def _file_name(image: dict) -> str:
  """Returns the file name of an image; LVIS gives only a URL, which ends in the path in COCO."""
  name = image.get("file_name") or "/".join(str(image.get("coco_url") or "").split("/")[-2:])
  return name if isinstance(name, str) else ""


def _person(annotation: dict, image: dict, category: dict, annotated: Annotations, name: str) -> tuple:
  """Returns (person, "") for one annotation, or (None, reason)."""
  facts = plain_facts(annotation, _READ)
  facts |= {key: annotation[key] for key in _LISTS if isinstance(annotation.get(key), list)}
  kind = str(category.get("name") or "person")
  keypoints = _keypoints(annotation.get("keypoints"))
  if keypoints:
    names = category.get("keypoints")
    facts |= {
      "keypoints": keypoints,
      "joints": annotated.joint_list(kind, names if isinstance(names, list) else (), len(keypoints)),
    }
  more, boxes = _further(annotation, annotated)
  facts |= ({"more_keypoints": more} if more else {}) | ({"boxes": boxes} if boxes else {})
  box, reason = _box(annotation, keypoints)
  box = box or box_around(keypoints or ())  # joints with an unusable box: a person that keypoint AP ignores
  if not box:
    return None, reason
  mask = coco_mask(annotation.get("segmentation"), image["size"])
  return AnnotatedPerson(
    image["photo"],
    name,
    box,
    facts,
    image["facts"],
    mask,
    image["size"],
    ignored=reason or (CROWD if annotation.get("iscrowd") else ""),
  ), ""


def _keypoints(values) -> list[list] | None:
  """Returns [[x, y, v], ...] in the frame of person.py from x, y, v, x, y, v, ... in pixel indices."""
  if not isinstance(values, list) or not values:
    return None
  if all(isinstance(value, list) and len(value) in (2, 3) for value in values):
    return keypoints_of([value if len(value) == 3 else [*value, 2] for value in values], 0.5)
  if len(values) % 3 or not {int, float, bool, type(None)}.issuperset(map(type, values)):
    return None
  return keypoints_of(list(zip(values[::3], values[1::3], values[2::3])), 0.5)


def _further(annotation: dict, annotated: Annotations) -> tuple[dict, dict]:
  """Returns further keypoint lists (face_kpts -> face) and further boxes (face_box, bbox_head) by their names."""
  more, boxes = {}, {}
  for key, value in annotation.items():
    if key.endswith("_kpts"):
      keypoints, part = _keypoints(value), key.removesuffix("_kpts")
      if keypoints and any(v for _, _, v in keypoints):
        more[annotated.joint_list(part, FURTHER_JOINTS.get(part, ()), len(keypoints))] = keypoints
    elif key.endswith("_box") or key.startswith("bbox_"):
      box = numbers(value, 4)
      if box and box[2] > 0 < box[3]:
        boxes[key.removesuffix("_box").removeprefix("bbox_")] = box
  return more, boxes


def _box(annotation: dict, keypoints: list[list] | None) -> tuple:
  """Returns (x1, y1, x2, y2) and "", or None and the reason."""
  given = annotation.get("bbox")
  if given:
    box = numbers(given, 4)
    if box is None:
      return None, f"its box is not four numbers: {_short(given)}"
    x, y, width, height = box
    return ((x, y, x + width, y + height), "") if width > 0 < height else (None, "its box has no area")
  box = box_around(keypoints or ()) or box_of_scale(annotation.get("center"), annotation.get("scale"), 0)
  return (box, "") if box else (None, "it has no box, and no keypoints to make one from")


def box_of_scale(center, scale, shift: float) -> tuple[float, float, float, float] | None:
  """Returns the box with this `center` (pixels, before `shift`) and `scale` (in 200 pixels; one number or two)."""
  center = numbers(center, 2)
  scales = [scale, scale] if is_number(scale) else numbers(scale, 2)
  if center is None or scales is None or min(scales) <= 0:
    return None
  (x, y), (width, height) = (c + shift for c in center), (s * PIXELS_PER_SCALE for s in scales)
  return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _short(value: Iterable) -> str:
  text = repr(value)
  return text if len(text) <= 40 else f"{text[:40]}..."
