"""Where the joints of persons are, and how well they were found: PCK, and what else a joint list is measured by.

Each person is alone in a crop around the true box ("ground-truth boxes"), so nothing is detected.

    PCK   any joints, in heights of the crop
    AP    joints for which somebody published how far apart annotators place them (COCO, COCO-WholeBody, CrowdPose,
          AIC), see metrics/oks.py; persons are matched in their photo where the crop says where in it it lies
    PCKh  MPII's joints with its head boxes, see metrics/pck.py
"""

import dataclasses
from typing import Any

import numpy as np

from input_pipeline.people.landmarks import COCO_JOINTS
from input_pipeline.sources.annotations.lists_json import MPII_JOINTS
from input_pipeline.sources.annotations.person import is_number
from input_pipeline.sources.annotations.whole_body import WHOLE_BODY_JOINTS, whole_body_names, whole_body_points
from saip_jax.evaluation.metrics.oks import (
    AIC_SIGMAS, COCO_SIGMAS, CROWDPOSE_SIGMAS, DetectedPersons, TruePersons, evaluate_crowdpose, evaluate_keypoints,
    evaluate_whole_body)
from saip_jax.evaluation.metrics.pck import evaluate_mpii, keypoint_scores
from saip_jax.evaluation.splits import Labelled
from saip_jax.evaluation.tasks.base import Result

_AIC_LIMBS = tuple(f"{side}_{joint}" for joints in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
                   for side in ("right", "left") for joint in joints)
_SIGMAS = {COCO_JOINTS: COCO_SIGMAS, COCO_JOINTS[5:]: CROWDPOSE_SIGMAS, _AIC_LIMBS: AIC_SIGMAS}
"""Joint list -> its sigmas; CrowdPose and AIC end in the head and the neck, of which files differ in the names."""

_AP_NAMES = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "AP_medium": "AP_M", "AP_large": "AP_L", "AR": "AR"}
_BOXES = ("box", "box_full")
_IN_PHOTO = "in the photo"


@dataclasses.dataclass(frozen=True)
class Joints:
  """The joints of the first person in each of n images.

  Attributes:
    names: (J,) what they are.
    places: (n, J, 2) x, y as shares of the image's width and height, from 0 to 1.
    known: (n, J) bool: labelled, and inside the image.
    visible: (n, J) bool: known, and labelled as visible, where a data set tells.
    sizes: (n, 2) width and height in pixels.
    facts: of each image, see input_pipeline/records.py.
  """

  names: tuple[str, ...]
  places: np.ndarray
  known: np.ndarray
  visible: np.ndarray
  sizes: np.ndarray
  facts: list[dict]


def joints_of(images: Labelled) -> Joints:
  """Returns the keypoints of the first persons; raises ValueError if an image has none or they differ in kind."""
  points, names = images.of_first_persons("keypoints", "keypoints"), images.joint_names()
  wrong = next((i for i, p in enumerate(points) if len(p) != len(names)), None)
  if wrong is not None:
    raise ValueError(f"{images.source.name(wrong)} has {len(points[wrong])} keypoints: expected {len(names)}")
  return _placed(images, names, points)


def whole_body_of(images: Labelled) -> Joints:
  """Returns the 133 landmarks of COCO-WholeBody; of the built-in people all that they are labelled with.

  Raises:
    ValueError: the data set has neither.
  """
  names = whole_body_names(images.legend)
  if not names:
    raise ValueError(f"{images.source.identity['name']!r} has no landmarks of feet, face and hands: choose other "
                     "--data, as COCO-WholeBody or people")
  return _placed(images, names, [whole_body_points(facts) for facts in images.facts])


def _placed(images: Labelled, names, points) -> Joints:
  points = np.array(points, np.float64)
  sizes = np.array([images.size_hw(i)[::-1] for i in range(len(images))], np.float64)
  places = points[..., :2] / sizes[:, None]
  known = (points[..., 2] > 0) & (places >= 0).all(2) & (places < 1).all(2)
  return Joints(tuple(names), places, known, known & (points[..., 2] == 2), sizes, images.facts)


