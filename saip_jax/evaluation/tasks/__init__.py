"""The tasks of `saip evaluate`, by name."""

import functools

from saip_jax.evaluation.finetuned_networks import encoder_of_text, encoder_without_head
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
  parsing,
  reid,
  text,
)
from saip_jax.evaluation.tasks.base import FinetunedProtocol, Task

TASKS = {
  "reid": Task(
    "person re-identification",
    {"nearest": reid.nearest_persons, "stripes": reid.nearest_persons_by_stripes},
    flip_tests=("nearest", "stripes"),
    finetuned=FinetunedProtocol(reid.nearest_persons, encoder_without_head, flip_test=True),
  ),
  "text": Task(
    "text-to-image retrieval",
    {"linear": text.probe_text},
    flip_tests=("linear",),
    finetuned=FinetunedProtocol(text.finetuned_text, encoder_of_text, flip_test=True),
  ),
  "attributes": Task(
    "attribute recognition",
    {
      "linear": attributes.probe_attributes,
      "stripes": attributes.probe_attribute_stripes,
      "knn": attributes.nearest_attributes,
    },
    flip_tests=("linear", "stripes", "knn"),
    finetuned=FinetunedProtocol(attributes.finetuned_attributes, flip_test=True),
  ),
  "keypoints": Task(
    "2-D keypoints",
    {"heatmap": keypoints.probe_heat_maps, "coordinates": keypoints.probe_coordinates},
    flip_tests=("heatmap",),
    finetuned=FinetunedProtocol(keypoints.finetuned_keypoints, flip_test=True),
  ),
  "wholebody": Task(
    "whole-body landmarks",
    {"heatmap": functools.partial(keypoints.probe_heat_maps, truth_of=joints.true_whole_body, needs=None)},
    flip_tests=("heatmap",),
    finetuned=FinetunedProtocol(keypoints.finetuned_whole_body, flip_test=True),
  ),
  "detection": Task(
    "pedestrian detection",
    {"linear": detection.probe_detection},
    detection.IMAGE_HW,
    finetuned=FinetunedProtocol(detection.finetuned_detection),
  ),
  "parsing": Task(
    "human parsing",
    {"linear": parsing.probe_parsing},
    flip_tests=("linear",),
    finetuned=FinetunedProtocol(parsing.finetuned_parsing, flip_test=True),
  ),
  "segmentation": Task(
    "segmentation of parts and clothes in photos",
    {"linear": parsing.probe_parsing},
    (384, 256),
    ("linear",),
    FinetunedProtocol(parsing.finetuned_parsing, flip_test=True),
  ),
  "multi_parsing": Task(
    "multi-person parsing in photos",
    {"linear": multi_parsing.probe_multi_parsing},
    detection.IMAGE_HW,
    finetuned=FinetunedProtocol(multi_parsing.finetuned_multi_parsing),
  ),
  "joints3d": Task(
    "3-D joints", {"linear": joints3d.probe_joints3d}, finetuned=FinetunedProtocol(joints3d.finetuned_joints3d)
  ),
  "depth": Task("depth of the person", {"linear": depth.probe_depth}),
  "cross_modality": Task(
    "parsing across RGB and depth",
    {"linear": cross_modality.probe_across_modalities},
    open=cross_modality.open_modality_encoders,
  ),
  "correspondence": Task("correspondence of joints between two images", {"nearest": correspondence.nearest_cells}),
}
