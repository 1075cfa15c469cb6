"""Human parsing across modalities: a probe is fitted on dense maps of RGB or depth and tested on either.

A linear layer is fitted on the maps of one modality and tested on both (cross-modality supervision), or fitted on the
element-wise maximum of both and tested with one missing. Only the pixels of the person count: depth is known only
there, and would reveal the background.

Source: "Versatile Multi-Modal Pre-Training for Human-Centric Perception" (HCMoCo, arXiv 2203.13815); there the probe is
a small network that is trained together with the encoder.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.names import shown
from input_pipeline.records import IGNORE_LABEL
from saip_jax.evaluation.logistic import LogisticProbe, fit_classes
from saip_jax.evaluation.metrics.segmentation import confusion_matrix, segmentation_scores
from saip_jax.evaluation.metrics.similarity import Variation
from saip_jax.evaluation.resize import resized_batches
from saip_jax.evaluation.splits import Data, LabeledImages
from saip_jax.evaluation.tasks.base import Result, facts_of
from saip_jax.evaluation.tasks.depth import depth_of
from saip_jax.evaluation.tasks.grid_cells import average_over_cells, resize_bilinear
from saip_jax.evaluation.tasks.parsing import part_labels, part_names
from saip_jax.interop.weights import Preprocessing
from saip_jax.methods import METHODS
from saip_jax.methods.hcmoco.method import Hcmoco
from saip_jax.recipes import parse_config
from saip_jax.run_folder.files import CHECKPOINTS, CONFIG
from saip_jax.run_folder.folder import read_config
from saip_jax.run_folder.integrity import checkpoint_steps, newest_to_read
from saip_jax.run_folder.reading import read_model
from saip_jax.run_folder.remote import local
from saip_jax.views.rgbd import depth_image

MODALITIES = ("rgb", "depth", "both")
_BATCH = 64
_MOST_CELLS = 20_000  # to fit on, evenly spaced
_STRENGTH = 10.0  # of the probe's penalty, the same for all


@dataclasses.dataclass(frozen=True)
class RgbdPeople:
  """Persons at one size.

  Attributes:
    images_u8: (n, H, W, 3) RGB.
    depth_mm: (n, H, W) uint16, 0 outside the person.
    parts: (n, H, W) uint8 classes without the background; `IGNORE_LABEL` outside the person.
    names: names of the classes.
  """

  images_u8: np.ndarray
  depth_mm: np.ndarray
  parts: np.ndarray
  names: tuple[str, ...]


Maps = dict[str, np.ndarray]
"""Modality -> (n, h, w, D) unit vectors."""


@dataclasses.dataclass(frozen=True)
class ModalityEncoders:
  """The RGB and depth encoders of one run.

  Attributes:
    facts: JSON-able facts, for tables and records.
    image_hw: size in pixels of the input.
    apply: (B, H, W, 3) uint8 RGB and (B, H, W) uint16 millimeters -> `Maps`.
    variation: whether the maps of both differ between images.
  """

  facts: dict[str, Any]
  image_hw: tuple[int, int]
  apply: Callable[[np.ndarray, np.ndarray], Maps]
  variation: Variation = dataclasses.field(default_factory=Variation)


def open_modality_encoders(
  checkpoint: str, which: str = "student", image_hw: tuple[int, int] | None = None, seed: int = 0
) -> ModalityEncoders:
  """Returns the encoders of a run of HCMoCo, at its newest checkpoint; arguments as for `encoders.open_encoder`.

  Raises:
    ValueError: no such run, a run of another method, or unsupported options.
  """
  del seed
  if not (local(checkpoint, "--checkpoint") / CONFIG).is_file():
    raise ValueError(
      f"--checkpoint={checkpoint} is not a run: expected a run of hcmoco, which has encoders of RGB and of depth"
    )
  method, params, method_state, step = open_hcmoco_run(checkpoint)
  own_hw = tuple(method.backbone.image_hw)
  if which != "student" or image_hw not in (None, own_hw):
    raise ValueError(
      "--which and --image-hw cannot be set: RGB and depth are compared by both encoders of the run, at "
      f"{own_hw[0]}x{own_hw[1]}; leave them out"
    )
  return modality_encoders(method, params, method_state, {"checkpoint": f"step {step} of the run {checkpoint}"})


def probe_across_modalities(encoders: ModalityEncoders, data: Data) -> Result:
  """Logistic regressions of parts on the cells of each modality, tested on the modalities of `transfer_scores`."""
  train, test = data.train_and_test()
  damaged: list[str] = []
  fitted, tested = (read_people(part, encoders.image_hw, damaged) for part in (train, test))
  train_maps, test_maps = maps_of(encoders, fitted), maps_of(encoders, tested)
  found = transfer_scores(train_maps, fitted, test_maps, tested)
  facts = facts_of(train=train, test=test) | {
    "score": "mIoU of the parts, on the person",
    "persons": len(tested.parts),
    "parts": list(tested.names),
    "commonest_part_everywhere": round(chance_score(fitted, tested), 4),
    "place_in_the_picture": round(place_score(fitted, tested, train_maps["rgb"].shape[1:3]), 4),
    "strength": _STRENGTH,
  }
  headline = {"rgb -> depth": found["rgb -> depth"]}
  return Result(headline | found, facts, damaged)


def read_people(images: LabeledImages, image_hw: tuple[int, int], damaged: list[str]) -> RgbdPeople:
  """Returns all persons of a data set, resized; depth and parts by the nearest pixel.

  Args:
    images: images with depth and parts.
    image_hw: size in pixels.
    damaged: "name: reason" of each image that cannot be read is appended; it is left out.

  Raises:
    ValueError: an image has no depth or parts, or no image can be read.
  """
  names = part_names(images)
  pixels, depth, parts = [], [], []
  nearest = lambda plane: cv2.resize(plane, image_hw[::-1], interpolation=cv2.INTER_NEAREST)
  for batch in resized_batches(images.source, image_hw, _BATCH):
    for row, reason in enumerate(batch.reasons):
      i = batch.start + row
      if reason is not None:
        damaged.append(f"{shown(images.source.name(i))}: {reason}")
        continue
      labels = nearest(part_labels(images, i, len(names)))
      person = (labels > 0) & (labels != IGNORE_LABEL)
      pixels.append(batch.images_u8[row])
      depth.append(np.where(person, np.rint(1e3 * nearest(depth_of(images, i))), 0).astype(np.uint16))
      parts.append(np.where(person, labels - 1, IGNORE_LABEL).astype(np.uint8))
  if not pixels:
    raise ValueError(
      f"none of the {len(images)} images of {images.source.identity['name']!r} can be read; the first: {damaged[0]}"
    )
  return RgbdPeople(*map(np.stack, (pixels, depth, parts)), tuple(names[1:]))


def open_hcmoco_run(workdir) -> tuple[Hcmoco, dict, dict, int]:
  """Returns method (float32), `params`, `method_state` and step of the newest complete checkpoint of an HCMoCo run.

  Raises:
    ValueError: no such run, or a run of another method.
  """
  workdir = local(workdir, "--checkpoint")
  config, steps = parse_config(read_config(workdir)), checkpoint_steps(workdir)
  if config.method.name != "hcmoco" or not steps:
    raise ValueError(
      f"{workdir} is a run of {config.method.name} with {len(steps)} checkpoints: expected a run of hcmoco"
    )
  step, _ = newest_to_read(workdir)
  method = METHODS["hcmoco"].build(dataclasses.replace(config, precision="float32"))
  return method, *read_model(workdir / CHECKPOINTS / str(step)), step


def modality_encoders(method: Hcmoco, params, method_state, facts: dict[str, Any]) -> ModalityEncoders:
  """Returns the encoders of a method with these weights; "both" is the element-wise maximum of "rgb" and "depth"."""
  prepare, image_hw = Preprocessing(method.backbone.image_hw), tuple(method.backbone.image_hw)

  @jax.jit
  def compute(params, method_state, images_u8, depth_mm):
    maps = method.dense_maps(params, method_state, {"rgb": prepare(images_u8), "depth": depth_image(depth_mm)})
    return maps | {"both": jnp.maximum(maps["rgb"], maps["depth"])}

  apply = lambda images_u8, depth_mm: jax.device_get(compute(params, method_state, images_u8, depth_mm))
  return ModalityEncoders(facts | {"image_hw": list(image_hw)}, image_hw, apply)


def maps_of(encoders: ModalityEncoders, people: RgbdPeople) -> Maps:
  """Returns the dense maps of people."""
  starts = range(0, len(people.parts), _BATCH)
  batches = [encoders.apply(people.images_u8[i : i + _BATCH], people.depth_mm[i : i + _BATCH]) for i in starts]
  for batch in batches:
    encoders.variation.add(np.concatenate([batch["rgb"], batch["depth"]], axis=-1))
  return {name: np.concatenate([batch[name] for batch in batches]) for name in MODALITIES}


def transfer_scores(train_maps: Maps, train: RgbdPeople, test_maps: Maps, test: RgbdPeople) -> dict[str, float]:
  """Fits a probe on each modality and tests it on RGB and depth; the probe of both also on both.

  Returns:
    "rgb -> depth" and so on -> mean IoU of the parts on the pixels of the person, 0 to 1.
  """
  scores = {}
  for source in MODALITIES:
    probe = _fitted(train_maps[source], train)
    for target in MODALITIES if source == "both" else MODALITIES[:2]:
      scores[f"{source} -> {target}"] = _score(probe, test_maps[target], test)
  return scores


def place_score(train: RgbdPeople, test: RgbdPeople, grid_hw: tuple[int, int]) -> float:
  """Returns the mean IoU of a probe whose only features are 16 waves of the position in the image.

  A baseline: persons are in the center of images, and an encoder trained on two modalities of one crop can learn the
  position from both.
  """
  waves = [np.cos(np.pi * np.arange(4) * ((np.arange(side) + 0.5) / side)[:, None]) for side in grid_hw]  # (side, 4)
  cells = np.einsum("yk,xl->yxkl", *waves).reshape(*grid_hw, -1)
  maps_of_each = lambda people: np.broadcast_to(cells, (len(people.parts), *cells.shape))
  return _score(_fitted(maps_of_each(train), train), maps_of_each(test), test)


def chance_score(train: RgbdPeople, test: RgbdPeople) -> float:
  """Returns the mean IoU of predicting the most common part of `train` everywhere."""
  classes = len(train.names)
  commonest = np.bincount(train.parts[train.parts != IGNORE_LABEL], minlength=classes).argmax()
  always = np.eye(classes, dtype=np.float32)[commonest][None, None]
  return _mean_iou((always for _ in test.parts), test)


def _fitted(maps: np.ndarray, people: RgbdPeople) -> LogisticProbe:
  """Returns a probe of the fractions of parts in a cell, fitted on the cells of maps (n, h, w, D) on the person."""
  classes = np.arange(len(people.names))
  shares = np.stack([average_over_cells(labels[..., None] == classes, maps.shape[1:3]) for labels in people.parts])
  shares = shares.reshape(-1, len(classes))
  there = np.flatnonzero(shares.sum(1) > 0)
  there = there[:: -(-len(there) // _MOST_CELLS)]
  return fit_classes(maps.reshape(-1, maps.shape[-1])[there], shares[there], strengths=(_STRENGTH,))


def _score(probe: LogisticProbe, maps: np.ndarray, people: RgbdPeople) -> float:
  predict = lambda cells: probe.logits(cells.reshape(-1, cells.shape[-1])).reshape(*cells.shape[:2], -1)
  return _mean_iou(map(predict, maps), people)


def _mean_iou(logits: Iterator[np.ndarray], people: RgbdPeople) -> float:
  """Returns the mean IoU of predicted parts; `logits` yields (h, w, C) for each image."""
  classes = len(people.names)
  counts = np.zeros((classes, classes), np.int64)
  for maps, truth in zip(logits, people.parts, strict=True):
    counts += confusion_matrix(truth, resize_bilinear(maps, truth.shape).argmax(-1), classes)
  return segmentation_scores(counts).mIoU
