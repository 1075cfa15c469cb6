"""What the heads of fine-tuned networks say, measured as probes of frozen features are.

A network is an `Encoder` that gives what its head says in place of features: of whole images or of places.
"""

import numpy as np
from scipy.special import expit

from input_pipeline.people.landmarks import COCO_JOINTS
from saip_jax.evaluation.encoders import Encoder, encode, encode_images
from saip_jax.evaluation.splits import Data
from saip_jax.evaluation.tasks import attributes as attribute_task
from saip_jax.evaluation.tasks import parsing as parsing_task
from saip_jax.evaluation.tasks.base import Protocol, Result, facts_of
from saip_jax.evaluation.tasks.joints import joints_of, scored
from saip_jax.evaluation.tasks.keypoints import maxima
from saip_jax.evaluation.tasks.reid import nearest_neighbour


def attributes(network: Encoder, data: Data) -> Result:
  """An attribute is there where its logit is positive."""
  train, test = data.train_and_test()
  names, truth = attribute_task.attributes_of(test)
  damaged: list[str] = []
  rows, logits = encode_images(network, test.source, damaged)
  return attribute_task.scored(
      expit(logits.astype(np.float64)), truth[rows], names, facts_of(train=train, test=test), damaged)


def keypoints(network: Encoder, data: Data) -> Result:
  """Joints lie at the maxima of their heat maps, refined as in `keypoints.maxima`.

  The head draws COCO's 17; those that the data set has, by their names, are measured.
  """
  train, test = data.train_and_test()
  truth, damaged = joints_of(test), []
  plain = [name.lower().replace(" ", "_") for name in truth.names]
  unknown = [name for name in plain if name not in COCO_JOINTS]
  if unknown:
    raise ValueError(f"{test.source.identity['name']!r} has the joint {unknown[0]}: fine-tuned networks say COCO's 17 "
                     "alone, choose other --data")
  columns = [COCO_JOINTS.index(name) for name in plain]
  found, rows = [], []
  for part in encode(network, test.source, damaged):
    found.append(maxima(part.cells[..., columns]))
    rows.append(part.rows)
  places, heights = map(np.concatenate, zip(*found))
  return scored(places, heights, np.concatenate(rows), truth, facts_of(train=train, test=test), damaged)


def parsing(network: Encoder, data: Data) -> Result:
  """The most probable class of each pixel; logits are enlarged bilinearly to the image."""
  train, test = data.train_and_test()
  damaged: list[str] = []
  said = ((int(row), maps) for part in encode(network, test.source, damaged)
          for row, maps in zip(part.rows, part.cells))
  return parsing_task.scored(said, parsing_task.names_of(test), test, facts_of(train=train, test=test), damaged)


FINETUNED: dict[str, Protocol] = {
    "reid": nearest_neighbour,
    "attributes": attributes,
    "keypoints": keypoints,
    "parsing": parsing,
}
"""Task -> how a network fine-tuned on it is measured; that of re-identification is the encoder alone."""
