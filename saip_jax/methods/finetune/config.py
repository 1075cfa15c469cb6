"""The settings of fine-tuning."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from input_pipeline.body import flip_pairs
from input_pipeline.checks import choices_hint
from saip_jax.methods.finetune.tasks import SUPERVISED
from saip_jax.methods.finetune.views import SupervisedViews


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
  """Fine-tuning's own settings; recipes give every number.

  Attributes:
    name: "finetune".
    task: a key of `saip_jax.methods.finetune.tasks.SUPERVISED`.
    classes: classes of the head: identities, attributes, joints, or classes of pixels of the data set; for detection 1,
      persons.
    flip_pairs: classes or joints that are swapped in the mirror image, counted from 0; () if there are none.
    layer_decay: factor of the learning rate from each layer to the one before it, see `groups.layer_wise`.
    views: random changes of the images.
  """

  name: str
  task: str
  classes: int
  flip_pairs: tuple[tuple[int, int], ...] = ()
  layer_decay: float = 1.0
  views: SupervisedViews

  def __post_init__(self):
    at = "config.method"
    if self.task not in SUPERVISED:
      raise ValueError(f"{at}.task is {self.task!r}: no such task to fine-tune on{choices_hint(self.task, SUPERVISED)}")
    if self.classes < 1:
      raise ValueError(f"{at}.classes is {self.classes}: it must be positive")
    if not 0 < self.layer_decay <= 1:
      raise ValueError(f"{at}.layer_decay is {self.layer_decay}: it must lie in 0 to 1, 0 excluded")
    places = [place for pair in self.flip_pairs for place in pair]
    if len(set(places)) < len(places) or not all(0 <= place < self.classes for place in places):
      raise ValueError(f"{at}.flip_pairs is {self.flip_pairs}: expected different classes from 0 to {self.classes - 1}")

  @property
  def mirrored(self) -> tuple[int, ...]:
    """(classes,) class -> its class in the mirror image."""
    swapped = {left: right for pair in self.flip_pairs for left, right in (pair, pair[::-1])}
    return tuple(swapped.get(place, place) for place in range(self.classes))


def class_settings(task: str, names: Sequence[str]) -> dict[str, Any]:
  """Returns the settings that follow from the classes of a data set: `classes`, and `flip_pairs` of left and right.

  Args:
    task: a key of `SUPERVISED`.
    names: names of its classes.
  """
  return {"classes": len(names), "flip_pairs": flip_pairs(names) if SUPERVISED[task].mirrors else ()}
