"""Task: a set of protocols that measure an encoder on a data set."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from input_pipeline.names import shown
from input_pipeline.source import count_left_out
from saip_jax.evaluation.encoders import Encoder, open_encoder
from saip_jax.evaluation.finetuned_networks import encoder_with_head
from saip_jax.evaluation.resampling import Resampling
from saip_jax.evaluation.splits import Data, LabeledImages

FINETUNE_PROTOCOL = "finetune"
"""Protocol of a record of a fine-tuned network."""

_UNITS = ("mm", "px")


@dataclasses.dataclass(frozen=True)
class Result:
  """The result of a protocol.

  Attributes:
    scores: name -> value, the main score first; a fraction from 0 to 1 unless the name ends in a unit, see
      `split_unit`.
    facts: JSON-able facts that are needed to compare the scores with others.
    damaged: "name: reason" of each image that was left out because it cannot be read.
    resampling: how the main score depends on the test images; None if it cannot be resampled.
  """

  scores: dict[str, float]
  facts: dict[str, Any]
  damaged: list[str]
  resampling: Resampling | None = None


Protocol = Callable[[Encoder, Data], Result]


@dataclasses.dataclass(frozen=True)
class FinetunedProtocol:
  """How a network that was fine-tuned on a task is measured.

  Attributes:
    protocol: the measurement.
    open: (method, params, method_state, facts) -> the encoder that the protocol needs.
    flip_test: whether it supports `encoders.flip_tested`.
  """

  protocol: Protocol
  open: Callable[..., Encoder] = encoder_with_head
  flip_test: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
  """One human-centric task.

  Attributes:
    summary: its name for people.
    protocols: name -> protocol; the first is the default.
    image_hw: default size in pixels of the input; None for that of the weights.
    flip_tests: names of the protocols that support `encoders.flip_tested`.
    finetuned: how a network fine-tuned on the task is measured; None if the task has no fine-tuning.
    open: (checkpoint, which, image_hw, seed) -> what the protocols measure, see `encoders.open_encoder`.
  """

  summary: str
  protocols: dict[str, Protocol]
  image_hw: tuple[int, int] | None = None
  flip_tests: tuple[str, ...] = ()
  finetuned: FinetunedProtocol | None = None
  open: Callable[..., Any] = open_encoder


def split_unit(score: str) -> tuple[str, str | None]:
  """Returns the name of a score without its unit, and the unit; None for a fraction.

  Names of scores end in their unit:

    >>> split_unit("MPJPE_mm"), split_unit("AP_medium")
    (('MPJPE', 'mm'), ('AP_medium', None))
  """
  stem, _, unit = score.rpartition("_")
  return (stem, unit) if stem and unit in _UNITS else (score, None)


def facts_of(**parts: LabeledImages) -> dict[str, Any]:
  """Returns the identity of each part of a data set, and what was left out of it, for `Result.facts`."""

  def more(part: LabeledImages) -> dict[str, Any]:
    listed, categories = part.source.left_out, part.source.categories
    left_out = {"left_out": count_left_out(listed), "first_left_out": shown(": ".join(listed[0]))} if listed else {}
    return left_out | ({"categories": categories} if categories else {})

  identity = lambda part: part.source.identity | {"name": shown(part.source.identity["name"])}
  return {name: identity(part) | more(part) for name, part in parts.items()}


def check_same_labels(train: Sequence[str], test: Sequence[str], images: LabeledImages) -> None:
  """Raises ValueError unless both parts of a data set have the same labels.

  Args:
    train: names of the labels of the training part.
    test: names of the labels of the test part.
    images: the test part.
  """
  if list(train) != list(test):
    raise ValueError(
      f"{images.source.identity['name']!r} has the labels {', '.join(test)}, the training part has "
      f"{', '.join(train)}: expected the same labels"
    )
