"""What a method keeps beside the parameters: a teacher that follows them, and running statistics of batch norms."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from saip_jax.backbones.features import Backbone, Features, Views
from saip_jax.backbones.statistics import join_statistics, split_statistics
from saip_jax.methods.base import replace_modules


def encode(backbone: Backbone, params: dict, statistics, views: list[Views]) -> tuple[list[Features], Any]:
  """Returns the features of views and the running statistics after them.

  Args:
    backbone: the encoder.
    params: its parameters.
    statistics: its running statistics; None for an encoder without.
    views: of one batch, encoded together.
  """
  variables = {"params": params} | ({"batch_stats": statistics} if statistics else {})
  features, changed = backbone.apply(variables, views, mutable=["batch_stats"], method=type(backbone).encode)
  return features, changed.get("batch_stats")


def start(params: dict, statistics, taught: bool) -> dict:
  """Returns "teacher", if there is to be one, a copy of these parameters, and "statistics", if there are some."""
  method_state = {"teacher": jax.tree.map(jnp.copy, params)} if taught else {}
  if statistics:
    names = ("student", "teacher") if taught else ("student",)
    method_state["statistics"] = {name: jax.tree.map(jnp.copy, statistics) for name in names}
  return method_state


def load_params(params: dict, method_state: dict, student: dict, teacher: dict | None) -> tuple[dict, dict]:
  """See `Method.load_params`; what else `method_state` holds stays as it is."""
  student, statistics = _apart(student)
  teacher, teacher_statistics = _apart(teacher or {})
  params = replace_modules(params, student)
  if "teacher" in method_state:
    copied = {name: params[name] for name in method_state["teacher"]}
    method_state = method_state | {"teacher": replace_modules(copied, teacher)}
  if "statistics" in method_state and statistics:
    taken = {"student": statistics, "teacher": teacher_statistics or statistics}
    taken = {who: taken[who] for who in method_state["statistics"]}
    method_state = method_state | {"statistics": replace_modules(method_state["statistics"], taken)}
  return params, method_state


def _apart(modules: dict) -> tuple[dict, dict | None]:
  """Returns modules with a backbone's running statistics taken out, and these."""
  if "backbone" not in modules:
    return modules, None
  split = split_statistics(modules["backbone"])
  return modules | {"backbone": split["params"]}, split.get("batch_stats")


def cosine_momentum(momentum: float, step: jax.Array, total_steps: int, accumulate: int) -> jax.Array:
  """Returns the share of the teacher that is kept after a micro-step: from `momentum` up to 1, along half a cosine.

  The teacher moves once per update, at its last micro-step; at the others all of it is kept.

  Args:
    momentum: share kept at the first update.
    step: micro-step.
    total_steps: updates of the run.
    accumulate: micro-steps per update.

  Source: DINO (Caron et al. 2021), section 3.1.
  """
  update, last = step // accumulate, (step + 1) % accumulate == 0
  rising = 1 - (1 - momentum) * 0.5 * (1 + jnp.cos(jnp.pi * update / total_steps))
  return jnp.where(last, rising, 1.0)


def follow(teacher: dict, params: dict, kept: jax.Array | float) -> dict:
  """Returns kept * teacher + (1 - kept) * params, for the modules that the teacher has."""
  return optax.incremental_update({name: params[name] for name in teacher}, teacher, 1.0 - kept)


def move_statistics(rule: Literal["own", "ema", "copied"], before: dict, seen: dict, kept: jax.Array | float) -> dict:
  """Returns the running statistics after a micro-step.

  Args:
    rule: the teacher's are those that its own batches gave, follow the student's as parameters do, or are the
      student's.
    before: of "student" and, if there is one, "teacher", before it.
    seen: those that the batches of the micro-step gave.
    kept: share of the teacher that is kept.
  """
  student = seen["student"]
  after = {"student": student}
  if "teacher" in before:
    match rule:
      case "own":
        after["teacher"] = seen["teacher"]
      case "ema":
        after["teacher"] = optax.incremental_update(student, before["teacher"], 1.0 - kept)
      case "copied":
        after["teacher"] = jax.tree.map(jnp.copy, student)
  return after


def export_params(params: dict, method_state: dict, which: str) -> dict:
  """See `Method.export_params`.

  Raises:
    ValueError: an unknown `which`, or a teacher that the run does not have.
  """
  if which not in ("student", "teacher"):
    raise ValueError(f"which={which!r} is unknown; choose student or teacher")
  if which == "teacher" and "teacher" not in method_state:
    raise ValueError("which='teacher': this run has none, its student learns without a moving average")
  backbone = (params if which == "student" else method_state["teacher"])["backbone"]
  return join_statistics(backbone, method_state.get("statistics", {}).get(which))
