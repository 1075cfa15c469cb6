"""Keypoints of several persons in whole images: average precision by object keypoint similarity (OKS).

The similarity of a detection and a true person of area s^2, over the joints that are labeled (v > 0):

    OKS = mean of exp(-d^2 / (2 s^2 (2 sigma)^2))

with d the distance and sigma how far apart annotators place that joint. For a person without a labeled joint, d is the
distance to the person's box, doubled in size, and all joints count. Then as coco_matching.py, with at most 20
detections of an image; the area of a detection is that of the box around its keypoints.

Ignored persons need not be found, and a detection on one counts neither way. The evaluators of COCO and CrowdPose
ignore persons whose `num_keypoints` is 0; in CrowdPose it counts the visible joints alone, so that joints may be
labeled. xtcocotools, by which AIC and COCO-WholeBody are measured, ignores persons without a labeled joint.

COCO has 17 joints (Lin et al. 2014), COCO-WholeBody 133 (Jin et al. 2020, as xtcocotools), CrowdPose 14 (Li et al.
2019), AIC 14 others (Wu et al. 2017).
"""

import dataclasses

import numpy as np

from input_pipeline.body import COCO_SIGMAS, CROWDPOSE_SIGMAS, WHOLE_BODY_PARTS, WHOLE_BODY_SIGMAS
from saip_jax.evaluation.metrics.coco_matching import ALL_AREAS, LARGE, MEDIUM, checked_rows, match_objects

CROWD_LEVELS = {"easy": (0.0, 0.2), "medium": (0.2, 0.8), "hard": (0.8, np.inf)}
"""Crowd index from, and below; of the published code, while the paper writes 0.1 for 0.2."""

_MOST = 20
BOX_SHARE = 0.53
"""A person's area is this share of the box where no outline is known: in CrowdPose's and AIC's published numbers, and
in xtcocotools wherever a file has no areas."""


@dataclasses.dataclass(frozen=True)
class TruePersons:
  """What annotators say of N persons.

  Attributes:
    images: (N,) int, where each person is.
    keypoints: (N, J, 3) x and y in pixels, v > 0 where labeled; what stands elsewhere is not read.
    boxes_xywh: (N, 4) left, top, width and height in pixels.
    areas: (N,) square pixels of their outlines.
    crowd: (N,) bool: stands for several persons; ignored, and any number of detections may match it.
    ignored: (N,) bool: ignored as well; None: those without a labeled joint.
  """

  images: np.ndarray
  keypoints: np.ndarray
  boxes_xywh: np.ndarray
  areas: np.ndarray
  crowd: np.ndarray
  ignored: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class DetectedPersons:
  """What was found.

  Attributes:
    images: (M,) int, as of `TruePersons`.
    keypoints_xy: (M, J, 2) pixels.
    scores: (M,) float: how sure.
  """

  images: np.ndarray
  keypoints_xy: np.ndarray
  scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class KeypointAP:
  """What `evaluate_keypoints` found; 0 to 1, nan where no person of that size counts (pycocotools writes -1).

  Attributes:
    AP: average precision, mean over OKS 0.50, 0.55, ..., 0.95.
    AP50: at OKS 0.50.
    AP75: at OKS 0.75.
    AP_medium: of persons of 32^2 to 96^2 pixels.
    AP_large: of larger ones.
    AR: average recall, and so on.
    persons: how many count.
  """

  AP: float
  AP50: float
  AP75: float
  AP_medium: float
  AP_large: float
  AR: float
  AR50: float
  AR75: float
  AR_medium: float
  AR_large: float
  persons: int


def evaluate_keypoints(true: TruePersons, found: DetectedPersons, sigmas: np.ndarray = COCO_SIGMAS) -> KeypointAP:
  """Returns the ten numbers of COCO's keypoint challenge.

  Args:
    true: all persons of all images, crowds too.
    found: detections in these images; in an image without persons they are false.
    sigmas: (J,) one for each joint.

  Raises:
    ValueError: shapes that do not fit, numbers that are not finite, or all persons are ignored.
  """
  true, found = _checked(true, found, len(sigmas))
  return _evaluate(true, found, np.asarray(sigmas), _areas_around(found.keypoints_xy))


