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
    {"nearest": reid.nearest_persons, "stripes": reid.nearest_persons_by_stripes},
    flip_tests=("nearest", "stripes"),
  ),
  "text": Task("text-to-image retrieval", {"linear": text.probe_text}, flip_tests=("linear",)),
  "attributes": Task(
    "attribute recognition",
    {
      "linear": attributes.probe_attributes,
      "stripes": attributes.probe_attribute_stripes,
      "knn": neighbors.nearest_attributes,
    },
    flip_tests=("linear", "stripes", "knn"),
  ),
  "keypoints": Task(
    "2-D keypoints",
    {"heatmap": keypoints.probe_heat_maps, "coordinates": keypoints.probe_coordinates},
    flip_tests=("heatmap",),
  ),
  "wholebody": Task(
    "whole-body landmarks",
    {"heatmap": functools.partial(keypoints.probe_heat_maps, truth_of=joints.true_whole_body, needs=None)},
    flip_tests=("heatmap",),
  ),
  "detection": Task("pedestrian detection", {"linear": detection.probe_detection}, detection.IMAGE_HW),
  "parsing": Task("parsing into parts", {"linear": parsing.probe_parsing}, flip_tests=("linear",)),
  "segmentation": Task("parts and clothes in photos", {"linear": parsing.probe_parsing}, (384, 256), ("linear",)),
  "multi_parsing": Task(
    "parsing of everybody in a photo", {"linear": multi_parsing.probe_multi_parsing}, detection.IMAGE_HW
  ),
  "joints3d": Task("3-D joints", {"linear": joints3d.probe_joints3d}),
  "depth": Task("depth of the person", {"linear": depth.probe_depth}),
  "cross_modality": Task(
    "parts from pictures and from depth",
    {"linear": cross_modality.probe_across_modalities},
    open=cross_modality.open_modality_encoders,
  ),
  "correspondence": Task("joints found again in another picture", {"nearest": correspondence.nearest_cells}),
}
