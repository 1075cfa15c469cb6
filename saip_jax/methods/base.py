"""The protocol that every pre-training method follows; the trainer knows nothing else about it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import jax
from flax import struct


@struct.dataclass
class Aux:
  """What a loss returns beside its value.

  Attributes:
    metrics: name -> float32 scalar, averaged over micro-steps and logged.
    for_update: what `after_update` needs from this micro-step (e.g. the batch mean of teacher logits).
  """

  metrics: dict[str, jax.Array]
  for_update: Any


@dataclasses.dataclass(frozen=True)
class ParamGroup:
  """How the optimizer treats the parameters of a group.

  Attributes:
    decay: weight decay.
    lr_multiplier: of the learning rate, which weight decay follows; of blocks stacked along a leading axis, one for
      each.
    frozen: they stay as they are.
    start: updates before which they stay as they are; their moments start there too.
  """

  decay: bool = True
  lr_multiplier: float | tuple[float, ...] = 1.0
  frozen: bool = False
  start: int = 0


class Method(Protocol):
  """Pure functions from (params, method_state, batch, key) to a loss over the global batch.

  `step` counts micro-steps (updates x accumulation). No method uses a collective: the batch is global, the
  partitioner inserts what is needed.

  Attributes:
    backbone: the `saip_jax.backbones.features.Backbone` whose parameters `export_params` returns.
  """

  backbone: Any

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns name -> shape and dtype of every field of a batch of `global_batch` samples."""

  def init(self, key: jax.Array) -> tuple[Any, Any]:
    """Returns (params, method_state): trainable parameters, and the teacher, center, banks kept beside them."""

  def load_params(self, params, method_state, student: dict, teacher: dict | None) -> tuple[Any, Any]:
    """Returns (params, method_state) of a new run with weights from elsewhere in them, see `replace_modules`.

    Args:
      params: from `init`.
      method_state: from `init`.
      student: top-level name in `params` -> tree, for some of them.
      teacher: the same for the teacher; what it lacks is a copy of the student.

    Raises:
      ValueError: weights that have no place here, all of them listed.
    """

  def loss(self, params, method_state, batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
    """Returns the scalar to minimize and `Aux`; gradients stop inside at everything taken from `method_state`."""

  def after_update(self, method_state, params, for_update, step: jax.Array):
    """Returns `method_state` after a micro-step: moving averages, center, banks."""

  def param_groups(self) -> list[tuple[str, ParamGroup]]:
    """Returns (regex over parameter names, group) pairs; the first match wins, all must be covered."""

  def export_params(self, params, method_state, which: str):
    """Returns one encoder alone, its running statistics among its parameters.

    Args:
      which: "student", "teacher", or another encoder that the method has, of the same kind.
    """

  def panels(self, params, method_state, batch, key: jax.Array) -> dict[str, Any]:
    """Returns name -> `saip_jax.pictures.Panel`: pictures that show what the method does."""


def replace_modules(params: dict, loaded: Mapping[str, Any]) -> dict:
  """Returns `params` with whole modules replaced.

  Args:
    params: module name -> tree of parameters.
    loaded: the same for some of the modules.

  Raises:
    ValueError: listing every module and every parameter that does not fit.
  """
  wrong, heads_only = [], True
  for module, tree in loaded.items():
    shapes = [
      {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}
      for leaves in (jax.tree_util.tree_leaves_with_path(t) for t in (params.get(module, {}), tree))
    ]
    wanted, found = shapes
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    wrong += [f"{module}/{name} is {found.get(name, 'missing')}, expected {wanted.get(name, 'none')}" for name in names]
    heads_only &= not names or module != "backbone"
  if wrong:
    hint = "; --config.init_heads=False takes the backbone alone" if heads_only else ""
    raise ValueError(f"these weights do not fit: {', '.join(wrong)}{hint}")
  return {**params, **loaded}