def evaluate_whole_body(true: TruePersons, found: DetectedPersons) -> dict[str, KeypointAP | None]:
  """Returns the scores of each of `WHOLE_BODY_PARTS`, None where nobody has a labeled joint of that part.

  A detection has one score and the area of its 17 body joints in all of them, as in xtcocotools.

  Args:
    true: persons with 133 joints; those without a labeled joint of a part are ignored there too.
    found: detections with as many.

  Raises:
    ValueError: as `evaluate_keypoints`.
  """
  true, found = _checked(true, found, len(WHOLE_BODY_SIGMAS))
  areas = _areas_around(found.keypoints_xy[:, WHOLE_BODY_PARTS["body"]])
  scores = {}
  for name, part in WHOLE_BODY_PARTS.items():
    own = dataclasses.replace(true, keypoints=true.keypoints[:, part])
    own = dataclasses.replace(own, ignored=true.ignored | ~_labeled(own))
    scores[name] = (
      _evaluate(
        own, dataclasses.replace(found, keypoints_xy=found.keypoints_xy[:, part]), WHOLE_BODY_SIGMAS[part], areas
      )
      if _some_count(own)
      else None
    )
  return scores


def evaluate_crowdpose(
  true: TruePersons, found: DetectedPersons, crowd_index: dict[int, float], sigmas: np.ndarray = CROWDPOSE_SIGMAS
) -> tuple[KeypointAP, dict[str, float]]:
  """Returns the scores of all images, and AP of those of each of `CROWD_LEVELS`, nan where nobody counts.

  Args:
    true: persons with 14 joints; their area is taken as 0.53 of their boxes. `ignored` is num_keypoints == 0.
    found: detections.
    crowd_index: image -> how crowded it is, 0 to 1.
    sigmas: (14,) one for each joint.

  Raises:
    ValueError: as `evaluate_keypoints`, or an image without a crowd index.
  """
  true, found = _checked(true, found, len(sigmas))
  true = dataclasses.replace(true, areas=true.boxes_xywh[:, 2:].prod(1) * BOX_SHARE)
  unknown = sorted({*true.images.tolist(), *found.images.tolist()} - crowd_index.keys())
  if unknown:
    raise ValueError(f"crowd_index lacks image {unknown[0]}: expected one of each of the images")
  areas, by_level = _areas_around(found.keypoints_xy), {}
  for level, (low, high) in CROWD_LEVELS.items():
    own, seen = (np.array([low <= crowd_index[i] < high for i in part.images.tolist()], bool) for part in (true, found))
    persons = _rows(true, own)
    of_level = _evaluate(persons, _rows(found, seen), sigmas, areas[seen]) if _some_count(persons) else None
    by_level[level] = of_level.AP if of_level else float("nan")
  return _evaluate(true, found, sigmas, areas), by_level


def oks_nms(
  keypoints_xy: np.ndarray,
  areas: np.ndarray,
  scores: np.ndarray,
  threshold: float = 0.9,
  sigmas: np.ndarray = COCO_SIGMAS,
) -> np.ndarray:
  """Returns which detections of one image stay, best first: none is more like a better one than `threshold`.

  As top-down methods are evaluated with boxes of a detector (Xiao et al. 2018).

  Args:
    keypoints_xy: (M, J, 2) pixels.
    areas: (M,) square pixels, of the boxes that they were found in; two are compared at their mean.
    scores: (M,) float.
    threshold: the largest OKS that two may have.
    sigmas: (J,) one for each joint.
  """
  keypoints_xy, areas = np.asarray(keypoints_xy, np.float64), np.asarray(areas, np.float64)
  rest, kept = np.argsort(-np.asarray(scores), kind="stable"), []
  while len(rest):
    best, rest = rest[0], rest[1:]
    kept.append(best)
    squares = ((keypoints_xy[rest] - keypoints_xy[best]) ** 2).sum(-1)
    rest = rest[_similarity(squares, (areas[rest] + areas[best])[:, None] / 2, sigmas).mean(-1) <= threshold]
  return np.array(kept, int)


