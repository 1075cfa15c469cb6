"""3-D joints of a person, relative to the center of the hips, predicted from one image."""

from typing import Any

import numpy as np

from input_pipeline.fields.joints_xyz import joints_in_space, root_of
from saip_jax.evaluation.encoders import Encoder, encode_images, encode_pooled
from saip_jax.evaluation.metrics.pose3d import evaluate_pose3d
from saip_jax.evaluation.resampling import Resampling, mean_of
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from saip_jax.evaluation.tasks.base import Result, check_same_labels, facts_of


def true_joints3d(images: LabeledImages) -> tuple[list[str], np.ndarray]:
  """Returns the names and the places of joints, (n, J, 3) millimeters in the camera's frame, nan if unknown."""
  built_in = "landmarks" in images.legend
  names = list(images.legend["landmarks"]) if built_in else images.joint_names()
  places = images.of_first_persons("landmarks_xyz" if built_in else "joints_xyz", "joints3d")
  unknown = [np.nan] * 3
  return names, 1e3 * np.array([[unknown if p is None else p for p in person] for person in places], np.float64)


def probe_joints3d(encoder: Encoder, data: Data) -> Result:
  """Ridge regression from image features and cells averaged over an 8x4 grid."""
  train, test = data.train_and_test()
  (names, places), (_, truth) = true_joints3d(train), true_joints3d(test)
  root = root_of(names, repr(train.source.identity["name"]))
  places -= places[:, root].mean(1, keepdims=True)
  damaged: list[str] = []
  rows, features = encode_pooled(encoder, train.source, damaged)
  places = places[rows].reshape(len(rows), -1)
  probe = fit_ridge(features, places, ~np.isnan(places), groups(train)[rows])
  rows, features = encode_pooled(encoder, test.source, damaged)
  facts = facts_of(train=train, test=test) | {"ridge_strength": probe.strength}
  places = probe.predict(features).reshape(len(rows), -1, 3)
  return score_joints3d(places, truth[rows], names, facts, damaged, groups(test)[rows])


def finetuned_joints3d(network: Encoder, data: Data) -> Result:
  """The head predicts the places of joints in meters."""
  train, test = data.train_and_test()
  (names, truth), damaged = true_joints3d(test), []
  check_same_labels(joints_in_space(train.source), names, test)
  rows, places = encode_images(network, test.source, damaged)
  facts = facts_of(train=train, test=test)
  places = 1e3 * places.reshape(len(rows), -1, 3)
  return score_joints3d(places, truth[rows], names, facts, damaged, groups(test)[rows])


def score_joints3d(
  found_mm: np.ndarray,
  true_mm: np.ndarray,
  names: list[str],
  facts: dict[str, Any],
  damaged: list[str],
  persons: np.ndarray,
) -> Result:
  """Measures predicted 3-D joints.

  Args:
    found_mm: (n, J, 3) millimeters, relative to any point.
    true_mm: (n, J, 3) millimeters of the same persons, nan if unknown.
    names: (J,) names of the joints.
    facts: facts about the protocol, see `Result`.
    damaged: see `Result`.
    persons: (n,) int group of each image, see `splits.groups`.
  """
  root, whole = root_of(names, "--data"), ~np.isnan(true_mm).any((1, 2))
  found = evaluate_pose3d(found_mm[whole], true_mm[whole], root)
  facts = facts | {
    "joints": names,
    "root": " + ".join(names[joint] for joint in root),
    "persons": found.persons,
    "persons_with_unknown_joints": int((~whole).sum()),
  }
  resampling = Resampling("MPJPE_mm", persons[whole], mean_of(found.errors, np.ones(found.persons)))
  return Result({"MPJPE_mm": found.MPJPE, "PA-MPJPE_mm": found.PA_MPJPE}, facts, damaged, resampling)
