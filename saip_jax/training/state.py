"""The state of training, as checkpoints hold it."""

from typing import Any

import jax
from flax import struct


@struct.dataclass
class TrainState:
  """Everything that training changes; together with the seed and the data it determines the rest of the run.

  Random keys are absent on purpose: they are derived from (seed, step, sample index).

  Attributes:
    step: int32 scalar, updates done so far.
    params: trainable parameters, float32.
    method_state: further state of the method (teacher, center, memory banks).
    opt_state: state of the optax transformation.
    frozen: weights that losses read and that never change, `Method.frozen`; no part of checkpoints.
  """

  step: jax.Array
  params: Any
  method_state: Any
  opt_state: Any
  frozen: Any = struct.field(default_factory=dict)

  @property
  def readable(self) -> Any:
    """`method_state` with the frozen weights, as losses read it."""
    return self.method_state | self.frozen if self.frozen else self.method_state

  def stored(self) -> dict[str, Any]:
    """Returns the state as checkpoints hold it, where `method_state` is called "extra" as in every earlier version."""
    return {"step": self.step, "params": self.params, "extra": self.method_state, "opt_state": self.opt_state}

  @classmethod
  def from_stored(cls, tree: dict[str, Any]) -> "TrainState":
    """Returns the state of a tree from `stored`, without frozen weights."""
    return cls(tree["step"], tree["params"], tree["extra"], tree["opt_state"])
