"""Dialects: how other programs name and nest weights.

Every dialect is built on timm's names of the backbone (`architectures.ARCHITECTURES`) and converts in both directions
between `Weights` and nested dicts of arrays. Files are read and written elsewhere.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from input_pipeline.checks import shortlist
from saip_jax.backbones.features import Backbone
from saip_jax.interop import saip
from saip_jax.interop.architectures import ARCHITECTURES, kind_of
from saip_jax.interop.foreign_names import foreign_dialect
from saip_jax.interop.nesting import FileEncoder, StateDict, locate
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.solider import SOLIDER_IGNORED, SOLIDER_SIGN, solider_rows
from saip_jax.interop.tables import Row, from_torch, to_torch
from saip_jax.interop.vit import MMPRETRAIN_CHANGES, VITPOSE_CHANGES, renamed

_BACKBONE = "backbone."  # the encoder's module in the published SAIP and in DINO


@dataclasses.dataclass(frozen=True)
class Dialect:
  """A dialect of files that hold the backbone alone.

  Attributes:
    reads: whether files can be imported by it; `foreign_names.RENAMED` has further ones.
    pos_interpolation: how programs that train such weights resize positions.
    pack: state dict -> nested content of the file, where `nesting.locate` finds it.
    changes: regular expressions and replacements that turn timm's names into those of the dialect.
    ignored: regular expressions of tensors to skip, in addition to those of the architecture.
    with_args: whether `args` is written with what no tensor determines.
    kind: the kind of backbone whose tensors it names, see `TorchArchitecture`; None for every kind.
  """

  reads: bool
  pos_interpolation: str
  pack: Callable[[dict], dict]
  changes: tuple[tuple[str, str], ...] = ()
  ignored: tuple[str, ...] = ()
  with_args: bool = False
  kind: str | None = "vit"

  backbone_alone = True  # other modules in a file are skipped

  def table(self, backbone: str) -> list[Row]:
    """Returns the rows of a backbone's tensors in the names of the dialect."""
    return renamed(ARCHITECTURES[backbone].names.timm, self.changes)

  def to_state(self, weights, which: str = "student") -> dict[str, Any]:
    """Returns the content of a file: nested dicts of arrays, without the extra tensors that timm's model lacks.

    Args:
      weights: `spec.Weights`.
      which: a key of `spec.ENCODER_MODULES`.
    """
    extra = weights.spec.architecture.names.extra_modules
    tree = {name: value for name, value in weights.backbone(which).items() if name not in extra}
    content = self.pack(to_torch(tree, self.table(weights.spec.name), weights.spec.patch))
    return content | ({"args": _args(weights)} if self.with_args else {})

  def state_of(self, encoder: FileEncoder) -> StateDict:
    """Returns the tensors of one encoder, and of its heads if the dialect has some."""
    return encoder.own

  def from_state(self, state: StateDict, name: str, backbone: Backbone) -> dict:
    """Returns the tree {"backbone": ...} of one state dict.

    Extra tensors that timm's model lacks, such as the norm of the tapped layer, are included if the file has them.

    Args:
      state: from `state_of`.
      name: the backbone's name in `saip_jax.backbones.BACKBONES`.
      backbone: the expected module.

    Raises:
      ValueError: tensors do not fit; all are listed at once.
    """
    architecture, table = ARCHITECTURES[name], self.table(name)
    for rows in architecture.names.extra_modules.values():
      if any(row.torch in state for row in rows):
        table += rows
    ignored = (*self.ignored, *architecture.names.ignored)
    return {"backbone": from_torch(state, table, ignored, parameter_shapes(backbone), backbone.stride)}


class SoliderDialect(Dialect):
  """The files of SOLIDER, see `solider`, without their semantic controller."""

  def table(self, backbone: str) -> list[Row]:
    return solider_rows(ARCHITECTURES[backbone].names.timm)


class SaipDialect(Dialect):
  """The published SAIP files: student and teacher with their heads, and `args`; `which` has no effect."""

  backbone_alone = False

  def to_state(self, weights, which: str = "student") -> dict[str, Any]:
    patch = weights.spec.patch
    content = {"student": {f"module.{name}": a for name, a in saip.write(weights.student, patch).items()}}
    if weights.teacher is not None:
      content["teacher"] = saip.write(weights.teacher, patch)
    return content | {"args": _args(weights) | weights.head_counts}

  def state_of(self, encoder: FileEncoder) -> StateDict:
    """Returns the tensors of the backbone and its heads: all share the backbone's prefix without "backbone."."""
    if not encoder.prefix.endswith(_BACKBONE):
      raise ValueError(no_encoder("saip", encoder.state, _BACKBONE))
    return {name.removeprefix(encoder.prefix.removesuffix(_BACKBONE)): a for name, a in encoder.state.items()}

  def from_state(self, state: StateDict, name: str, backbone: Backbone) -> dict:
    return saip.read(state, backbone)


