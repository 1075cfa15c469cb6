"""Average precision of joints that were found in crops: the persons of each photo, with the rules of each joint list.

The true persons of a photo are those who were cut out and those who were not: crowds, and persons too small to be cut
out, stay as ignored ones, so that a joint found on them counts neither way. Joints outside a crop count as missed.
Pixels are counted as COCO's files count them, keypoints from the middle of the first pixel and boxes from its edge.
"""

import collections
import dataclasses
from typing import Any

import numpy as np

from input_pipeline.body import (
  AIC_SIGMAS,
  COCO_JOINTS,
  COCO_SIGMAS,
  CROWDPOSE_SIGMAS,
  WHOLE_BODY_JOINTS,
  WHOLE_BODY_SIGMAS,
  whole_body_points,
)
from input_pipeline.checks import is_number
from saip_jax.evaluation.metrics.oks import (
  BOX_SHARE,
  DetectedPersons,
  TruePersons,
  evaluate_crowdpose,
  evaluate_keypoints,
  evaluate_whole_body,
)
from saip_jax.evaluation.splits import order_by_hash

IN_PHOTO = "in the photo"
"""The fact `matched` where the photos of crops are known."""

_AP_NAMES = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "AP_medium": "AP_M", "AP_large": "AP_L", "AR": "AR"}
_BOXES = ("box", "box_full")
_HALF = 0.5  # pixel, from the edge of a photo to the middle of the first one


@dataclasses.dataclass(frozen=True)
class _Rules:
  """How a joint list is measured by its data set's evaluator.

  Attributes:
    sigmas: (J,) see metrics/oks.py.
    annotated_areas: persons have their annotated areas; else `BOX_SHARE` of their boxes, even where areas are given.
    counted: a person whose `num_keypoints` is 0 is ignored; else, and where it is not given, one without a labeled
      joint.
  """

  sigmas: np.ndarray
  annotated_areas: bool
  counted: bool


_AIC_LIMBS = tuple(
  f"{side}_{joint}"
  for joints in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
  for side in ("right", "left")
  for joint in joints
)
_RULES = {
  COCO_JOINTS: _Rules(COCO_SIGMAS, annotated_areas=True, counted=True),
  COCO_JOINTS[5:]: _Rules(CROWDPOSE_SIGMAS, annotated_areas=False, counted=True),
  _AIC_LIMBS: _Rules(AIC_SIGMAS, annotated_areas=False, counted=False),
  WHOLE_BODY_JOINTS: _Rules(WHOLE_BODY_SIGMAS, annotated_areas=True, counted=False),
}
"""By joint list; CrowdPose and AIC end in the head and the neck, of which files differ in the names."""


def _rules_of(names: tuple[str, ...]) -> _Rules | None:
  """Returns the rules of a joint list; None: no sigmas are published."""
  plain = tuple(name.lower().replace(" ", "_") for name in names)
  found = _RULES.get(plain, _RULES.get(plain[:12]))
  return found if found is not None and len(found.sigmas) == len(names) else None


def average_precision(
  places: np.ndarray, confidence: np.ndarray, rows: np.ndarray, truth
) -> tuple[dict[str, float], dict[str, Any]]:
  """Returns scores, and what must be known of them; both empty where a joint list has no sigmas.

  Args:
    places: (n, J, 2) x, y as shares of the width and the height of each crop.
    confidence: (n, J) how sure of each.
    rows: (n,) int, the images of `truth` that they were found in.
    truth: `joints.Joints` of all images.
  """
  rules = _rules_of(truth.names)
  if rules is None:
    return {}, {}
  facts = [truth.facts[row] for row in rows]
  in_photo = all("crop" in each for each in facts)
  # Left, top, width and height of each image in its photo, in pixels.
  frames = (
    np.array([each["crop"] for each in facts], float) if in_photo else np.pad(truth.sizes[rows], ((0, 0), (2, 0)))
  )
  in_frame = lambda shares: shares * frames[:, None, 2:] + frames[:, None, :2] - _HALF
  photos = [each["photo"] for each in facts] if in_photo else range(len(facts))
  _, first, number = np.unique(list(photos), return_index=True, return_inverse=True)
  # Of equal scores those of the earlier photo come first, so that the order of files must not be theirs.
  order = order_by_hash([str(facts[row]["photo"]) if in_photo else truth.images[rows[row]] for row in first])
  first, number = first[order], np.argsort(order)[number.reshape(-1)]
  others = [(k, person) for k, row in enumerate(first) for person in facts[row].get("not_cut_out", ())]
  people = [each["people"][0] for each in facts]

  scale = frames[:, 2:] / truth.sizes[rows]
  boxes = _boxes_of(people) * np.tile(scale, 2) + np.pad(frames[:, :2], ((0, 0), (0, 2)))
  areas, how = _areas(rules, people, boxes, scale.prod(1))
  if not (areas > 0).any():
    return {}, {"AP": "not measured: neither areas nor boxes of persons are known"}
  outside = np.array([_points(each.get("outside", {}), people[0], truth.names) for each in facts])
  points = np.where(
    outside[..., 2:] > 0,
    outside,
    np.concatenate([in_frame(truth.places[rows]), truth.labeled[rows][..., None]], axis=2),
  )
  ignored, reasons = _ignored(rules, people, points)
  if ignored.all():
    return {}, {"AP": f"not measured: every person is ignored, the first as {reasons[0]}"}
  other_people = [person for _, person in others]
  other_boxes = _boxes_of(other_people)
  true = TruePersons(
    np.concatenate([number, np.array([k for k, _ in others], int)]),
    np.concatenate([points, *(_points(person, people[0], truth.names)[None] for person in other_people)]),
    np.concatenate([boxes, other_boxes]),
    np.concatenate([areas, _areas(rules, other_people, other_boxes, np.ones(len(others)))[0]]),
    np.concatenate([np.zeros(len(rows), bool), np.array([person["crowd"] for person in other_people], bool)]),
    np.concatenate([ignored, np.ones(len(others), bool)]),
  )
  # As with other methods, an ignored person is not looked for.
  found = DetectedPersons(number[~ignored], in_frame(places)[~ignored], confidence.mean(1)[~ignored])

  counts = collections.Counter([*reasons, *(person["reason"] for person in other_people)])
  counts = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
  told = {
    "matched": IN_PHOTO if in_photo else "each person alone",
    "persons": int((~ignored).sum()),
    "area": how,
    "AP_ranks_by": "mean of the maxima",
    "AP_ignores": "; ".join(f"{count:,}: {reason}" for reason, count in counts) or "none",
  }
  if not in_photo:
    told["AP_leaves_out"] = "crowds and persons without an image of their own: the photos of the images are unknown"
  scores = _scores(rules, true, found, [facts[row].get("crowd_index") for row in first])
  told["nobody_of"] = [name for name, score in scores.items() if score != score]
  return {name: score for name, score in scores.items() if score == score}, told


