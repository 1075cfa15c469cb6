"""One training step of a method on recorded views and draws."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.config import OptimizerConfig
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.state import TrainState
from saip_jax.training.step import apply_gradients


@struct.dataclass
class Step:
  """What a step gave.

  Attributes:
    metrics: of the objectives.
    for_update: of the objectives, for `Method.after_update`.
    outputs: of the objectives.
    gradients: like the parameters.
    after: the state after one update; None where no optimizer is recorded.
  """

  metrics: dict[str, jax.Array]
  for_update: Any
  outputs: Any
  gradients: Any
  after: TrainState | None


def run_step(method, objectives: Callable, params, method_state, batch: tuple, meta: dict[str, Any]) -> Step:
  """Returns what a step gives, in float32 at highest precision.

  Args:
    method: a `saip_jax.methods.base.Method`.
    objectives: (params, method_state, *batch) -> (loss, (`Aux`, outputs)), its objectives.
    params: recorded weights.
    method_state: what the method keeps beside them.
    batch: recorded views and draws.
    meta: `lr`, `weight_decay`, `betas` and `eps` of the recorded AdamW step; without `lr` there is no update.
  """
  tx = None
  if "lr" in meta:
    optimizer = OptimizerConfig(
      learning_rate=meta["lr"],
      min_learning_rate=meta["lr"],
      warmup_fraction=0.0,
      b1=meta["betas"][0],
      b2=meta["betas"][1],
      eps=meta.get("eps", 1e-8),
      weight_decay=meta["weight_decay"],
      grad_clip_norm=None,
    )
    tx, _ = make_optimizer(optimizer, 1, method.param_groups())

  @jax.jit
  def run(params, method_state, batch):
    (_, (aux, outputs)), gradients = jax.value_and_grad(objectives, has_aux=True)(params, method_state, *batch)
    after = None
    if tx is not None:
      state = TrainState(jnp.zeros((), jnp.int32), params, method_state, tx.init(params))
      after = apply_gradients(method, tx, state, gradients, aux.for_update, state.step)
    return Step(aux.metrics, aux.for_update, outputs, gradients, after)

  with jax.default_matmul_precision("highest"):
    return run(*jax.tree.map(jnp.asarray, (params, method_state, batch)))
