"""Parts of the body from dense maps of pictures and of depth: what is learned on one modality, tested on the other.

A linear layer is fitted on the maps of one modality alone and tested on either (cross-modality supervision), or on the
element-wise maximum of both and tested with one missing. Only the pixels of the person count: of these the depth is
known, so that the background would be given away.

Source: methods, HCMoCo section 6, versatility; there the probe is a small network and learns together with the encoder.
"""

import dataclasses
import pathlib
from typing import Iterator

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.people.parts import PARTS
from input_pipeline.planes import decode_plane
from input_pipeline.sources.table import open_source
from saip_jax.config import parse_config
from saip_jax.evaluation.logistic import fit_classes
from saip_jax.evaluation.metrics.segmentation import IGNORED, confusion_matrix, segmentation_scores
from saip_jax.evaluation.squash import squashed_batches
from saip_jax.evaluation.tasks.cells import enlarged, mean_of_cells
from saip_jax.interop.weights import Preprocessing
from saip_jax.methods import METHODS
from saip_jax.methods.hcmoco import Hcmoco
from saip_jax.training.checkpoint import checkpoint_steps, read_config, read_model
from saip_jax.views.rgbd import depth_picture

MODALITIES = ("rgb", "depth", "both")
_CLASSES = len(PARTS) - 1  # without the background
_BATCH = 64
_MOST_CELLS = 20_000  # that are fitted on, drawn evenly
_STRENGTH = 10.0  # of the probe's penalty, the same for all


@dataclasses.dataclass(frozen=True)
class RgbdPeople:
  """Built-in people at one size.

  Attributes:
    images_u8: (n, H, W, 3).
    depth_mm: (n, H, W) uint16, of the person alone, 0 elsewhere.
    parts: (n, H, W) uint8, place in `PARTS` less one; `IGNORED` beside the person.
  """

  images_u8: np.ndarray
  depth_mm: np.ndarray
  parts: np.ndarray


Maps = dict[str, np.ndarray]
"""Modality -> (n, h, w, D) unit vectors."""


def read_people(split: str, count: int, image_hw: tuple[int, int]) -> RgbdPeople:
  """Returns a split of the default set of built-in people, squashed to a size; depth and parts by the nearest pixel.

  Args:
    split: "train", "val" or "test".
    count: pictures of the set, all splits together; rendered on first use.
    image_hw: size in pixels.
  """
  source = open_source("people", None, split=split, cache_dir="", people_count=count)
  images = np.concatenate([batch.images_u8 for batch in squashed_batches(source, image_hw, _BATCH)])[:len(source)]
  depth, parts = np.zeros((2, len(source), *image_hw), np.uint16)
  for i in range(len(source)):
    files = source.annotations(i)[1]
    for plane, name in ((depth, "depth.png"), (parts, "parts.png")):
      plane[i] = cv2.resize(decode_plane(files[name]), image_hw[::-1], interpolation=cv2.INTER_NEAREST)
  return RgbdPeople(
      images, np.where(parts > 0, depth, 0).astype(np.uint16), np.where(parts > 0, parts - 1, IGNORED).astype(np.uint8))


def open_run(workdir) -> tuple[Hcmoco, dict, dict]:
  """Returns the method of an HCMoCo run, in float32, and `params` and `extra` of its newest checkpoint.

  Raises:
    ValueError: no such run, or one of another method.
  """
  workdir = pathlib.Path(workdir)
  config, steps = parse_config(read_config(workdir)), checkpoint_steps(workdir)
  if config.method.name != "hcmoco" or not steps:
    raise ValueError(f"{workdir} is a run of {config.method.name}, {len(steps)} checkpoints: expected one of hcmoco")
  method = METHODS["hcmoco"].build(dataclasses.replace(config, precision="float32"))
  return method, *read_model(workdir / "checkpoints" / str(steps[-1]))


def maps_of(method: Hcmoco, params, extra, people: RgbdPeople) -> Maps:
  """Returns the dense maps of people: "rgb", "depth", and "both", the element-wise maximum of the two."""
  prepare = Preprocessing(method.backbone.image_hw)

  @jax.jit
  def compute(params, extra, images_u8, depth_mm):
    maps = method.dense_maps(params, extra, {"rgb": prepare(images_u8), "depth": depth_picture(depth_mm)})
    return maps | {"both": jnp.maximum(maps["rgb"], maps["depth"])}

  parts = []
  for start in range(0, len(people.parts), _BATCH):
    rows = slice(start, start + _BATCH)
    parts.append(jax.device_get(compute(params, extra, people.images_u8[rows], people.depth_mm[rows])))
  return {name: np.concatenate([part[name] for part in parts]) for name in MODALITIES}


def transfer_scores(train_maps: Maps, train: RgbdPeople, test_maps: Maps, test: RgbdPeople) -> dict[str, float]:
  """Fits a probe on each modality and tests it on each that it may meet.

  Returns:
    "rgb -> depth" and so on -> mean IoU of the parts on the pixels of the person, 0 to 1.
  """
  scores = {}
  for source in MODALITIES:
    cells, shares = _cells(train_maps[source], train.parts)
    probe = fit_classes(cells, shares, strengths=(_STRENGTH,))
    for target in MODALITIES if source == "both" else MODALITIES[:2]:
      predict = lambda maps: probe.logits(maps.reshape(-1, maps.shape[-1])).reshape(*maps.shape[:2], -1)
      scores[f"{source} -> {target}"] = _mean_iou(map(predict, test_maps[target]), test.parts)
  return scores


def place_maps(people: RgbdPeople, grid_hw: tuple[int, int]) -> Maps:
  """Returns maps that tell nothing but the place in the picture, by 16 waves: persons stand in its middle.

  Whatever learns from two modalities of one crop can learn this of both, see what it adds.
  """
  waves = [np.cos(np.pi * np.arange(4) * ((np.arange(side) + 0.5) / side)[:, None]) for side in grid_hw]  # (side, 4)
  cells = np.einsum("yk,xl->yxkl", *waves).reshape(*grid_hw, -1)
  return {name: np.broadcast_to(cells, (len(people.parts), *cells.shape)) for name in MODALITIES}


def chance(train: RgbdPeople, test: RgbdPeople) -> float:
  """Returns the mean IoU of who says the commonest part of `train` everywhere."""
  commonest = np.bincount(train.parts[train.parts != IGNORED], minlength=_CLASSES).argmax()
  always = np.eye(_CLASSES, dtype=np.float32)[commonest][None, None]
  return _mean_iou((always for _ in test.parts), test.parts)


def _cells(maps: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns (m, D) cells that show something of the person, and (m, C) what share of each shows which part."""
  shares = np.stack([mean_of_cells(labels[..., None] == np.arange(_CLASSES), maps.shape[1:3]) for labels in parts])
  there = np.flatnonzero(shares.reshape(-1, _CLASSES).sum(1) > 0)
  there = there[::-(-len(there) // _MOST_CELLS)]
  return maps.reshape(-1, maps.shape[-1])[there], shares.reshape(-1, _CLASSES)[there]


def _mean_iou(logits: Iterator[np.ndarray], parts: np.ndarray) -> float:
  """Args: logits: of each picture, (h, w, C). parts: (n, H, W)."""
  counts = np.zeros((_CLASSES, _CLASSES), np.int64)
  for maps, truth in zip(logits, parts, strict=True):
    counts += confusion_matrix(truth, enlarged(maps, truth.shape).argmax(-1), _CLASSES)
  return segmentation_scores(counts).mIoU
