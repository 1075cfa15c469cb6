"""Average precision (AP) of joints predicted in crops: persons are matched per photo, by the rules of their joint list.

The true persons of a photo are those with a crop and those without: crowds, and persons too small for a crop, are
ignored, so that a prediction on them counts neither as right nor as wrong. Joints outside a crop count as missed.
Pixel coordinates follow COCO's files: keypoints start at the center of the first pixel and boxes at its edge.
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
from input_pipeline.sources.held_out import order_by_hash
from saip_jax.evaluation.metrics.oks import (
  BOX_SHARE,
  DetectedPersons,
  TruePersons,
  evaluate_crowdpose,
  evaluate_keypoints,
  evaluate_whole_body,
)

IN_PHOTO = "in the photo"
"""Value of the fact `matched` if the photos of crops are known."""

_AP_NAMES = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "AP_medium": "AP_M", "AP_large": "AP_L", "AR": "AR"}
_BOXES = ("box", "box_full")
_HALF = 0.5  # pixels, from the edge of a photo to the center of its first pixel


@dataclasses.dataclass(frozen=True)
class _Rules:
  """The rules of a data set's evaluator for its joint list.

  Attributes:
    sigmas: (J,) see metrics/oks.py.
    annotated_areas: whether annotated areas are used; if not, `BOX_SHARE` of the boxes, even if areas are annotated.
    counted: whether persons with `num_keypoints` 0 are ignored; if not, or if it is not annotated, persons without a
      labeled joint are ignored.
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
"""Joint list -> rules; the last two joints of CrowdPose and AIC, head and neck, have different names in files."""


def _rules_of(names: tuple[str, ...]) -> _Rules | None:
  """Returns the rules of a joint list; None if it has no published sigmas."""
  plain = tuple(name.lower().replace(" ", "_") for name in names)
  found = _RULES.get(plain, _RULES.get(plain[:12]))
  return found if found is not None and len(found.sigmas) == len(names) else None


def average_precision(
  places: np.ndarray, confidence: np.ndarray, rows: np.ndarray, truth
) -> tuple[dict[str, float], dict[str, Any]]:
  """Returns scores and facts about them; both are empty if the joint list has no sigmas.

  Args:
    places: (n, J, 2) x, y as fractions of the width and the height of each crop.
    confidence: (n, J) confidences.
    rows: (n,) int, positions of the images in `truth`.
    truth: `joints.TrueJoints` of all images.
  """
  rules = _rules_of(truth.names)
  if rules is None:
    return {}, {}
  crops = [truth.facts[row] for row in rows]
  in_photo = all("crop" in each for each in crops)
  # Left, top, width and height of each crop in its photo, in pixels.
  frames = (
    np.array([each["crop"] for each in crops], float) if in_photo else np.pad(truth.sizes[rows], ((0, 0), (2, 0)))
  )
  in_frame = lambda shares: shares * frames[:, None, 2:] + frames[:, None, :2] - _HALF
  photos = [each["photo"] for each in crops] if in_photo else range(len(crops))
  _, first, number = np.unique(list(photos), return_index=True, return_inverse=True)
  # Among equal scores those of the earlier photo rank first, so the order must not be that of files.
  order = order_by_hash([str(crops[row]["photo"]) if in_photo else truth.images[rows[row]] for row in first])
  first, number = first[order], np.argsort(order)[number.reshape(-1)]
  others = [(k, person) for k, row in enumerate(first) for person in crops[row].get("not_cut_out", ())]
  people = [each["people"][0] for each in crops]

  scale = frames[:, 2:] / truth.sizes[rows]
  boxes = _boxes_of(people) * np.tile(scale, 2) + np.pad(frames[:, :2], ((0, 0), (0, 2)))
  areas, how = _areas(rules, people, boxes, scale.prod(1))
  if not (areas > 0).any():
    return {}, {"AP": "not measured: neither areas nor boxes of persons are known"}
  outside = np.array([_points(each.get("outside", {}), people[0], truth.names) for each in crops])
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
  # As in other programs, nothing is predicted for ignored persons.
  found = DetectedPersons(number[~ignored], in_frame(places)[~ignored], confidence.mean(1)[~ignored])

  counts = collections.Counter([*reasons, *(person["reason"] for person in other_people)])
  counts = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
  facts = {
    "matched": IN_PHOTO if in_photo else "each person alone",
    "persons": int((~ignored).sum()),
    "area": how,
    "AP_ranks_by": "mean of the maxima",
    "AP_ignores": "; ".join(f"{count:,}: {reason}" for reason, count in counts) or "none",
  }
  if not in_photo:
    facts["AP_leaves_out"] = "crowds and persons without a crop: the photos of the images are unknown"
  scores = _scores(rules, true, found, [crops[row].get("crowd_index") for row in first])
  facts["nobody_of"] = [name for name, score in scores.items() if score != score]
  return {name: score for name, score in scores.items() if score == score}, facts


def _scores(rules: _Rules, true: TruePersons, found: DetectedPersons, crowd_index: list) -> dict[str, float]:
  """Returns name -> score, nan if no person counts; `crowd_index` is that of each photo, None if unknown."""
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
  """Returns (n, 4) left, top, width and height, zeros if unknown."""
  boxes = [next((person[key] for key in _BOXES if person.get(key)), [0.0] * 4) for person in people]
  return np.array(boxes, np.float64).reshape(-1, 4)


def _areas(rules: _Rules, people: list[dict], boxes: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, str]:
  """Returns (n,) areas in square pixels of the photos, and their source as text.

  Args:
    rules: rules of the joint list.
    people: annotations of n persons.
    boxes: (n, 4) their boxes, in pixels of the photos.
    scale: (n,) square pixels of the photo per square pixel of the crop.
  """
  given = np.array([rules.annotated_areas and is_number(person.get("area")) for person in people], bool)
  annotated = np.array([person["area"] if known else 0.0 for person, known in zip(people, given)], float)
  how = "of the annotations" if given.all() else f"{BOX_SHARE} of the boxes"
  if given.any() and not given.all():
    how = f"of the annotations, {BOX_SHARE} of the boxes of {np.count_nonzero(~given):,} persons"
  return np.where(given, annotated * scale, boxes[:, 2:].prod(1) * BOX_SHARE), how


def _ignored(rules: _Rules, people: list[dict], points: np.ndarray) -> tuple[np.ndarray, list[str]]:
  """Returns (n,) bool, and the reason for each ignored person; points: (n, J, 3)."""
  given = np.array([rules.counted and is_number(person.get("num_keypoints")) for person in people], bool)
  counted = np.array([person["num_keypoints"] if known else 0 for person, known in zip(people, given)])
  ignored = np.where(given, counted, (points[..., 2] > 0).sum(1)) == 0
  return ignored, ["num_keypoints is 0" if known else "no labeled joint" for known in given[ignored]]


def _points(person: dict, like: dict, names: tuple[str, ...]) -> np.ndarray:
  """Returns (J, 3) x, y, v of a person's joints in a photo; zeros if the joint list is not that of `like`.

  Args:
    person: annotations of the person, in pixels of a photo.
    like: annotations of a person with the joints `names`.
    names: (J,) names of the joints.
  """
  unknown = np.zeros((len(names), 3))
  if names == WHOLE_BODY_JOINTS:
    points = whole_body_points({"people": [person]})
  elif person.get("keypoints") and person.get("joints", like.get("joints")) == like.get("joints"):
    points = np.array(person["keypoints"], np.float64)
  else:
    return unknown
  return points - (_HALF, _HALF, 0) if points.shape == unknown.shape else unknown
