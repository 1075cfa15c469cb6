"""What a task is: a protocol that turns an encoder and a data set into scores."""

import dataclasses
from collections.abc import Callable
from typing import Any

from input_pipeline.names import shown
from input_pipeline.source import count_left_out
from saip_jax.evaluation.encoders import Encoder, open_encoder
from saip_jax.evaluation.splits import Data, LabeledImages


@dataclasses.dataclass(frozen=True)
class Result:
  """What a protocol found.

  Attributes:
    scores: name -> value, the headline first; shares are 0 to 1, others end in their unit: _mm, _px.
    facts: JSON-able: what must be known to compare the scores with others.
    damaged: "name: reason" of each image that could not be read and was left out.
  """

  scores: dict[str, float]
  facts: dict[str, Any]
  damaged: list[str]


Protocol = Callable[[Encoder, Data], Result]


@dataclasses.dataclass(frozen=True)
class Task:
  """One human-centric task.

  Attributes:
    summary: what is asked, in a few words.
    protocols: name -> how it is measured; the first is the usual one.
    image_hw: size in pixels that images are brought to unless the user says another; None: what the weights are for.
    flip_tests: the protocols that can average over the mirror image, see `encoders.flip_tested`.
    open: (checkpoint, which, image_hw, seed) -> what the protocols measure, see `encoders.open_encoder`.
  """

  summary: str
  protocols: dict[str, Protocol]
  image_hw: tuple[int, int] | None = None
  flip_tests: tuple[str, ...] = ()
  open: Callable[..., Any] = open_encoder


def facts_of(**parts: LabeledImages) -> dict[str, Any]:
  """Returns what the parts of a data set are, and what of it was left out, for `Result.facts`."""

  def more(part: LabeledImages) -> dict[str, Any]:
    listed, categories = part.source.left_out, part.source.categories
    left_out = {"left_out": count_left_out(listed), "first_left_out": shown(": ".join(listed[0]))} if listed else {}
    return left_out | ({"categories": categories} if categories else {})

  identity = lambda part: part.source.identity | {"name": shown(part.source.identity["name"])}
  return {name: identity(part) | more(part) for name, part in parts.items()}