def _evaluate(true: TruePersons, found: DetectedPersons, sigmas: np.ndarray, areas: np.ndarray) -> KeypointAP:
  labeled = _labeled(true)

  def likeness(rows: np.ndarray, true_rows: np.ndarray) -> np.ndarray:
    places = found.keypoints_xy[rows][:, None]  # (d, 1, J, 2)
    v = true.keypoints[true_rows][..., 2] > 0  # (g, J)
    corner, size = np.split(true.boxes_xywh[true_rows][:, None], 2, axis=-1)  # (g, 1, 2)
    to_joint = places - np.where(v[..., None], true.keypoints[true_rows][..., :2], 0.0)
    to_box = np.maximum(corner - size - places, 0) + np.maximum(places - (corner + 2 * size), 0)
    counts = v | ~labeled[true_rows][:, None]
    squares = (np.where(labeled[true_rows][:, None, None], to_joint, to_box) ** 2).sum(-1)  # (d, g, J)
    similarity = _similarity(squares, true.areas[true_rows][:, None], sigmas)
    return np.where(counts, similarity, 0.0).sum(-1) / counts.sum(-1)

  matches = match_objects(
    likeness,
    true.images,
    true.areas,
    true.crowd,
    true.ignored,
    found.images,
    areas,
    found.scores,
    (ALL_AREAS, MEDIUM, LARGE),
    _MOST,
  )
  if not matches.objects[0]:
    raise ValueError(
      f"none of the {len(true.images)} persons counts: expected one with a labeled joint who is not ignored, no crowd"
    )
  numbers = {}
  for name, of_area in (("AP", matches.precision), ("AR", matches.recall)):
    every, medium, large = (of_area(a) for a in range(3))
    numbers |= {
      name: every.mean(),
      f"{name}50": every[0],
      f"{name}75": every[5],
      f"{name}_medium": medium.mean(),
      f"{name}_large": large.mean(),
    }
  return KeypointAP(**{name: float(number) for name, number in numbers.items()}, persons=int(matches.objects[0]))


def _similarity(squares: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
  return np.exp(-squares / (2 * np.asarray(sigmas)) ** 2 / (areas + np.spacing(1)) / 2)


def _labeled(true: TruePersons) -> np.ndarray:
  return (true.keypoints[..., 2] > 0).any(1)


def _some_count(true: TruePersons) -> bool:
  return bool((~true.ignored & ~true.crowd).any())


def _areas_around(keypoints_xy: np.ndarray) -> np.ndarray:
  return np.ptp(keypoints_xy, axis=1).prod(-1)


def _rows(part: TruePersons | DetectedPersons, kept: np.ndarray):
  return type(part)(**{field.name: getattr(part, field.name)[kept] for field in dataclasses.fields(part)})


def _checked(true: TruePersons, found: DetectedPersons, joints: int) -> tuple[TruePersons, DetectedPersons]:
  """Returns both with float64 numbers, shapes and values checked, and `ignored` filled in."""
  keypoints = np.asarray(true.keypoints, np.float64)
  ignored = true.ignored
  if keypoints.shape[-1:] == (3,):
    keypoints = np.where(keypoints[..., 2:] > 0, keypoints, 0.0)
    ignored = ~(keypoints[..., 2] > 0).any(-1) if ignored is None else ignored
  *persons, crowd, ignored = checked_rows(
    "true",
    true.images,
    keypoints=(keypoints, (joints, 3)),
    boxes_xywh=(true.boxes_xywh, (4,)),
    areas=(true.areas, ()),
    crowd=(true.crowd, ()),
    ignored=(ignored, ()),
  )
  detected = checked_rows(
    "found", found.images, keypoints_xy=(found.keypoints_xy, (joints, 2)), scores=(found.scores, ())
  )
  return TruePersons(*persons, crowd > 0, ignored > 0), DetectedPersons(*detected)
