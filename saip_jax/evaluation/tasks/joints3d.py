"""3-D joints of a person: where they lie from the middle of the hips, as a linear layer says from one image."""

import numpy as np

from saip_jax.evaluation.encoders import Encoder, encode_pooled
from saip_jax.evaluation.metrics.pose3d import evaluate_pose3d
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, Labelled, groups
from saip_jax.evaluation.tasks.base import Result, facts_of

_ROOTS = (("left_hip", "right_hip"), ("pelvis",))


def joints_of(images: Labelled) -> tuple[list[str], np.ndarray]:
  """Returns the names of the joints and where they are, (n, J, 3) millimetres in the camera's frame, nan if unknown."""
  built_in = "landmarks" in images.legend
  names = list(images.legend["landmarks"]) if built_in else images.joint_names()
  places = images.of_first_persons("landmarks_xyz" if built_in else "joints_xyz", "joints3d")
  unknown = [np.nan] * 3
  return names, 1e3 * np.array([[unknown if p is None else p for p in person] for person in places], np.float64)


def linear(encoder: Encoder, data: Data) -> Result:
  """Ridge regression from image features and cells averaged over an 8x4 grid."""
  train, test = data.train_and_test()
  (names, places), (_, truth) = joints_of(train), joints_of(test)
  root = next(([names.index(joint) for joint in root] for root in _ROOTS if set(root) <= set(names)), None)
  if root is None:
    raise ValueError(f"the 3-D joints of {train.source.identity['name']!r} are {', '.join(names)}: expected left_hip "
                     "and right_hip, or pelvis, to measure from")
  places -= places[:, root].mean(1, keepdims=True)
  damaged: list[str] = []
  rows, features = encode_pooled(encoder, train.source, damaged)
  places = places[rows].reshape(len(rows), -1)
  probe = fit_ridge(features, places, ~np.isnan(places), groups(train)[rows])
  rows, features = encode_pooled(encoder, test.source, damaged)
  whole = ~np.isnan(truth[rows]).any((1, 2))
  found = evaluate_pose3d(probe.predict(features).reshape(len(rows), -1, 3)[whole], truth[rows][whole], root)
  facts = facts_of(train=train, test=test) | {
      "joints": names, "root": " + ".join(names[joint] for joint in root), "persons": found.persons,
      "persons_with_unknown_joints": int((~whole).sum()), "ridge_strength": probe.strength,
  }
  return Result({"MPJPE_mm": found.MPJPE, "PA-MPJPE_mm": found.PA_MPJPE}, facts, damaged)
