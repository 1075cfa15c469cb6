"""Parsing: the class of each pixel, a part of the body or a piece of clothing, and whose it is."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from saip_jax.losses.classification import cross_entropy
from saip_jax.losses.infonce import weighted_mean
from saip_jax.losses.persons import middle_map, middles_of
from saip_jax.methods.finetune.dense import DenseTask
from saip_jax.methods.finetune.task import Shapes
from saip_jax.methods.finetune.views import NOT_COUNTED, Placement

MOST_PERSONS = 64  # of a photo; what is of others is background there

_MIDDLE_WEIGHT, _WAY_WEIGHT = 200.0, 0.04  # of Panoptic-DeepLab, 0.01 for a pixel


class Parsing(DenseTask):
  """The cross-entropy of each pixel, of maps that are enlarged bilinearly to the view.

  SCHP, which published results are of, pools over several scales, also predicts edges, adds a Lovasz and a consistency
  loss, and corrects its labels in cycles; none of that is here.
  """

  label = "parts"

  def labels(self, classes: int, canvas_hw: tuple[int, int]) -> Shapes:
    return {"parts": (tuple(canvas_hw), jnp.uint8), "has_parts": ((), jnp.bool_)}

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns (H, W) int32 classes, `NOT_COUNTED` where a pixel has none."""
    seen = place.classes(sample["parts"])
    table = jnp.array([*mirrored, *range(len(mirrored), NOT_COUNTED + 1)])
    seen = jnp.where(place.flip, table[seen], seen)
    return jnp.where(sample["has_parts"], seen, NOT_COUNTED)

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    logits = jax.image.resize(outputs, (*targets.shape, outputs.shape[-1]), "bilinear")
    return {"parts": cross_entropy(logits, targets, targets != NOT_COUNTED)}


class MultiParsing(Parsing):
  """Also how near the middle of a person is, and the way to that of the person shown, both in cells of 4 pixels.

  Source: Panoptic-DeepLab (Cheng et al. 2020, arXiv 1911.10194), sections 3.1 and 3.2, with its weights and its peaks
  of 8 pixels.
  """

  whole = True

  def labels(self, classes: int, canvas_hw: tuple[int, int]) -> Shapes:
    persons = {"persons": (tuple(canvas_hw), jnp.uint8), "has_persons": ((), jnp.bool_)}
    return super().labels(classes, canvas_hw) | persons

  def outputs(self, classes: int) -> int:
    return classes + 3

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns the classes, (h, w) nearness of a middle, (h, w, 2) x, y to the own one, and (h, w) where that counts."""
    grid = self.grid(place)
    persons, parts = place.plane(sample["persons"], 0, grid), place.plane(sample["parts"], NOT_COUNTED, grid)
    known = sample["has_persons"] & sample["has_parts"] & (parts != NOT_COUNTED)
    persons = jnp.where((parts > 0) & known & (persons < MOST_PERSONS), persons, 0)
    middles, there = middles_of(persons, MOST_PERSONS)
    rows, columns = jnp.meshgrid(*(jnp.arange(n) + 0.5 for n in grid), indexing="ij")
    way = middles[persons] - jnp.stack([columns, rows], axis=-1)
    return super().targets(sample, place, mirrored), middle_map(middles, there, grid), known, way, persons > 0

  def losses(self, inputs: jax.Array, outputs: jax.Array, targets: Any) -> dict[str, jax.Array]:
    classes, near, known, way, shown = targets
    parts, middle, ways = jnp.split(outputs, [outputs.shape[-1] - 3, outputs.shape[-1] - 2], axis=-1)
    return super().losses(inputs, parts, classes) | {
      "middles": _MIDDLE_WEIGHT * weighted_mean(jnp.square(middle[..., 0] - near), known),
      "ways": _WAY_WEIGHT * weighted_mean(jnp.abs(ways - way).sum(-1), shown),
    }
