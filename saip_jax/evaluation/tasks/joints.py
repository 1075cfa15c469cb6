"""True joints of persons, and scores of predicted ones: PCK, and the metrics of known joint lists.

Each person is alone in a crop around the true box ("ground-truth boxes"), so no persons are detected.

    PCK   any joints, in heights of the crop
    AP    joints with published annotation errors, "sigmas" (COCO, COCO-WholeBody, CrowdPose, AIC), see keypoint_ap.py;
          persons are matched within their photo if the position of the crop in it is known
    PCKh  MPII's joints with its head boxes, see metrics/pck.py
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from input_pipeline.body import MPII_JOINTS, whole_body_names, whole_body_points
from saip_jax.evaluation.metrics.pck import KeypointScores, evaluate_mpii, keypoint_scores
from saip_jax.evaluation.resampling import Resampling, mean_of
from saip_jax.evaluation.splits import LabeledImages, groups
from saip_jax.evaluation.tasks.base import Result
from saip_jax.evaluation.tasks.keypoint_ap import IN_PHOTO, average_precision


@dataclasses.dataclass(frozen=True)
class TrueJoints:
  """The joints of the first person in each of n images.

  Attributes:
    names: (J,) names of the joints.
    places: (n, J, 2) x, y as fractions of the image's width and height, from 0 to 1 inside it.
    labeled: (n, J) bool: the annotations have a place.
    known: (n, J) bool: labeled, and inside the image.
    visible: (n, J) bool: known, and labeled as visible, if the data set has such labels.
    sizes: (n, 2) width and height in pixels.
    images: names of the images.
    groups: (n,) int group of each image, see `splits.groups`.
    facts: annotations of each image, see input_pipeline/records.py.
  """

  names: tuple[str, ...]
  places: np.ndarray
  labeled: np.ndarray
  known: np.ndarray
  visible: np.ndarray
  sizes: np.ndarray
  images: list[str]
  groups: np.ndarray
  facts: list[dict]


def true_joints(images: LabeledImages) -> TrueJoints:
  """Returns the keypoints of the first persons; raises ValueError if an image has none or the kinds differ."""
  points, names = images.of_first_persons("keypoints", "keypoints"), images.joint_names()
  wrong = next((i for i, p in enumerate(points) if len(p) != len(names)), None)
  if wrong is not None:
    raise ValueError(f"{images.source.name(wrong)} has {len(points[wrong])} keypoints: expected {len(names)}")
  return _placed(images, names, points)


def true_whole_body(images: LabeledImages) -> TrueJoints:
  """Returns the 133 landmarks of COCO-WholeBody, or the landmarks of the built-in people.

  Raises:
    ValueError: the data set has neither.
  """
  names = whole_body_names(images.legend)
  if not names:
    raise ValueError(
      f"{images.source.identity['name']!r} has no landmarks of feet, face and hands: choose other "
      "--data, such as COCO-WholeBody or people"
    )
  return _placed(images, names, [whole_body_points(facts) for facts in images.facts])


def _placed(images: LabeledImages, names, points) -> TrueJoints:
  points = np.array(points, np.float64)
  sizes = np.array([images.size_hw(i)[::-1] for i in range(len(images))], np.float64)
  places = points[..., :2] / sizes[:, None]
  labeled = points[..., 2] > 0
  known = labeled & (places >= 0).all(2) & (places < 1).all(2)
  called = [images.source.name(i) for i in range(len(images))]
  visible = known & (points[..., 2] == 2)
  return TrueJoints(tuple(names), places, labeled, known, visible, sizes, called, groups(images), images.facts)


def score_joints(
  places: np.ndarray,
  confidence: np.ndarray | None,
  rows: np.ndarray,
  truth: TrueJoints,
  facts: dict[str, Any],
  damaged: list[str],
) -> Result:
  """Measures predicted joints.

  Args:
    places: (n, J, 2) x, y as fractions of the width and the height of each crop.
    confidence: (n, J) confidences, see `keypoints.maxima`; None if there are none, and then AP, which ranks persons by
      confidence, is not measured.
    rows: (n,) int, positions of the images in `truth`.
    truth: the true joints of all images.
    facts: facts about the protocol, see `Result`.
    damaged: see `Result`.
  """
  sizes = truth.sizes[rows]
  found_xy, true_xy = places * sizes[:, None], truth.places[rows] * sizes[:, None]
  counted = truth.visible[rows] if truth.visible.any() else truth.known[rows]
  found = keypoint_scores(found_xy, true_xy, counted, sizes[:, 1])
  scores = {f"PCK@{limit:g}": share for limit, share in reversed(found.pck.items())} | {"error": found.error}
  people = [truth.facts[row]["people"][0] for row in rows]
  facts = facts | {
    "boxes": box_origin(people),
    "joints": list(truth.names),
    "counted_joints": found.joints,
    "unit": "height of the crop",
  }
  if truth.names == MPII_JOINTS:
    by_head, how = _pckh(found_xy, true_xy, counted, people, [truth.images[row] for row in rows])
    scores, facts = by_head | scores, facts | how
  if confidence is not None:
    precision, how = average_precision(places, confidence, rows, truth)
    # The published metric comes first; AP of persons alone in their images is not comparable.
    scores = precision | scores if how.get("matched") == IN_PHOTO else scores | precision
    facts |= how
  return Result(scores, facts, damaged, resampling_of(found, truth.groups[rows]))


def resampling_of(found: KeypointScores, persons: np.ndarray) -> Resampling:
  """Returns the resampling of PCK, at the larger limit, by the person of each row, (n,) int."""
  limit = max(found.pck)
  return Resampling(f"PCK@{limit:g}", persons, mean_of(found.within[limit], found.counts))


def box_origin(people: Iterable[dict]) -> str:
  """Returns the boxes that persons were cropped by, as text for `Result.facts`."""
  if not any(person.get("box_from") == "keypoints" for person in people):
    return "ground truth"
  return (
    "around the true joints, 25 % larger on every side, so that the frame reveals the outermost joints; "
    "published numbers are of boxes that do not (MPII: center and scale)"
  )


def _pckh(
  found_xy: np.ndarray, true_xy: np.ndarray, counted: np.ndarray, people: list[dict], images: list[str]
) -> tuple[dict[str, float], dict[str, Any]]:
  """Returns PCKh of the persons with a head box, and facts about it."""
  heads = [person.get("boxes", {}).get("head") or [0.0] * 4 for person in people]
  boxes = np.array(heads, np.float64)
  boxes[:, 2:] += boxes[:, :2]
  good = (boxes[:, 2:] != boxes[:, :2]).any(1)
  if not good.any():
    return {}, {"PCKh": "not measured: no head box is known; mpii_gt_val.mat beside the list of persons has them"}
  if not counted[good].any():
    return {}, {"PCKh": "not measured: no person with a head box shows a joint"}
  found = evaluate_mpii(found_xy[good], true_xy[good], counted[good], boxes[good])
  facts = {
    "PCKh@0.5": {row: share for row, share in found.by_joint.items() if share == share},
    "PCKh_limit": "at most 0.5 of a head, as HRNet counts; mmpose excludes a joint exactly at the limit",
  }
  if not good.all():
    facts["PCKh_leaves_out"] = (
      f"{np.count_nonzero(~good):,} persons without a head box or with one of no size, the "
      f"first: {images[np.argmin(good)]}"
    )
  return {"PCKh@0.5": found.PCKh, "PCKh@0.1": found.PCKh01}, facts
