"""Reads the persons of panoptic COCO, of MPII's list and of CrowdHuman's lines."""

import os
from collections.abc import Sequence

from input_pipeline.body import MPII_JOINTS
from input_pipeline.sources.annotated.categories import Categories, key_of
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
from input_pipeline.sources.datasets.coco_json import box_of_scale, found_images

_IGNORED = "marked to be ignored: a crowd, a reflection, something like a person"


def read_panoptic(content: dict, photos: Photos, annotated: Annotations, hint: str) -> None:
  """Adds the persons of a panoptic JSON; their masks are colors of the PNG that each annotation names.

  Arguments as in `read_coco_json`.
  """
  images, categories = found_images(content["images"], photos, annotated, hint), Categories(content)
  for annotation in content["annotations"]:
    image = images.get(key_of(annotation.get("image_id"))) if isinstance(annotation, dict) else None
    if image is None or image["photo"] is None:
      if image is None:
        annotated.left_out.append(
          (f"{os.path.basename(hint)}: an annotation", "it is of an image that the file does not list")
        )
      continue
    png, _ = photos.find(str(annotation.get("file_name")), hint)
    segments = annotation.get("segments_info")
    for segment in segments if isinstance(segments, list) else ():
      if not isinstance(segment, dict):
        annotated.left_out.append((f"{image['photo']}: a segment", "it is not a JSON object"))
        continue
      category, reason = categories.find(segment.get("category_id"), annotated)
      box = numbers(segment.get("bbox"), 4)
      if category is not None and box is None:
        reason = "it has no box"
      if reason:
        annotated.left_out.append((f"{image['photo']}#{segment.get('id')}", reason))
      if reason or category is None:
        continue
      mask = {"png": png, "colour": segment["id"]} if png and isinstance(segment.get("id"), int) else None
      x, y, width, height = box
      annotated.persons.append(
        AnnotatedPerson(
          image["photo"],
          str(segment.get("id")),
          (x, y, x + width, y + height),
          plain_facts(segment, frozenset({"id", "category_id", "iscrowd"})),
          image["facts"],
          mask,
          image["size"],
          ignored=CROWD if segment.get("iscrowd") else "",
        )
      )


def read_mpii(
  content: list, photos: Photos, annotated: Annotations, hint: str, heads: Sequence[list[float] | None] = ()
) -> None:
  """Adds the persons of MPII's list, each {image, joints, joints_vis, center, scale}, in pixel indices from 1.

  Args:
    content: the parsed list.
    photos: the photos of the data set.
    annotated: receives the persons and the annotations left out.
    hint: path of the file below the photos' root, without its extension, for `Photos.find`.
    heads: head box [x, y, width, height] of each person in the list; PCKh uses its diagonal (see mpii_heads.py).
  """
  for position, person in enumerate(content):
    image = person.get("image") if isinstance(person, dict) else None
    if not isinstance(image, str):
      annotated.left_out.append((f"{os.path.basename(hint)}: person {position}", "it names no image"))
      continue
    photo, reason = photos.find(image, hint)
    facts = {"boxes": {"head": heads[position]}} if heads and heads[position] else {}
    joints, visible = person.get("joints"), person.get("joints_vis")
    if isinstance(joints, list) and joints and all(isinstance(joint, list) and len(joint) >= 2 for joint in joints):
      if not isinstance(visible, list) or len(visible) != len(joints):
        visible = [1] * len(joints)
      points = [(x, y, 2 if v else 0) for (x, y, *_), v in zip(joints, visible)]
      facts |= {
        "keypoints": keypoints_of(points, -0.5),
        "joints": annotated.joint_list("person", MPII_JOINTS, len(joints)),
      }
    box = box_around(facts.get("keypoints", ())) or box_of_scale(person.get("center"), person.get("scale"), -0.5)
    reason = reason or ("" if box else "it has no joints, and no center and scale, to make a box from")
    if reason:
      annotated.left_out.append((f"{image}#{position}", reason))
    else:
      annotated.persons.append(AnnotatedPerson(photo, str(position), box, facts))


def read_crowdhuman(content: list, photos: Photos, annotated: Annotations, hint: str) -> None:
  """Adds the persons of CrowdHuman's lines: `box` is the visible part, `boxes` has head and full body.

  Arguments as in `read_coco_json`; `content` is the list of lines.
  """
  for position, line in enumerate(content):
    line = line if isinstance(line, dict) else {}
    photo, reason = None, "it has no ID"
    if line.get("ID"):
      photo, reason = photos.find(f"{line['ID']}.jpg", hint)
      if photo is None:
        photo, reason = photos.find(f"{line['ID']}.png", hint)
    if reason:
      annotated.left_out.append((str(line.get("ID") or f"{os.path.basename(hint)}: line {position + 1}"), reason))
      continue
    annotated.photos[photo], boxes = {}, line.get("gtboxes")
    for number, entry in enumerate(boxes if isinstance(boxes, list) else ()):
      person, reason = _crowdhuman_person(entry, photo, str(number))
      if reason:
        annotated.left_out.append((f"{photo}#{number}", reason))
      else:
        annotated.persons.append(person)


def _crowdhuman_person(entry, photo: str, name: str) -> tuple:
  """Returns (person, "") for one box, or (None, reason)."""
  if not isinstance(entry, dict):
    return None, "it is not a JSON object"
  extra = entry.get("extra") if isinstance(entry.get("extra"), dict) else {}
  ignored = _IGNORED if entry.get("tag") != "person" or extra.get("ignore") else ""
  visible, full, head = numbers(entry.get("vbox"), 4), numbers(entry.get("fbox"), 4), numbers(entry.get("hbox"), 4)
  box = next((box for box in (visible, full) if box and box[2] > 0 < box[3]), None)
  if box is None:
    return None, "its box has no area" if visible or full else "it has no box"
  x, y, width, height = box
  further = ({"full": full} if full else {}) | ({"head": head} if head else {})
  return AnnotatedPerson(
    photo, name, (x, y, x + width, y + height), {"boxes": further} if further else {}, ignored=ignored
  ), ""
