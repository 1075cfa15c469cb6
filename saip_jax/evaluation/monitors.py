"""Monitors: scores of the encoder's frozen features during training, on a small fixed set of images.

They are cheap versions of the tasks of `saip evaluate`, for the curves of runs; tables need the tasks themselves.

    reid        mAP of nearest neighbors by cosine, the protocol of `saip evaluate --task=reid`
    attributes  mA of a ridge regression on image features. An attribute is predicted where the regression exceeds its
                share of the images fitted on, so that rare attributes count; attributes that all images of a part have,
                or none, are left out
    parts       mIoU of a ridge regression from each cell to the classes of the places under it, about 4 pixels apart

On two CPU cores all three take ViT-Ti at 128x64 two seconds of processor time for 232 images (`monitor_images` 128 of
512 built-in people), 1.2 times an update of configs/saip_demo.py: every 100 updates, that is 1.2 % of the time.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from input_pipeline.records import IGNORE_LABEL
from input_pipeline.storage import cache_folder
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.statistics import split_statistics
from saip_jax.config import RunConfig
from saip_jax.evaluation.encoders import feature_function
from saip_jax.evaluation.fixed_set import FixedSet
from saip_jax.evaluation.metrics.attributes import evaluate_attributes
from saip_jax.evaluation.metrics.retrieval import evaluate_retrieval
from saip_jax.evaluation.metrics.segmentation import confusion_matrix, segmentation_scores
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.splits import Data, LabeledImages, cameras
from saip_jax.evaluation.tasks.attributes import UNKNOWN, attribute_labels
from saip_jax.evaluation.tasks.parsing import part_labels
from saip_jax.interop.weights import Preprocessing

_BATCH = 64
_PLACE = 4  # pixels
_MOST_CELLS = 8192  # to fit parts on
# Of ridges on hundreds of images and on thousands of cells: a new choice each time would make the curves jump.
_IMAGE_STRENGTH, _CELL_STRENGTH = 100.0, 1.0

Score = Callable[[np.ndarray, np.ndarray], float]
"""(N, D) features of all images of the set and (N, h, w, E) of their cells -> the value."""


def _reid(pictures: FixedSet, grid: tuple[int, int]) -> Score:
  query, gallery = pictures.query_and_gallery
  person_of = lambda side: np.array(side.images.of_first_persons("identity", "re-identification"), np.int64) + 1
  (asked, asked_by), (shown, shown_by) = ((person_of(side), cameras(side.images)) for side in (query, gallery))
  return lambda images, cells: (
    evaluate_retrieval(images[query.rows], asked, asked_by, images[gallery.rows], shown, shown_by).mAP
  )


def _attributes(pictures: FixedSet, grid: tuple[int, int]) -> Score:
  fit, test = pictures.fit_and_test
  (names, to_fit), (_, truth) = attribute_labels(fit.images), attribute_labels(test.images)
  both = lambda labels: (labels == 0).any(0) & (labels == 1).any(0)
  varying = both(to_fit) & both(truth)
  if not varying.any():
    raise ValueError(
      f"none of the attributes {', '.join(names)} is true of some images and not of others in both "
      f"parts, of {len(to_fit)} and {len(truth)} images: choose other data or more of them"
    )
  to_fit, truth = to_fit[:, varying], truth[:, varying]
  known = to_fit != UNKNOWN
  shares = (to_fit == 1).sum(0) / known.sum(0)

  def score(images, cells):
    probe = fit_ridge(images[fit.rows], to_fit, known, strengths=[_IMAGE_STRENGTH])
    return evaluate_attributes(np.clip(probe.predict(images[test.rows]), 0, 1), truth, shares).mA

  return score


def _parts(pictures: FixedSet, grid: tuple[int, int]) -> Score:
  fit, test = pictures.fit_and_test
  names = fit.images.legend.get("parts")
  if not names:
    raise ValueError(f"{fit.images.source.identity['name']!r} names no parts: choose other data, such as people")
  side = max(1, round(pictures.image_hw[0] / grid[0] / _PLACE))
  to_fit, truth = (_places(part.images, len(names), grid, side) for part in (fit, test))
  used = np.flatnonzero((to_fit != IGNORE_LABEL).all(1))
  used = used[:: -(-len(used) // _MOST_CELLS) or 1]
  if not len(used):
    raise ValueError(f"no cell of the {len(fit.images)} images to fit on has a part at each place")
  wanted = (to_fit[used, :, None] == np.arange(len(names))).reshape(len(used), -1)

  def score(images, cells):
    flat = lambda part: cells[part.rows].reshape(-1, cells.shape[-1])
    probe = fit_ridge(flat(fit)[used], wanted, strengths=[_CELL_STRENGTH])
    found = probe.predict(flat(test)).reshape(*truth.shape, len(names)).argmax(-1)
    return segmentation_scores(confusion_matrix(truth, found, len(names))).mIoU

  return score


def _places(images: LabeledImages, classes: int, grid: tuple[int, int], side: int) -> np.ndarray:
  """Returns the class in the middle of each of side x side places under each cell, (n h w, places) uint8."""
  (h, w), found = grid, []
  for i in range(len(images)):
    labels = part_labels(images, i, classes)
    rows, columns = (
      ((np.arange(cells * side) + 0.5) * pixels / (cells * side)).astype(int)
      for pixels, cells in zip(labels.shape, grid)
    )
    places = labels[np.ix_(rows, columns)]
    found.append(places.reshape(h, side, w, side).transpose(0, 2, 1, 3).reshape(h * w, side * side))
  return np.concatenate(found)


_MONITORS: dict[str, tuple[str, Callable[[FixedSet, tuple[int, int]], Score]]] = {
  "reid": ("reid_mAP", _reid),
  "attributes": ("attributes_mA", _attributes),
  "parts": ("parts_mIoU", _parts),
}


class Monitors:
  """Measures an encoder repeatedly.

  Its features are computed on one device, in float32 with float32 products, as `saip evaluate` does, so that values
  depend neither on the devices that train nor on their precision.

  Attributes:
    summary: measurements and data, as one line.
  """

  def __init__(self, config: RunConfig, module: Backbone, params):
    """Opens and decodes the images, checks their labels, and compiles the encoder.

    Args:
      config: its `monitor` settings and, for the default set of built-in people, `data.people_count`.
      module: the encoder; its `image_hw` is the size of the images.
      params: its parameters as `Method.export_params` returns them, of any values.

    Raises:
      ValueError: no such data set, or one without the labels that a monitor needs.
    """
    exact = module.clone(dtype=jnp.float32, remat="none", attention="xla")
    self._features = feature_function(exact, Preprocessing(module.image_hw))
    cells = self._features(split_statistics(params), np.zeros((_BATCH, *module.image_hw, 3), np.uint8))[1]
    names, named = config.monitors, config.monitor_data
    try:
      data = Data.parse(
        named, cache_dir=cache_folder(), people_count=config.data.people_count, hold_out=config.monitor_hold_out
      )
      chosen = FixedSet(data, module.image_hw, config.monitor_images)
      metrics = {f"monitor/{metric}": find_labels for metric, find_labels in (_MONITORS[name] for name in names)}
      self._scores = {metric: find_labels(chosen, cells.shape[1:3]) for metric, find_labels in metrics.items()}
      self._images = chosen.pictures
      blank = np.zeros((len(self._images), 1)), np.zeros((len(self._images), *cells.shape[1:3], 1))
      for score in self._scores.values():
        score(*blank)  # raises now if a score cannot be measured
    except ValueError as error:
      raise ValueError(f"config.monitor_data={named}: {error}") from error
    self.summary = f"{', '.join(names)} on {len(self._images)} images of {named}" + (
      f", {len(chosen.damaged)} more cannot be read, the first: {chosen.damaged[0]}" if chosen.damaged else ""
    )

  def measure(self, params) -> dict[str, float]:
    """Returns "monitor/reid_mAP" and so on of an encoder with these parameters, 0 to 1."""
    variables, found, count = split_statistics(params), [], len(self._images)
    for start in range(0, count, _BATCH):
      batch = self._images[start : start + _BATCH]
      batch = np.pad(batch, ((0, _BATCH - len(batch)), (0, 0), (0, 0), (0, 0)))  # one shape, one program
      found.append(self._features(variables, batch))
    images, cells = (np.concatenate([np.asarray(f) for f in features])[:count] for features in zip(*found))
    return {metric: float(score(images, cells)) for metric, score in self._scores.items()}


def monitors_for(config: RunConfig, module: Backbone) -> Callable[..., Monitors] | None:
  """Returns parameters of the encoder -> its `Monitors`; None if the config measures nothing.

  Args:
    config: the run.
    module: its encoder.
  """
  return functools.partial(Monitors, config, module) if config.monitor_every and config.monitors else None
