"""The tasks that an encoder is measured on, by name."""

import functools

from saip_jax.evaluation.tasks import (
  attributes,
  correspondence,
  cross_modality,
  depth,
  detection,
  joints,
  joints3d,
  keypoints,
  multi_parsing,
  neighbors,
  parsing,
  reid,
  text,
)
from saip_jax.evaluation.tasks.base import Task

TASKS = {
  "reid": Task(
    "person re-identification",
    {"nearest": reid.nearest_neighbor, "stripes": reid.stripes},
    flip_tests=("nearest", "stripes"),
  ),
  "text": Task("text-to-image retrieval", {"linear": text.linear}, flip_tests=("linear",)),
  "attributes": Task(
    "attribute recognition",
    {"linear": attributes.linear, "stripes": attributes.stripes, "knn": neighbors.attributes},
    flip_tests=("linear", "stripes", "knn"),
  ),
  "keypoints": Task(
    "2-D keypoints", {"heatmap": keypoints.heat_maps, "coordinates": keypoints.coordinates}, flip_tests=("heatmap",)
  ),
  "wholebody": Task(
    "whole-body landmarks",
    {"heatmap": functools.partial(keypoints.heat_maps, truth_of=joints.whole_body_of, needs=None)},
    flip_tests=("heatmap",),
  ),
  "detection": Task("pedestrian detection", {"linear": detection.linear}, detection.IMAGE_HW),
  "parsing": Task("parsing into parts", {"linear": parsing.linear}, flip_tests=("linear",)),
  "segmentation": Task("parts and clothes in photos", {"linear": parsing.linear}, (384, 256), ("linear",)),
  "multi_parsing": Task("parsing of everybody in a photo", {"linear": multi_parsing.linear}, detection.IMAGE_HW),
  "joints3d": Task("3-D joints", {"linear": joints3d.linear}),
  "depth": Task("depth of the person", {"linear": depth.linear}),
  "cross_modality": Task(
    "parts from pictures and from depth", {"linear": cross_modality.linear}, open=cross_modality.open_encoders
  ),
  "correspondence": Task("joints found again in another picture", {"nearest": correspondence.nearest}),
}
