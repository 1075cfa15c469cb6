"""One training step of a method on recorded views and draws."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.config import OptimizerConfig
from saip_jax.methods.base import Aux, Method
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.state import TrainState
from saip_jax.training.step import apply_gradients


@struct.dataclass
class Step:
  """Results of a step.

  Attributes:
    aux: metrics, `for_update` and outputs of the objectives.
    gradients: gradients of all parameters.
    after: the state after one update; None where no optimizer is recorded.
  """

  aux: Aux
  gradients: Any
  after: TrainState | None


def run_step(
  method: Method, params, method_state, views, meta: dict[str, Any], objectives: Callable | None = None
) -> Step:
  """Returns the results of a micro-step, the first of a run, in float32 at highest precision.

  Args:
    method: the method.
    params: recorded weights.
    method_state: recorded state beside them.
    views: recorded views and draws.
    meta: `lr`, `weight_decay`, `betas` and `eps` of the recorded AdamW step; without `lr` there is no update.
    objectives: replaces `method.objectives`.
  """
  objectives = objectives or method.objectives
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
  def run(params, method_state, views):
    first = jnp.zeros((), jnp.int32)
    (_, aux), gradients = jax.value_and_grad(objectives, has_aux=True)(params, method_state, views, first)
    after = None
    if tx is not None:
      state = TrainState(first, params, method_state, tx.init(params))
      after = apply_gradients(method, tx, state, gradients, aux.for_update, state.step)
    return Step(aux, gradients, after)

  with jax.default_matmul_precision("highest"):
    return run(*jax.tree.map(jnp.asarray, (params, method_state, views)))
