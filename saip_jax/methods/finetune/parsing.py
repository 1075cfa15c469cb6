"""Parsing: the class of each pixel, a part of the body or of the clothing, and the person that it belongs to."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from input_pipeline.records import IGNORE_LABEL
from saip_jax.losses.classification import cross_entropy
from saip_jax.losses.infonce import weighted_mean
from saip_jax.losses.persons import middle_map, middles_of
from saip_jax.methods.finetune.dense import DenseTask
from saip_jax.methods.finetune.task import LabelShapes
from saip_jax.methods.finetune.views import Placement

MOST_PERSONS = 64  # of a photo; further persons are background

_MIDDLE_WEIGHT, _OFFSET_WEIGHT = 200.0, 0.04  # Panoptic-DeepLab's, the second 0.01 per pixel


class ParsingTask(DenseTask):
  """The cross-entropy of each pixel, on a map that is enlarged bilinearly to the view.

  SCHP, the method of the published results, also pools over several scales, predicts edges, adds a Lovasz and a
  consistency loss, and corrects its labels in cycles; none of these is implemented here.
  """

  label = "parts"

  def label_shapes(self, classes: int, canvas_hw: tuple[int, int]) -> LabelShapes:
    return {"parts": (tuple(canvas_hw), jnp.uint8), "has_parts": ((), jnp.bool_)}

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns (H, W) int32 classes, `IGNORE_LABEL` for pixels without one."""
    seen = place.classes(sample["parts"])
    table = jnp.array([*mirrored, *range(len(mirrored), IGNORE_LABEL + 1)])
    seen = jnp.where(place.flip, table[seen], seen)
    return jnp.where(sample["has_parts"], seen, IGNORE_LABEL)

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    logits = jax.image.resize(outputs, (*targets.shape, outputs.shape[-1]), "bilinear")
    return {"parts": cross_entropy(logits, targets, targets != IGNORE_LABEL)}


class MultiParsingTask(ParsingTask):
  """Parsing, a heat map of the middles of persons, and in each cell the offset to the middle of its person.

  Source: Panoptic-DeepLab (Cheng et al. 2020, arXiv 1911.10194), sections 3.1 and 3.2, with its weights and its peaks
  of 8 pixels.
  """

  whole = True

  def label_shapes(self, classes: int, canvas_hw: tuple[int, int]) -> LabelShapes:
    persons = {"persons": (tuple(canvas_hw), jnp.uint8), "has_persons": ((), jnp.bool_)}
    return super().label_shapes(classes, canvas_hw) | persons

  def outputs(self, classes: int) -> int:
    return classes + 3

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns the targets of one view.

    Returns:
      (H, W) int32 classes, (h, w) heat map of the middles, (h, w) bool, the cells where it is counted, (h, w, 2) x, y
      offset to the middle of the own person, and (h, w) bool, the cells of a person.
    """
    grid = self.grid(place)
    persons, parts = place.plane(sample["persons"], 0, grid), place.plane(sample["parts"], IGNORE_LABEL, grid)
    known = sample["has_persons"] & sample["has_parts"] & (parts != IGNORE_LABEL)
    persons = jnp.where((parts > 0) & known & (persons < MOST_PERSONS), persons, 0)
    middles, there = middles_of(persons, MOST_PERSONS)
    rows, columns = jnp.meshgrid(*(jnp.arange(n) + 0.5 for n in grid), indexing="ij")
    offset = middles[persons] - jnp.stack([columns, rows], axis=-1)
    return super().targets(sample, place, mirrored), middle_map(middles, there, grid), known, offset, persons > 0

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    classes, middle_targets, known, offset_targets, shown = targets
    parts, middles, offsets = jnp.split(outputs, [outputs.shape[-1] - 3, outputs.shape[-1] - 2], axis=-1)
    return super().losses(inputs, parts, classes) | {
      "middles": _MIDDLE_WEIGHT * weighted_mean(jnp.square(middles[..., 0] - middle_targets), known),
      "ways": _OFFSET_WEIGHT * weighted_mean(jnp.abs(offsets - offset_targets).sum(-1), shown),
    }