def scored(places: np.ndarray, confidence: np.ndarray | None, rows: np.ndarray, truth: Joints, facts: dict[str, Any],
           damaged: list[str]) -> Result:
  """Measures joints that were found, by whatever.

  Args:
    places: (n, J, 2) x, y as shares of the width and the height of each crop.
    confidence: (n, J) how sure of each, as `keypoints.maxima` gives it; None: nothing tells, so that AP, which ranks
      persons by it, is not measured.
    rows: (n,) int, the images of `truth` that they were found in.
    truth: what is true of all images.
    facts: what must be known to compare the scores, besides what is told here.
    damaged: see `Result`.
  """
  sizes = truth.sizes[rows]
  found_xy, true_xy = places * sizes[:, None], truth.places[rows] * sizes[:, None]
  counted = truth.visible[rows] if truth.visible.any() else truth.known[rows]
  found = keypoint_scores(found_xy, true_xy, counted, sizes[:, 1])
  scores = {f"PCK@{limit:g}": share for limit, share in reversed(found.pck.items())} | {"error": found.error}
  told = {"boxes": "ground truth", "joints": list(truth.names), "counted_joints": found.joints,
          "unit": "height of the crop"}
  people = [truth.facts[row]["people"][0] for row in rows]
  if truth.names == MPII_JOINTS:
    heads = [person.get("boxes", {}).get("head") for person in people]
    if None in heads:
      told["PCKh"] = "not measured: some have no head box, which mpii_gt_val.mat beside the list of persons gives"
    else:
      boxes = np.array(heads, np.float64)
      boxes[:, 2:] += boxes[:, :2]
      by_head = evaluate_mpii(found_xy, true_xy, counted, boxes)
      scores = {"PCKh@0.5": by_head.PCKh, "PCKh@0.1": by_head.PCKh01} | scores
      told["PCKh@0.5"] = {row: share for row, share in by_head.by_joint.items() if share == share}
  if confidence is not None:
    precision, how = _average_precision(places, confidence, rows, truth)
    # What is published leads; of persons alone in their pictures nobody publishes AP.
    scores = precision | scores if how.get("matched") == _IN_PHOTO else scores | precision
    told |= how
  return Result(scores, facts | told, damaged)


def _sigmas_of(names: tuple[str, ...]) -> np.ndarray | None:
  """Returns the sigmas of a joint list; None: nobody published any."""
  plain = tuple(name.lower().replace(" ", "_") for name in names)
  found = _SIGMAS.get(plain, _SIGMAS.get(plain[:12]))
  return found if found is not None and len(found) == len(names) else None


def _average_precision(places, confidence, rows, truth: Joints) -> tuple[dict[str, float], dict[str, Any]]:
  """Returns scores, and what must be known of them; both empty where a joint list has no sigmas."""
  sigmas, whole_body = _sigmas_of(truth.names), truth.names == WHOLE_BODY_JOINTS
  if sigmas is None and not whole_body:
    return {}, {}
  facts = [truth.facts[row] for row in rows]
  people = [each["people"][0] for each in facts]
  boxes = np.array([next((person[key] for key in _BOXES if person.get(key)), [0, 0, 0, 0]) for person in people], float)
  given = all(is_number(person.get("area")) for person in people)
  areas = np.array([person["area"] for person in people], float) if given else boxes[:, 2] * boxes[:, 3]
  if not (areas > 0).any():
    return {}, {"AP": "not measured: neither areas nor boxes of persons are known"}
  in_photo = all("crop" in each for each in facts)
  # Left, top, width and height of each image in its photo, in pixels.
  whole = np.pad(truth.sizes[rows], ((0, 0), (2, 0)))
  frames = np.array([each["crop"] for each in facts], float) if in_photo else whole
  scale = frames[:, 2:] / truth.sizes[rows]
  in_frame = lambda shares: shares * frames[:, None, 2:] + frames[:, None, :2]
  photos = [each["photo"] for each in facts] if in_photo else range(len(facts))
  photos = np.unique(list(photos), return_inverse=True)[1].reshape(-1)
  known = truth.known[rows]
  true = TruePersons(
      photos, np.concatenate([in_frame(truth.places[rows]), known[..., None]], axis=2),
      np.concatenate([boxes[:, :2] * scale + frames[:, :2], boxes[:, 2:] * scale], axis=1), areas * scale.prod(1),
      np.zeros(len(rows), bool))
  asked = known.any(1)  # as with other methods, persons without a joint are not looked for
  detected = DetectedPersons(photos[asked], in_frame(places)[asked], confidence.mean(1)[asked])
  told = {"matched": _IN_PHOTO if in_photo else "each person alone", "persons": int(asked.sum()),
          "area": "of the annotations" if given else "of the boxes", "AP_ranks_by": "mean of the maxima",
          "AP_leaves_out": "crowds, persons too small to be cut out, joints outside the crop"}
  if whole_body:
    parts = evaluate_whole_body(true, detected)
    return {"AP" if part == "whole" else f"AP_{part}": found.AP for part, found in reversed(parts.items())
            if found is not None}, told
  levels = {}
  if sigmas is CROWDPOSE_SIGMAS and all("crowd_index" in each for each in facts):
    crowded = dict(zip(photos.tolist(), (each["crowd_index"] for each in facts)))
    found, levels = evaluate_crowdpose(true, detected, crowded)
    told["area"] = "0.53 of the boxes"
  else:
    found = evaluate_keypoints(true, detected, sigmas)
  scores = {name: getattr(found, attribute) for attribute, name in _AP_NAMES.items()}
  scores |= {f"AP_{level}": score for level, score in levels.items()}
  told["nobody_of"] = [name for name, score in scores.items() if score != score]
  return {name: score for name, score in scores.items() if score == score}, told
