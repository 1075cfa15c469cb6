"""The tasks that an encoder is measured on, by name."""

from saip_jax.evaluation.tasks import attributes, depth, detection, joints3d, keypoints, parsing, reid, text
from saip_jax.evaluation.tasks.base import Task

TASKS = {
    "reid": Task("person re-identification", {"nearest": reid.nearest_neighbour}),
    "text": Task("text-to-image retrieval", {"linear": text.linear}),
    "attributes": Task("attribute recognition", {"linear": attributes.linear}),
    "keypoints": Task("2-D keypoints", {"heatmap": keypoints.heat_maps, "coordinates": keypoints.coordinates}),
    "detection": Task("pedestrian detection", {"linear": detection.linear}, detection.IMAGE_HW),
    "parsing": Task("parsing into parts", {"linear": parsing.linear}),
    "joints3d": Task("3-D joints", {"linear": joints3d.linear}),
    "depth": Task("depth of the person", {"linear": depth.linear}),
}
