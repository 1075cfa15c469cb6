"""How others name and nest weights: one registry, each entry both directions of one naming.

All are built on timm's names of the backbone (`twins.TWINS`). A dialect knows nothing of files: it turns `Weights`
into nested dicts of arrays and back.
"""

import dataclasses
import re
from typing import Any, Callable, Mapping

import numpy as np

from saip_jax.backbones.features import Backbone
from saip_jax.interop import saip, vit
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.tables import from_torch, to_torch
from saip_jax.interop.twins import TWINS, kind_of

State = Mapping[str, np.ndarray]


def _plain(state: State) -> dict[str, np.ndarray]:
  """Returns the tensors under names without `module.` and `backbone.`, as loaders of the DINO family strip them."""
  return {re.sub(r"^(module\.)?(backbone\.)?", "", name): array for name, array in _section(state).items()}


def _section(state) -> State:
  if not isinstance(state, Mapping):
    raise ValueError("expected a dict of tensors, found a single one; is --dialect right?")
  return state


@dataclasses.dataclass(frozen=True)
class Dialect:
  """A naming that holds the backbone alone.

  Attributes:
    reads: whether such files can be imported; all can be written.
    pos_interpolation: how those who train such files resize positions.
    pack: state dict -> what the file holds.
    unpack: what the file holds -> (student's state dict, teacher's or None).
    changes: regular expressions that turn timm's names into these.
    ignored: regular expressions of tensors that have no place here, beside those of the backbone's twin.
    sections: keys of a file that `unpack` looks at; none where the file is flat.
  """

  reads: bool
  pos_interpolation: str
  pack: Callable[[dict], dict]
  unpack: Callable[[Mapping], tuple[State, State | None]]
  changes: tuple[tuple[str, str], ...] = ()
  ignored: tuple[str, ...] = ()
  sections: tuple[str, ...] = ()

  def _table(self, backbone: str):
    return vit.renamed(TWINS[backbone].timm, self.changes)

  def to_state(self, weights, which: str = "student") -> dict[str, Any]:
    """Returns what a file shall hold: nested dicts of arrays, without what timm's model does not have.

    Args:
      weights: `saip_jax.interop.weights.Weights`.
      which: a key of `spec.ENCODERS`.
    """
    own = weights.spec.twin.extra_modules
    tree = {name: value for name, value in weights.backbone(which).items() if name not in own}
    return self.pack(to_torch(tree, self._table(weights.spec.name), weights.spec.patch))

  def backbone_of(self, nested: Mapping, backbone: str = "vit_tiny") -> dict[str, np.ndarray]:
    """Returns the state dict of the student's backbone in timm's names, to be loaded strictly.

    Args:
      nested: what a file holds.
      backbone: its name in `saip_jax.backbones.BACKBONES`.
    """
    state, _ = self.unpack(nested)
    names = self._names(state, backbone)
    return {names[name]: array for name, array in state.items() if name in names}

  def _names(self, state: State, backbone: str) -> dict[str, str]:
    """Returns name here -> name in timm, of the tensors in the table."""
    names, blocks = {}, range(len(state))
    for here, timm in zip(self._table(backbone), TWINS[backbone].timm):
      indices = blocks if "{}" in here.torch else [0]
      names |= {here.torch.format(i): timm.torch.format(i) for i in indices if here.torch.format(i) in state}
    return names

  def states(self, nested: Mapping) -> tuple[State, State | None]:
    """Returns the state dicts of student and teacher, names without the prefixes of the dialect.

    Raises:
      ValueError: something else than tensors stands there.
    """
    student, teacher = self.unpack(nested)
    odd = [name for state in (student, teacher or {}) for name, a in state.items() if not isinstance(a, np.ndarray)]
    if odd:
      raise ValueError(f"expected tensors, found sections: {', '.join(odd)}; is --dialect right?")
    return student, teacher

  def from_state(self, state: State, name: str, backbone: Backbone) -> dict:
    """Returns the tree {"backbone": ...} of one state dict; all that does not fit is listed at once.

    What timm's model does not have, as the norm of the tapped layer, is in it where the file has some of it.

    Args:
      state: one of `states`.
      name: the backbone's name in `saip_jax.backbones.BACKBONES`.
      backbone: what the file shall hold.
    """
    twin, table = TWINS[name], list(self._table(name))
    for rows in twin.extra_modules.values():
      if any(row.torch in state for row in rows):
        table += rows
    ignored = (*self.ignored, *twin.ignored)
    return {"backbone": from_torch(state, table, ignored, parameter_shapes(backbone), backbone.stride)}