def _scores(rules: _Rules, true: TruePersons, found: DetectedPersons, crowd_index: list) -> dict[str, float]:
  """Returns the scores by their names, nan where no person counts; crowd_index: of each photo, None where unknown."""
  if rules.sigmas is WHOLE_BODY_SIGMAS:
    parts = evaluate_whole_body(true, found)
    return {
      "AP" if part == "whole" else f"AP_{part}": scores.AP
      for part, scores in reversed(parts.items())
      if scores is not None
    }
  levels = {}
  if rules.sigmas is CROWDPOSE_SIGMAS and None not in crowd_index:
    scores, levels = evaluate_crowdpose(true, found, dict(enumerate(crowd_index)))
  else:
    scores = evaluate_keypoints(true, found, rules.sigmas)
  return {name: getattr(scores, attribute) for attribute, name in _AP_NAMES.items()} | {
    f"AP_{level}": score for level, score in levels.items()
  }


def _boxes_of(people: list[dict]) -> np.ndarray:
  """Returns (n, 4) left, top, width and height, zeros where none is known."""
  boxes = [next((person[key] for key in _BOXES if person.get(key)), [0.0] * 4) for person in people]
  return np.array(boxes, np.float64).reshape(-1, 4)


def _areas(rules: _Rules, people: list[dict], boxes: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, str]:
  """Returns (n,) areas in square pixels of the photos, and where they are from.

  Args:
    rules: of the joint list.
    people: facts of n persons.
    boxes: (n, 4) of them, in pixels of the photos.
    scale: (n,) square pixels of the photo in one of the person's image.
  """
  given = np.array([rules.annotated_areas and is_number(person.get("area")) for person in people], bool)
  annotated = np.array([person["area"] if known else 0.0 for person, known in zip(people, given)], float)
  how = "of the annotations" if given.all() else f"{BOX_SHARE} of the boxes"
  if given.any() and not given.all():
    how = f"of the annotations, {BOX_SHARE} of the boxes of {np.count_nonzero(~given):,} persons"
  return np.where(given, annotated * scale, boxes[:, 2:].prod(1) * BOX_SHARE), how


def _ignored(rules: _Rules, people: list[dict], points: np.ndarray) -> tuple[np.ndarray, list[str]]:
  """Returns (n,) bool, and why each of those is ignored; points: (n, J, 3)."""
  given = np.array([rules.counted and is_number(person.get("num_keypoints")) for person in people], bool)
  counted = np.array([person["num_keypoints"] if known else 0 for person, known in zip(people, given)])
  ignored = np.where(given, counted, (points[..., 2] > 0).sum(1)) == 0
  return ignored, ["num_keypoints is 0" if known else "no labeled joint" for known in given[ignored]]


def _points(person: dict, like: dict, names: tuple[str, ...]) -> np.ndarray:
  """Returns (J, 3) the joints of a person in a photo, and v, zeros where they are of another list than those of `like`.

  Args:
    person: `keypoints` and so on, in pixels of a photo.
    like: a person with the joints `names`.
    names: (J,).
  """
  unknown = np.zeros((len(names), 3))
  if names == WHOLE_BODY_JOINTS:
    points = whole_body_points({"people": [person]})
  elif person.get("keypoints") and person.get("joints", like.get("joints")) == like.get("joints"):
    points = np.array(person["keypoints"], np.float64)
  else:
    return unknown
  return points - (_HALF, _HALF, 0) if points.shape == unknown.shape else unknown
