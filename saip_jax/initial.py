"""Starts a run from existing weights: `config.init_from`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from saip_jax.config import RunConfig
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.spec import BackboneSpec, Weights
from saip_jax.interop.weights import open_weights
from saip_jax.training.state import TrainState


def open_initial(config: RunConfig, method) -> Callable[[TrainState, Any], tuple[TrainState, str]]:
  """Opens the weights of `config.init_from` and returns `start_from` of them: (state, shardings) -> (state, line).

  Errors of the weights come before anything is compiled.
  """
  weights = _open_start(config)
  return lambda state, shardings: start_from(config, method, state, shardings, weights)


def _open_start(config: RunConfig) -> Weights:
  """Returns the weights of `config.init_from`, at the size of the run.

  Raises:
    ValueError: weights that cannot be read, or are of another network.
  """
  try:
    weights = open_weights(config.init_from)
    _refuse_others(config, weights)
    return weights.resized(config.model.image_hw)
  except ValueError as e:
    raise ValueError(f"--config.init_from={config.init_from}: {e}") from e


def start_from(
  config: RunConfig, method, state: TrainState, shardings, weights: Weights | None = None
) -> tuple[TrainState, str]:
  """Returns a new run's state with the weights of `config.init_from` in it, and a line that describes them.

  Positions are resized in 2-D if the run has another size; the optimizer starts anew.

  Args:
    config: the run.
    method: a `saip_jax.methods.base.Method`.
    state: as initialized.
    shardings: (of the parameters, of `method_state`) in the new state.
    weights: the weights at the size of the run; None opens those of `config.init_from`.

  Raises:
    ValueError: weights that cannot be read, or do not fit the run; every mismatch is listed.
  """
  weights = weights or _open_start(config)
  try:
    chosen = lambda tree: tree if config.init_heads or tree is None else {"backbone": tree["backbone"]}
    student, teacher = chosen(weights.student), chosen(weights.teacher)
    if config.init_which == "teacher":
      if teacher is None:
        raise ValueError("it has no teacher, which config.init_which asks for")
      student = teacher
    model = method.load_params(state.params, state.method_state, student, teacher)
  except ValueError as e:
    raise ValueError(f"--config.init_from={config.init_from}: {e}") from e
  # Copies: the state is donated to every step, so that no two of its arrays may share memory.
  params, method_state = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=shardings)(model)

  counts = weights.counts()
  taken = lambda who, tree: f"{sum(counts[f'{who}/{name}'] for name in tree)} tensors of the {who} ({', '.join(tree)})"
  parts = [taken(config.init_which, student)]
  if "teacher" in method_state:
    parts.append(taken("teacher", teacher) if teacher else "the teacher is a copy of the student")
  new = [*sorted(state.params.keys() - student.keys()), *weights.new]
  line = f"initial  {', '.join(parts)} from {weights.origin}; new: {', '.join(new) or 'nothing'}"
  line = "\n         ".join([line, *weights.notes])
  return state.replace(params=params, method_state=method_state), line


def _same_parameters(spec: BackboneSpec, name: str) -> bool:
  """Returns whether another backbone has the same parameters, as HRNets that enlarge maps in another way."""
  other = dataclasses.replace(spec, name=name)
  return spec.architecture.kind == other.architecture.kind and parameter_shapes(spec.build()) == parameter_shapes(
    other.build()
  )


def _refuse_others(config: RunConfig, weights: Weights) -> None:
  """Raises ValueError for mismatches that no shape of a tensor shows: another backbone, other numbers of heads."""
  if weights.spec.name != config.model.backbone and not _same_parameters(weights.spec, config.model.backbone):
    raise ValueError(
      f"these are weights of {weights.spec.name}, config.model.backbone is {config.model.backbone};"
      f" --config.model.backbone={weights.spec.name} starts from them"
    )
  wanted = weights.spec.having(**config.model.own_attributes)
  odd = {name: n for name, n in weights.spec.own_attributes.items() if getattr(wanted, name) != n}
  if odd and not odd.keys() & {"heads", "last_heads"}:
    settings = " and ".join(f"config.model.{name}={n}" for name, n in odd.items())
    raise ValueError(f"these are weights of another {weights.spec.name}: set {settings}")
  if wanted != weights.spec:
    facts = weights.spec.facts()
    raise ValueError(
      f"these are weights of a {weights.spec.name} with {facts['heads']} attention heads, {facts['last_heads']} in"
      f" the last block: set config.model.heads={facts['heads']} and config.model.last_heads={facts['last_heads']};"
      " --heads and --last-heads of saip import set others for a file that does not specify them"
    )
  if config.init_heads:
    here = config.head_counts
    odd = [
      f"{name} was {n}, config.method.{name.replace('_', '.')} is {here[name]}"
      for name, n in weights.head_counts.items()
      if n != here.get(name, n)
    ]
    if odd:
      raise ValueError(f"{'; '.join(odd)}; --config.init_heads=False takes the backbone alone")