class SaipDialect(Dialect):
  """The published SAIP files: student and teacher with their heads, and `args`; `which` chooses nothing."""

  def to_state(self, weights, which: str = "student") -> dict[str, Any]:
    spec, module = weights.spec, weights.spec.build()
    content = {"student": {f"module.{name}": a for name, a in saip.write(weights.student, module.patch).items()}}
    if weights.teacher is not None:
      content["teacher"] = saip.write(weights.teacher, module.patch)
    content["args"] = {  # what no tensor tells, and what decides whether they fit
        "num_heads": module.heads, "last_heads": module.last_heads or module.heads, "embed_dim": module.width, "depth": module.depth, "patch_size": module.patch,
        "image_hw": list(spec.image_hw), "pos_interpolation": spec.pos_interpolation, **weights.head_counts,
    }
    return content

  def backbone_of(self, nested: Mapping, backbone: str = "vit_tiny") -> dict[str, np.ndarray]:
    state, _ = self.states(nested)
    return {name.removeprefix("backbone."): a for name, a in state.items() if name.startswith("backbone.")}

  def from_state(self, state: State, name: str, backbone: Backbone) -> dict:
    return saip.read(state, backbone)


def _both(nested: Mapping, strip: Callable[[State], State]) -> tuple[State, State | None]:
  """Returns the state dicts under `student` and `teacher`; one alone is the student."""
  found = [strip(nested[key]) for key in ("student", "teacher") if key in nested]
  if not found:
    found = [strip(nested)]
  return found[0], found[1] if len(found) > 1 else None


def _published(state: State) -> dict[str, np.ndarray]:
  return {name.removeprefix("module."): array for name, array in _section(state).items()}


def _prefixed(prefix: str, state: State) -> dict[str, np.ndarray]:
  return {prefix + name: array for name, array in state.items()}


_TIMM = Dialect(True, "grid2d", dict, lambda nested: (_plain(nested), None))

DIALECTS: dict[str, Dialect] = {
    "timm": _TIMM,
    "safetensors": _TIMM,  # the same names; the file stands alone
    "saip": SaipDialect(
        True, "flat1d", dict, lambda nested: _both(nested, _published), ignored=saip.IGNORED,
        sections=("student", "teacher", "args"),
    ),
    "mae": Dialect(
        True, "grid2d", lambda state: {"model": state},
        lambda nested: (_plain(nested.get("model", nested)), None),
        ignored=(r"^decoder_", r"^mask_token$"), sections=("model",),
    ),
    "dino": Dialect(  # both hold the backbone asked for: loaders differ in the one they read
        True, "grid2d",
        lambda state: {"teacher": _prefixed("backbone.", state), "student": _prefixed("module.backbone.", state)},
        lambda nested: _both(nested, _plain),
        ignored=(r"^(dino_head|ibot_head)\.",), sections=("student", "teacher"),
    ),
    "vitpose": Dialect(
        False, "grid2d", lambda state: {"state_dict": state},
        lambda nested: (_plain(nested.get("state_dict", nested)), None), changes=vit.VITPOSE, sections=("state_dict",),
    ),
    "mmpose": Dialect(
        False, "grid2d", lambda state: {"state_dict": _prefixed("backbone.", state)},
        lambda nested: (_plain(nested.get("state_dict", nested)), None), changes=vit.MMPRETRAIN,
        sections=("state_dict",),
    ),
}


def recognise(nested: Mapping) -> str | None:
  """Returns the name of the dialect that a file's keys are of, None if there is no telling."""
  if "state_dict" in nested:
    names = _plain(nested["state_dict"])
    kinds = {"layers.0.ln1.weight": "mmpose", "last_norm.weight": "vitpose"}
    return next((kind for name, kind in kinds.items() if name in names), None)
  if "student" in nested or "teacher" in nested:
    names = [name for state in _both(nested, _published) for name in state or ()]
    heads = tuple(prefix for prefix, _ in saip.HEADS.values())
    return "saip" if any(n.startswith((*heads, "backbone.inter_norm.")) for n in names) else "dino"
  if isinstance(nested.get("model"), Mapping):
    return "mae"
  names = _published({name: array for name, array in nested.items() if not isinstance(array, Mapping)})
  if "backbone.inter_norm.weight" in names:
    return "saip"
  return "timm" if kind_of(_plain(names)) else None
