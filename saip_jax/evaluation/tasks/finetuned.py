"""What the heads of fine-tuned networks say, measured as probes of frozen features are.

A network is an `Encoder` that gives what its head says in place of features: of whole images or of places.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np
from scipy.special import expit

from input_pipeline.body import whole_body_names
from input_pipeline.fields.captions import word_numbers
from input_pipeline.fields.joints import joint_list
from input_pipeline.fields.joints_xyz import joints_in_space
from saip_jax.evaluation.encoders import Encoder, encode_images, encode_source, encoder_of
from saip_jax.evaluation.splits import Data, LabeledImages
from saip_jax.evaluation.tasks import (
  attributes as attribute_task,
  detection as detection_task,
  joints3d as joints3d_task,
  multi_parsing as multi_parsing_task,
  parsing as parsing_task,
  text as text_task,
)
from saip_jax.evaluation.tasks.base import Protocol, Result, facts_of
from saip_jax.evaluation.tasks.grid_cells import average_flipped
from saip_jax.evaluation.tasks.joints import TrueJoints, score_joints, true_joints, true_whole_body
from saip_jax.evaluation.tasks.keypoints import maxima
from saip_jax.evaluation.tasks.reid import nearest_persons
from saip_jax.interop.weights import LoadedBackbone, Preprocessing
from saip_jax.methods.finetune.detection import read_maps
from saip_jax.methods.finetune.method import Finetune

_SENTENCES = 256  # computed at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextEncoder(Encoder):
  """Images and captions to features that are compared by cosine.

  Attributes:
    of_text: captions -> (n, D) float32.
  """

  of_text: Callable[[list[str]], np.ndarray]


def encoder_alone(method: Finetune, params, method_state, facts: dict) -> Encoder:
  """Returns the backbone, whose features are used as they are."""
  prepare = Preprocessing(method.backbone.image_hw)
  return encoder_of(
    LoadedBackbone(method.backbone, method.export_params(params, method_state, "student"), prepare), facts
  )


def head_outputs(method: Finetune, params, method_state, facts: dict) -> Encoder:
  """Returns the network with its head, with float32 products."""
  image_hw = tuple(method.backbone.image_hw)
  prepare = Preprocessing(image_hw)

  @jax.jit
  def outputs(params, method_state, images_u8):
    with jax.default_matmul_precision("highest"):
      return method.outputs(params, method_state, prepare(images_u8))

  params, method_state = jax.device_put((params, method_state))

  def apply(images_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    said = np.asarray(outputs(params, method_state, images_u8))
    return (said, said[:, None, None]) if said.ndim == 2 else (said.mean((1, 2)), said)

  return Encoder(facts | {"image_hw": list(image_hw)}, image_hw, apply)


def text_and_images(method: Finetune, params, method_state, facts: dict) -> TextEncoder:
  """Returns the network with its head, which takes captions too."""
  images = head_outputs(method, params, method_state, facts)

  @jax.jit
  def say(params, method_state, sentences):
    with jax.default_matmul_precision("highest"):
      return method.head.apply(method.head_variables(params, method_state), sentences, method="text")

  def of_text(captions: list[str]) -> np.ndarray:
    sentences = np.stack([word_numbers(caption) for caption in captions])
    parts = range(0, len(captions), _SENTENCES)
    return np.concatenate([np.asarray(say(params, method_state, sentences[i : i + _SENTENCES])) for i in parts])

  return TextEncoder(facts=images.facts, image_hw=images.image_hw, apply=images.apply, of_text=of_text)


def text(network: TextEncoder, data: Data) -> Result:
  """Captions and pictures by the cosine of what the network makes of them."""
  train, test = data.train_and_test()
  asked, damaged = text_task.image_captions(test), []
  rows, features = encode_images(network, test.source, damaged)
  facts = facts_of(train=train, test=test) | {"text_encoder": "a small transformer, learned with the task"}
  return text_task.score_text_retrieval(network.of_text, features, rows, test, asked, facts, damaged)


def attributes(network: Encoder, data: Data) -> Result:
  """An attribute is there where its logit is positive."""
  train, test = data.train_and_test()
  names, truth = attribute_task.attribute_labels(test)
  _check_names(train.legend["attributes"], names, test)
  damaged: list[str] = []
  rows, logits = encode_images(network, test.source, damaged)
  return attribute_task.score_attributes(
    expit(logits.astype(np.float64)), truth[rows], names, facts_of(train=train, test=test), damaged
  )


def keypoints(network: Encoder, data: Data) -> Result:
  """Joints lie at the maxima of their heat maps, refined as in `keypoints.maxima`."""
  train, test = data.train_and_test()
  test = test.having("keypoints")
  return _keypoints(network, train, test, joint_list(train.source)[1], true_joints(test))


def whole_body(network: Encoder, data: Data) -> Result:
  """As `keypoints`, of the whole body."""
  train, test = data.train_and_test()
  return _keypoints(network, train, test, whole_body_names(train.legend), true_whole_body(test))


def _keypoints(
  network: Encoder, train: LabeledImages, test: LabeledImages, names: Sequence[str], truth: TrueJoints
) -> Result:
  _check_names(names, truth.names, test)
  damaged, found, rows = [], [], []
  for part in encode_source(network, test.source, damaged):
    found.append(maxima(average_flipped(_as_said, part, names), [test.source.name(int(row)) for row in part.rows]))
    rows.append(part.rows)
  places, heights = map(np.concatenate, zip(*found))
  return score_joints(places, heights, np.concatenate(rows), truth, facts_of(train=train, test=test), damaged)


def detection(network: Encoder, data: Data) -> Result:
  """Persons are where the map of middles is largest among its neighbors, with the box that is said there."""
  train, test = data.train_and_test(whole=True)
  damaged, found, rows = [], [], []
  for part in encode_source(network, test.source, damaged):
    found += map(_boxes, *map(np.asarray, read_maps(part.cells)))
    rows.append(part.rows)
  return detection_task.score_detections(found, np.concatenate(rows), test, facts_of(train=train, test=test), damaged)


def _boxes(logits: np.ndarray, sides: np.ndarray) -> detection_task.Detections:
  """(h, w) of middles and (h, w, 4) cells to left, top, right, bottom -> boxes and scores."""
  rows, columns, scores = detection_task.highest_peaks(expit(logits.astype(np.float64)))
  left, top, right, bottom = sides[rows, columns].T
  boxes = np.stack([columns + 0.5 - left, rows + 0.5 - top, left + right, top + bottom], axis=1)
  return boxes / np.tile(logits.shape[::-1], 2), scores


def parsing(network: Encoder, data: Data) -> Result:
  """The most probable class of each pixel; logits are enlarged bilinearly to the image."""
  train, test = data.train_and_test()
  names, damaged = parsing_task.part_names(test), []
  _check_names(parsing_task.part_names(train), names, test)
  said = (
    each
    for part in encode_source(network, test.source, damaged)
    for each in zip(part.rows.tolist(), average_flipped(_as_said, part, names))
  )
  return parsing_task.score_parsing(said, names, test, facts_of(train=train, test=test), damaged)


def multi_parsing(network: Encoder, data: Data) -> Result:
  """As `parsing`, and pixels belong to the middle that is nearest to where they point."""
  train, test = data.train_and_test(whole=True)
  names, damaged = parsing_task.part_names(test), []
  _check_names(parsing_task.part_names(train), names, test)

  def said():
    for part in encode_source(network, test.source, damaged):
      maps = np.split(part.cells, [len(names), len(names) + 1], axis=-1)
      yield from zip(part.rows.tolist(), *maps)

  return multi_parsing_task.score_multi_parsing(said(), names, test, 1, facts_of(train=train, test=test), damaged)


def joints3d(network: Encoder, data: Data) -> Result:
  """Joints lie where the head says, in meters."""
  train, test = data.train_and_test()
  (names, truth), damaged = joints3d_task.true_joints3d(test), []
  _check_names(joints_in_space(train.source), names, test)
  rows, places = encode_images(network, test.source, damaged)
  return joints3d_task.score_joints3d(
    1e3 * places.reshape(len(rows), -1, 3), truth[rows], names, facts_of(train=train, test=test), damaged
  )


def _as_said(maps: np.ndarray) -> np.ndarray:
  return maps


def _check_names(of_train: Sequence[str], names: Sequence[str], test: LabeledImages) -> None:
  """Raises ValueError where what is measured on has other labels than what was trained on."""
  if list(of_train) != list(names):
    raise ValueError(
      f"{test.source.identity['name']!r} has labels of {', '.join(names)}, what was trained on of "
      f"{', '.join(of_train)}: expected the same ones"
    )


@dataclasses.dataclass(frozen=True)
class FinetunedTask:
  """How a network fine-tuned on a task is measured.

  Attributes:
    protocol: what measures it.
    open: (method, params, method_state, facts) -> what that takes.
    flip_test: whether it can average over the mirror image, see `encoders.flip_tested`.
  """

  protocol: Protocol
  open: Callable[..., Encoder] = head_outputs
  flip_test: bool = False


FINETUNED: dict[str, FinetunedTask] = {
  "reid": FinetunedTask(nearest_persons, encoder_alone, flip_test=True),
  "text": FinetunedTask(text, text_and_images, flip_test=True),
  "attributes": FinetunedTask(attributes, flip_test=True),
  "keypoints": FinetunedTask(keypoints, flip_test=True),
  "wholebody": FinetunedTask(whole_body, flip_test=True),
  "detection": FinetunedTask(detection),
  "parsing": FinetunedTask(parsing, flip_test=True),
  "segmentation": FinetunedTask(parsing, flip_test=True),
  "multi_parsing": FinetunedTask(multi_parsing),
  "joints3d": FinetunedTask(joints3d),
}
"""By task; those of `supervised.SUPERVISED`."""
