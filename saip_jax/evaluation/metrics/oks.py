"""Multi-person keypoints: average precision by object keypoint similarity (OKS).

The similarity of a detection and a true person of area s^2, over the labeled joints (v > 0):

    OKS = mean of exp(-d^2 / (2 s^2 (2 sigma)^2))

with d the distance and sigma the standard deviation of annotators for that joint. For a person without a labeled joint,
d is the distance to the person's box, doubled in size, and all joints count. Matching follows coco_matching.py, with at
most 20 detections per image; the area of a detection is that of the box around its keypoints.

Ignored persons need not be found, and a detection on one is not counted. The evaluators of COCO and CrowdPose ignore
persons with `num_keypoints` 0; in CrowdPose it counts only visible joints, so such persons may have labeled joints.
xtcocotools, the evaluator of AIC and COCO-WholeBody, ignores persons without a labeled joint.

COCO has 17 joints (Lin et al. 2014), COCO-WholeBody 133 (Jin et al. 2020, as xtcocotools), CrowdPose 14 (Li et al.
2019), AIC 14 others (Wu et al. 2017).
"""

import dataclasses

import numpy as np

from input_pipeline.body import COCO_SIGMAS, CROWDPOSE_SIGMAS, WHOLE_BODY_PARTS, WHOLE_BODY_SIGMAS
from saip_jax.evaluation.metrics.coco_matching import ALL_AREAS, LARGE, MEDIUM, checked_rows, match_objects

CROWD_LEVELS = {"easy": (0.0, 0.2), "medium": (0.2, 0.8), "hard": (0.8, np.inf)}
"""Level -> crowd index from, and below; as in the published code (the paper has 0.1 for 0.2)."""

_MOST = 20
BOX_SHARE = 0.53
"""Area of a person without an outline as a fraction of the box: in CrowdPose's and AIC's published numbers, and in
xtcocotools for files without areas."""


@dataclasses.dataclass(frozen=True)
class TruePersons:
  """Annotations of N persons.

  Attributes:
    images: (N,) int, the image of each person.
    keypoints: (N, J, 3) x and y in pixels, and v > 0 if labeled; other values are not read.
    boxes_xywh: (N, 4) left, top, width and height in pixels.
    areas: (N,) square pixels of their outlines.
    crowd: (N,) bool: a crowd of persons; ignored, and matched with any number of detections.
    ignored: (N,) bool: other ignored persons; None for those without a labeled joint.
  """

  images: np.ndarray
  keypoints: np.ndarray
  boxes_xywh: np.ndarray
  areas: np.ndarray
  crowd: np.ndarray
  ignored: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class DetectedPersons:
  """M detected persons.

  Attributes:
    images: (M,) int, as in `TruePersons`.
    keypoints_xy: (M, J, 2) pixels.
    scores: (M,) float confidences.
  """

  images: np.ndarray
  keypoints_xy: np.ndarray
  scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class KeypointAP:
  """Results of `evaluate_keypoints`, 0 to 1; nan if no person of that size counts (pycocotools writes -1).

  Attributes:
    AP: average precision, mean over OKS 0.50, 0.55, ..., 0.95.
    AP50: at OKS 0.50.
    AP75: at OKS 0.75.
    AP_medium: of persons of 32^2 to 96^2 pixels.
    AP_large: of larger ones.
    AR: average recall, and so on.
    persons: number of persons that count.
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
    true: all persons of all images, including crowds.
    found: all detections; those in images without persons are false positives.
    sigmas: (J,) one for each joint.

  Raises:
    ValueError: wrong shapes, numbers that are not finite, or all persons are ignored.
  """
  true, found = _checked(true, found, len(sigmas))
  return _evaluate(true, found, np.asarray(sigmas), _areas_around(found.keypoints_xy))


def evaluate_whole_body(true: TruePersons, found: DetectedPersons) -> dict[str, KeypointAP | None]:
  """Returns the scores of each of `WHOLE_BODY_PARTS`; None if no person has a labeled joint of that part.

  A detection has the same score and area, that of its 17 body joints, for all parts, as in xtcocotools.

  Args:
    true: persons with 133 joints; persons without a labeled joint of a part are ignored for that part.
    found: detections with 133 joints.

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
  """Returns the scores of all images, and AP of the images of each of `CROWD_LEVELS`; nan if no person counts.

  Args:
    true: persons with 14 joints; `areas` are replaced by 0.53 of the boxes, `ignored` is num_keypoints == 0.
    found: detections.
    crowd_index: image -> crowd index, 0 to 1.
    sigmas: (14,) one for each joint.

  Raises:
    ValueError: as `evaluate_keypoints`, or an image without a crowd index.
  """
  true, found = _checked(true, found, len(sigmas))
  true = dataclasses.replace(true, areas=true.boxes_xywh[:, 2:].prod(1) * BOX_SHARE)
  unknown = sorted({*true.images.tolist(), *found.images.tolist()} - crowd_index.keys())
  if unknown:
    raise ValueError(f"crowd_index lacks image {unknown[0]}: expected all images")
  areas, by_level = _areas_around(found.keypoints_xy), {}
  for level, (low, high) in CROWD_LEVELS.items():
    own, seen = (np.array([low <= crowd_index[i] < high for i in part.images.tolist()], bool) for part in (true, found))
    persons = _rows(true, own)
    of_level = _evaluate(persons, _rows(found, seen), sigmas, areas[seen]) if _some_count(persons) else None
    by_level[level] = of_level.AP if of_level else float("nan")
  return _evaluate(true, found, sigmas, areas), by_level


def _evaluate(true: TruePersons, found: DetectedPersons, sigmas: np.ndarray, areas: np.ndarray) -> KeypointAP:
  labeled = _labeled(true)

  def similarity(rows: np.ndarray, true_rows: np.ndarray) -> np.ndarray:
    places = found.keypoints_xy[rows][:, None]  # (d, 1, J, 2)
    v = true.keypoints[true_rows][..., 2] > 0  # (g, J)
    corner, size = np.split(true.boxes_xywh[true_rows][:, None], 2, axis=-1)  # (g, 1, 2)
    to_joint = places - np.where(v[..., None], true.keypoints[true_rows][..., :2], 0.0)
    to_box = np.maximum(corner - size - places, 0) + np.maximum(places - (corner + 2 * size), 0)
    counts = v | ~labeled[true_rows][:, None]
    squares = (np.where(labeled[true_rows][:, None, None], to_joint, to_box) ** 2).sum(-1)  # (d, g, J)
    values = _similarity(squares, true.areas[true_rows][:, None], sigmas)
    return np.where(counts, values, 0.0).sum(-1) / counts.sum(-1)

  matches = match_objects(
    similarity,
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
      f"none of the {len(true.images)} persons counts: expected one with a labeled joint that is not"
      " ignored and not a crowd"
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


def _rows(part: TruePersons | DetectedPersons, rows: np.ndarray):
  return type(part)(**{field.name: getattr(part, field.name)[rows] for field in dataclasses.fields(part)})


def _checked(true: TruePersons, found: DetectedPersons, joints: int) -> tuple[TruePersons, DetectedPersons]:
  """Returns both with float64 numbers, checked shapes and values, and `ignored` filled in."""
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