def _args(weights) -> dict[str, Any]:
  """Returns the facts that readers need to build the ViT, under the published names."""
  spec, module = weights.spec, weights.spec.build()
  return {
    "num_heads": module.heads,
    "last_heads": module.last_heads or module.heads,
    "embed_dim": module.width,
    "depth": module.depth,
    "patch_size": module.patch,
    "image_hw": list(spec.image_hw),
    "pos_interpolation": spec.pos_interpolation,
    **({} if spec.normalization is None else dict(zip(("mean", "std"), map(list, spec.normalization)))),
  }


def _prefixed(prefix: str, state: StateDict) -> dict[str, np.ndarray]:
  return {prefix + name: array for name, array in state.items()}


_TIMM = Dialect(True, "grid2d", dict, kind=None)

DIALECTS: dict[str, Dialect] = {
  "timm": _TIMM,
  "safetensors": _TIMM,  # the same names, without timm's config.json
  "saip": SaipDialect(True, "flat1d", dict, ignored=saip.SAIP_IGNORED),
  "mae": Dialect(True, "grid2d", lambda state: {"model": state}, ignored=(r"^decoder_",)),
  "dino": Dialect(  # both hold the requested backbone: loaders differ in which they read
    True,
    "grid2d",
    lambda state: {"teacher": _prefixed(_BACKBONE, state), "student": _prefixed(f"module.{_BACKBONE}", state)},
    ignored=(r"^(dino_head|ibot_head)\.",),
    with_args=True,
  ),
  "vitpose": Dialect(False, "grid2d", lambda state: {"state_dict": state}, changes=VITPOSE_CHANGES),
  "mmpose": Dialect(
    False, "grid2d", lambda state: {"state_dict": _prefixed(_BACKBONE, state)}, changes=MMPRETRAIN_CHANGES
  ),
  "solider": SoliderDialect(
    True, "grid2d", lambda state: {"teacher": _prefixed(_BACKBONE, state)}, ignored=SOLIDER_IGNORED, kind="swin"
  ),
}


def recognize_dialect(nested: Mapping, part: str | None = None) -> str | None:
  """Returns the dialect of a file, by its keys; None if they are unknown.

  Args:
    nested: content of the file.
    part: see `nesting.locate`.
  """
  located = locate(nested, part)
  if located is None:
    return None
  student, encoders = located.student, [e for e in (located.student, located.teacher) if e]
  if foreign := foreign_dialect(student.own):
    return foreign
  if kind_of(student.own) not in ("vit", None):
    return "solider" if any(re.search(SOLIDER_SIGN, name) for name in student.own) else "timm"
  if "last_norm.weight" in student.own:
    return "vitpose"
  if any(e.prefix.endswith(_BACKBONE) and _is_published(DIALECTS["saip"].state_of(e)) for e in encoders):
    return "saip"
  if any(e.is_a(role) for e in encoders for role in ("student", "teacher")):
    return "dino"
  return "mae" if student.sections[:1] == ("model",) or "decoder_pos_embed" in student.own else "timm"


def no_encoder(dialect: str, names: Iterable[str], prefix: str = "") -> str:
  """Returns the error message for a file without an encoder in the names of a dialect."""
  kind, signs = "ViT", f"{prefix}pos_embed and {prefix}patch_embed.proj.weight"
  if dialect in DIALECTS and DIALECTS[dialect].kind == "swin":
    kind, signs = "Swin", f"{prefix}patch_embed.projection.weight and {prefix}stages.0.blocks.0.attn.w_msa"
  return (
    f"no {kind} in the names of --dialect={dialect}, which has {signs}; the file begins with"
    f" {shortlist(names) or 'nothing'}"
  )


def _is_published(state: StateDict) -> bool:
  heads = tuple(prefix for prefix, _ in saip.HEADS.values())
  return any(name.startswith((*heads, f"{_BACKBONE}inter_norm.")) for name in state)
