"""The state of methods with a student and perhaps a teacher: an EMA of its parameters, and running statistics.

`method_state` holds "teacher", modules of parameters, where there is a teacher, and "statistics", the running
statistics of the backbones of "student" and "teacher", where they have batch norms.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

from saip_jax.backbones.statistics import join_statistics, split_statistics
from saip_jax.methods.modules import replace_modules


def start_teacher(params: dict, statistics, has_teacher: bool) -> dict:
  """Returns the method state of a new run: the teacher is a copy of the student.

  Args:
    params: parameters of the student that the teacher has too.
    statistics: running statistics of the backbone; None without batch norm.
    has_teacher: there is a teacher.
  """
  method_state = {"teacher": jax.tree.map(jnp.copy, params)} if has_teacher else {}
  if statistics:
    names = ("student", "teacher") if has_teacher else ("student",)
    method_state["statistics"] = {name: jax.tree.map(jnp.copy, statistics) for name in names}
  return method_state


def load_student_and_teacher(
  params: dict, method_state: dict, student: dict, teacher: dict | None
) -> tuple[dict, dict]:
  """Returns `params` and `method_state` with loaded weights, see `Method.load_params`."""
  student, statistics = _split_backbone(student)
  teacher, teacher_statistics = _split_backbone(teacher or {})
  params = replace_modules(params, student)
  if "teacher" in method_state:
    copied = {name: params[name] for name in method_state["teacher"]}
    method_state = method_state | {"teacher": replace_modules(copied, teacher)}
  if "statistics" in method_state and statistics:
    loaded = {"student": statistics, "teacher": teacher_statistics or statistics}
    loaded = {name: loaded[name] for name in method_state["statistics"]}
    method_state = method_state | {"statistics": replace_modules(method_state["statistics"], loaded)}
  return params, method_state


def _split_backbone(modules: dict) -> tuple[dict, dict | None]:
  """Returns the modules without the running statistics of the backbone, and these statistics."""
  if "backbone" not in modules:
    return modules, None
  split = split_statistics(modules["backbone"])
  return modules | {"backbone": split["params"]}, split.get("batch_stats")


def cosine_momentum(momentum: float, step: jax.Array, total_steps: int, accumulate: int) -> jax.Array:
  """Returns the momentum of the teacher at a micro-step: from `momentum` up to 1, along half a cosine.

  The teacher moves once per update, at its last micro-step; at the others its momentum is 1.

  Args:
    momentum: momentum at the first update.
    step: micro-step.
    total_steps: updates of the run.
    accumulate: micro-steps per update.

  Source: DINO (Caron et al. 2021), section 3.1.
  """
  update, last = step // accumulate, (step + 1) % accumulate == 0
  rising = 1 - (1 - momentum) * 0.5 * (1 + jnp.cos(jnp.pi * update / total_steps))
  return jnp.where(last, rising, 1.0)


def move_teacher(teacher: dict, params: dict, momentum: jax.Array | float) -> dict:
  """Returns momentum * teacher + (1 - momentum) * params, for the modules that the teacher has."""
  return optax.incremental_update({name: params[name] for name in teacher}, teacher, 1.0 - momentum)


def move_statistics(
  rule: Literal["own", "ema", "copied"], before: dict, seen: dict, momentum: jax.Array | float
) -> dict:
  """Returns the running statistics after a micro-step.

  Args:
    rule: source of the teacher's: "own", its own batches; "ema", a moving average of the student's, as for
      parameters; "copied", the student's.
    before: statistics of "student" and, if there is one, "teacher" before the micro-step.
    seen: statistics after the batches of the micro-step.
    momentum: momentum of the teacher.
  """
  student = seen["student"]
  after = {"student": student}
  if "teacher" in before:
    match rule:
      case "own":
        after["teacher"] = seen["teacher"]
      case "ema":
        after["teacher"] = optax.incremental_update(student, before["teacher"], 1.0 - momentum)
      case "copied":
        after["teacher"] = jax.tree.map(jnp.copy, student)
  return after


def export_student_or_teacher(params: dict, method_state: dict, which: str) -> dict:
  """Returns the backbone of the student or of the teacher, see `Method.export_params`.

  Raises:
    ValueError: an unknown `which`, or a teacher that the run does not have.
  """
  if which not in ("student", "teacher"):
    raise ValueError(f"which={which!r} is unknown; choose student or teacher")
  if which == "teacher" and "teacher" not in method_state:
    raise ValueError("which='teacher': this run has no teacher, its student learns without a moving average")
  backbone = (params if which == "student" else method_state["teacher"])["backbone"]
  return join_statistics(backbone, method_state.get("statistics", {}).get(which))
