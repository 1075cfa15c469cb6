"""What a checkpoint holds."""

from typing import Any

import jax
from flax import struct


@struct.dataclass
class TrainState:
  """Everything that training changes; with the seed and the data it determines the rest of the run.

  Random keys are absent on purpose: they are derived from (seed, step, sample index).

  Attributes:
    step: int32 scalar, updates done so far.
    params: trainable parameters, float32.
    extra: what the method keeps beside them (teacher, centre, memory banks).
    opt_state: state of the optax transformation.
  """

  step: jax.Array
  params: Any
  extra: Any
  opt_state: Any
