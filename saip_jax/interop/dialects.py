"""How others name and nest weights: one registry, each entry both directions of one naming.

All are built on timm's names of the backbone (`twins.TWINS`). A dialect knows nothing of files: it turns `Weights`
into nested dicts of arrays and back.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from input_pipeline.checks import shortlist
from saip_jax.backbones.features import Backbone
from saip_jax.interop import saip, vit
from saip_jax.interop.architectures import TWINS, kind_of
from saip_jax.interop.nesting import Encoder, State, locate
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.tables import from_torch, to_torch

_BACKBONE = "backbone."  # the encoder's module in the published SAIP and in DINO


@dataclasses.dataclass(frozen=True)
class Dialect:
  """A naming that holds the backbone alone.

  Attributes:
    reads: whether such files can be imported; all can be written.
    pos_interpolation: how those who train such files resize positions.
    pack: state dict -> what the file holds; `nesting.locate` finds it there.
    changes: regular expressions that turn timm's names into these.
    ignored: regular expressions of tensors that have no place here, beside those of the backbone's twin.
    with_args: writes what no tensor determines into `args` beside them.
  """

  reads: bool
  pos_interpolation: str
  pack: Callable[[dict], dict]
  changes: tuple[tuple[str, str], ...] = ()
  ignored: tuple[str, ...] = ()
  with_args: bool = False

  backbone_alone = True  # other modules in a file are left out

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
    content = self.pack(to_torch(tree, self._table(weights.spec.name), weights.spec.patch))
    return content | ({"args": _args(weights)} if self.with_args else {})

  def states(self, nested: Mapping, part: str | None = None) -> tuple[State, State | None]:
    """Returns the state dicts of student and teacher, without what stands before the names of the dialect.

    Args:
      nested: what a file holds.
      part: see `nesting.locate`.

    Raises:
      ValueError: several encoders and no telling which is meant.
    """
    located = locate(nested, part)
    if located is None:
      return {name: a for name, a in nested.items() if isinstance(a, np.ndarray)}, None
    return self.state_of(located.student), None if located.teacher is None else self.state_of(located.teacher)

  def state_of(self, encoder: Encoder) -> State:
    """Returns the tensors of one encoder, and of what belongs to it in the dialect."""
    return encoder.own

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

  backbone_alone = False

  def to_state(self, weights, which: str = "student") -> dict[str, Any]:
    patch = weights.spec.patch
    content = {"student": {f"module.{name}": a for name, a in saip.write(weights.student, patch).items()}}
    if weights.teacher is not None:
      content["teacher"] = saip.write(weights.teacher, patch)
    return content | {"args": _args(weights) | weights.head_counts}

  def state_of(self, encoder: Encoder) -> State:
    """The heads stand beside the backbone: its prefix without "backbone." is that of all."""
    if not encoder.prefix.endswith(_BACKBONE):
      raise ValueError(no_vit("saip", encoder.state, _BACKBONE))
    return {name.removeprefix(encoder.prefix.removesuffix(_BACKBONE)): a for name, a in encoder.state.items()}

  def from_state(self, state: State, name: str, backbone: Backbone) -> dict:
    return saip.read(state, backbone)


def _args(weights) -> dict[str, Any]:
  """Returns what no tensor of a ViT determines, and what decides whether they fit, under the published names."""
  spec, module = weights.spec, weights.spec.build()
  return {
    "num_heads": module.heads,
    "last_heads": module.last_heads or module.heads,
    "embed_dim": module.width,
    "depth": module.depth,
    "patch_size": module.patch,
    "image_hw": list(spec.image_hw),
    "pos_interpolation": spec.pos_interpolation,
  }


def _prefixed(prefix: str, state: State) -> dict[str, np.ndarray]:
  return {prefix + name: array for name, array in state.items()}


_TIMM = Dialect(True, "grid2d", dict)

DIALECTS: dict[str, Dialect] = {
  "timm": _TIMM,
  "safetensors": _TIMM,  # the same names; the file stands alone
  "saip": SaipDialect(True, "flat1d", dict, ignored=saip.IGNORED),
  "mae": Dialect(True, "grid2d", lambda state: {"model": state}, ignored=(r"^decoder_",)),
  "dino": Dialect(  # both hold the backbone asked for: loaders differ in the one they read
    True,
    "grid2d",
    lambda state: {"teacher": _prefixed(_BACKBONE, state), "student": _prefixed(f"module.{_BACKBONE}", state)},
    ignored=(r"^(dino_head|ibot_head)\.",),
    with_args=True,
  ),
  "vitpose": Dialect(False, "grid2d", lambda state: {"state_dict": state}, changes=vit.VITPOSE),
  "mmpose": Dialect(False, "grid2d", lambda state: {"state_dict": _prefixed(_BACKBONE, state)}, changes=vit.MMPRETRAIN),
}


def recognize(nested: Mapping, part: str | None = None) -> str | None:
  """Returns the name of the dialect that a file's keys are of, None if there is no telling.

  Args:
    nested: what the file holds.
    part: see `nesting.locate`.
  """
  located = locate(nested, part)
  if located is None:
    return None
  student, encoders = located.student, [e for e in (located.student, located.teacher) if e]
  if kind_of(student.own) not in ("vit", None):
    return "timm"
  for name, kind in (("layers.0.ln1.weight", "mmpose"), ("last_norm.weight", "vitpose")):
    if name in student.own:
      return kind
  if any(e.prefix.endswith(_BACKBONE) and _is_published(DIALECTS["saip"].state_of(e)) for e in encoders):
    return "saip"
  if any(e.is_a(role) for e in encoders for role in ("student", "teacher")):
    return "dino"
  return "mae" if student.sections[:1] == ("model",) or "decoder_pos_embed" in student.own else "timm"


def no_vit(dialect: str, names: Iterable[str], prefix: str = "") -> str:
  """Returns why tensors cannot be read in a dialect."""
  return (
    f"no ViT in the names of --dialect={dialect}, which has {prefix}pos_embed and {prefix}patch_embed.proj.weight;"
    f" the file begins with {shortlist(names) or 'nothing'}"
  )


def _is_published(state: State) -> bool:
  heads = tuple(prefix for prefix, _ in saip.HEADS.values())
  return any(name.startswith((*heads, f"{_BACKBONE}inter_norm.")) for name in state)
