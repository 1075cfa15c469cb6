"""One update of any method: the function that is trained with, tested and compiled ahead of time."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from saip_jax.training.state import TrainState


def init_state(method, tx: optax.GradientTransformation, seed: int) -> TrainState:
  """Returns the state before the first update, without frozen weights.

  Args:
    method: a `saip_jax.methods.base.Method`.
    tx: the optimizer.
    seed: run seed; initial weights depend on it alone.
  """
  params, method_state = method.init(jax.random.key(seed))
  return TrainState(jnp.zeros((), jnp.int32), params, method_state, tx.init(params))


def state_shapes(method, tx: optax.GradientTransformation, seed: int) -> TrainState:
  """Returns shapes and dtypes of the state, frozen weights included; arguments as in `init_state`."""
  return jax.eval_shape(functools.partial(init_state, method, tx, seed)).replace(
    frozen=jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), method.frozen)
  )


def make_train_step(
  method, tx: optax.GradientTransformation, schedule: optax.Schedule, accumulate: int, seed: int
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
  """Returns `step(state, batch) -> (state, metrics)`, pure, to be jitted with the state donated.

  A batch is cut into `accumulate` micro-batches, row i going to micro-step i % accumulate, so that every
  device keeps its own rows. Gradients are averaged; `method.after_update` runs after every micro-step, the
  last time on the new parameters: a teacher that moves per micro-step (as published) and one that
  moves per update can both be expressed.

  Args:
    method: a `saip_jax.methods.base.Method`.
    tx: the optimizer.
    schedule: update count -> learning rate, logged as `optim/lr`.
    accumulate: micro-steps per update.
    seed: run seed; micro-step m draws from fold_in(key(seed), m), samples fold in their index.
  """
  value_and_grad = jax.value_and_grad(method.loss, has_aux=True)

  def micro_step(state: TrainState, batch, step):
    key = jax.random.fold_in(jax.random.key(seed), step)
    (_, aux), grads = value_and_grad(state.params, state.readable, batch, key, step)
    return grads, aux

  def train_step(state: TrainState, batch):
    params, first = state.params, state.step * accumulate
    if accumulate == 1:
      method_state, (grads, aux) = state.method_state, micro_step(state, batch, first)
      metrics = aux.metrics
    else:

      def body(carry, xs):
        method_state, total = carry
        i, rows = xs
        grads, aux = micro_step(state.replace(method_state=method_state), rows, first + i)
        total = jax.tree.map(jnp.add, total, grads)
        method_state = jax.lax.cond(
          i < accumulate - 1,
          jax.named_scope("update")(lambda e: method.after_update(e, params, aux.for_update, first + i)),
          lambda e: e,
          method_state,
        )
        return (method_state, total), aux

      micro_batches = jax.tree.map(lambda a: a.reshape(-1, accumulate, *a.shape[1:]).swapaxes(0, 1), batch)
      carry = (state.method_state, jax.tree.map(jnp.zeros_like, params))
      (method_state, total), auxes = jax.lax.scan(body, carry, (jnp.arange(accumulate), micro_batches))
      grads = jax.tree.map(lambda g: g / accumulate, total)
      metrics = jax.tree.map(lambda m: jnp.mean(m, axis=0), auxes.metrics)
      aux = jax.tree.map(lambda a: a[-1], auxes)

    after = apply_gradients(
      method, tx, state.replace(method_state=method_state), grads, aux.for_update, first + accumulate - 1
    )
    # Norms of updates and parameters would be two more passes over all that the update writes.
    metrics = metrics | {"optim/lr": schedule(state.step), "optim/grad_norm": optax.tree.norm(grads)}
    return after, metrics

  return train_step


def apply_gradients(
  method, tx: optax.GradientTransformation, state: TrainState, grads: Any, for_update: Any, micro_step: jax.Array | int
) -> TrainState:
  """Returns the state after an update.

  Args:
    method: a `saip_jax.methods.base.Method`.
    tx: the optimizer.
    state: before the update, `method_state` as after all micro-steps but the last.
    grads: gradients, like the parameters.
    for_update: `Aux.for_update` of the last micro-step.
    micro_step: its number.
  """
  with jax.named_scope("update"):
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    method_state = method.after_update(state.method_state, params, for_update, micro_step)
  return TrainState(state.step + 1, params, method_state, opt_state, state.frozen)
