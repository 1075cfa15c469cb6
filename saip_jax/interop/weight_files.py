"""Reading one file of weights in whatever dialect it is."""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from input_pipeline.checks import shortlist
from saip_jax.backbones import build_backbone
from saip_jax.backbones.features import Backbone
from saip_jax.interop.architectures import TWINS, Twin, kind_of
from saip_jax.interop.attention_heads import heads_of
from saip_jax.interop.declared import Asked, Stated, read_stated, used_settings
from saip_jax.interop.dialects import DIALECTS, Dialect, no_vit, recognize
from saip_jax.interop.identify import name_of, refuse_other_architecture, refuse_other_facts, size_of_positions
from saip_jax.interop.nesting import Encoder, Located, State, locate
from saip_jax.interop.shapes import new_values, parameter_shapes
from saip_jax.interop.spec import BackboneSpec, Weights
from saip_jax.interop.tensor_files import read_tensors
from saip_jax.interop.variants import USUAL_PATCH, foreign_names, plain_vit
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD

EXTRA_FILES = sorted({twin.extra_file for twin in TWINS.values()})  # beside what `saip export` writes in timm's names


def check_dialect(dialect: str) -> None:
  """Raises ValueError unless files of the dialect can be read."""
  readable = [name for name, entry in DIALECTS.items() if entry.reads]
  if dialect not in readable:
    raise ValueError(f"--dialect={dialect} cannot be read; choose one of {', '.join(readable)}")


def open_file(path: pathlib.Path, asked: Asked) -> Weights:
  """Returns the weights of one file; arguments and errors are those of `weights.open_weights`."""
  nested, plain = read_tensors(path)
  if path.suffix == ".safetensors":
    for side_file in filter(pathlib.Path.is_file, map(path.with_name, EXTRA_FILES)):
      nested = nested | read_tensors(side_file)[0]
  located = locate(nested, asked.part)
  name = asked.dialect or recognize(nested, asked.part)
  if name is None:
    raise ValueError(_unknown(nested))
  check_dialect(name)
  if located is None:
    raise ValueError(no_vit(name, _names(nested)))
  stated = read_stated(path, plain)
  located, changes = _in_plain_form(located, stated, asked)
  entry = DIALECTS[name]
  student, teacher = (None if e is None else entry.state_of(e) for e in (located.student, located.teacher))
  spec, assumed = _spec_of(name, located.student, stated, asked)
  notes = [*located.notes, *changes, *assumed]

  # Both halves are read before anything is raised, so that all faults are told at once.
  trees, faults, backbone = [], [], spec.build()
  for who, state in (("student", student), ("teacher", teacher)):
    try:
      trees.append(None if state is None else entry.from_state(state, spec.name, backbone))
    except ValueError as e:
      faults.append(f"{who}: {e}")
  if faults:
    raise ValueError("; ".join(faults))
  halves = zip(("student", "teacher"), trees)
  new = [f"{who}/{added}" for who, tree in halves for added in _complete(tree, spec, backbone)]
  notes += _unused(entry, spec.twin, located, nested, plain, student, teacher)
  if new:
    notes += [spec.twin.note] if spec.twin.note else []
    notes.append(f"not in the file, as in a new model: {', '.join(new)}")
  head_counts = {name: n for name, n in stated.head_counts.items() if name.removesuffix("_heads") in trees[0]}
  return Weights(spec, *trees, f"{path} ({name})", tuple(notes), tuple(new), head_counts)


def _unknown(nested: Mapping) -> str:
  names = _names(nested)
  return foreign_names(names) or (
    f"the names of the tensors are of no known dialect ({shortlist(names) or 'none'}): no encoder was found under any"
    " prefix or section"
  )


def _names(nested: Mapping, prefix: str = "") -> list[str]:
  """Returns the names of all tensors, `/` after those of sections."""
  names = []
  for name, value in nested.items():
    names += _names(value, f"{prefix}{name}/") if isinstance(value, Mapping) else [f"{prefix}{name}"]
  return names


def _in_plain_form(located: Located, stated: Stated, asked: Asked) -> tuple[Located, list[str]]:
  """Returns the encoders, ViTs in the form of the tables, and what was changed."""
  encoders, notes = {}, []
  for who, encoder in (("student", located.student), ("teacher", located.teacher)):
    if encoder is not None and any(a.dtype == np.float64 for a in encoder.own.values()):
      notes.append("float64 values are rounded to float32")
    if encoder is not None and kind_of(encoder.own) == "vit":
      own, changes = plain_vit(encoder.own, stated.image_hw, asked.image_hw)
      notes += changes
      encoder = encoder.replaced(own)
    encoders[who] = encoder
  return dataclasses.replace(located, **encoders), list(dict.fromkeys(notes))


def _complete(tree: dict | None, spec: BackboneSpec, backbone: Backbone) -> list[str]:
  """Gives a backbone what timm's model does not have, as in a new one; returns the paths of what was added."""
  if tree is None:
    return []
  held = tree["backbone"]
  added = [row.path for module, rows in spec.twin.extra_modules.items() if module not in held for row in rows]
  if added:
    held |= new_values(backbone, added)
  return [f"backbone/{path}" for path in added]


def _spec_of(dialect: str, encoder: Encoder, stated: Stated, asked: Asked) -> tuple[BackboneSpec, list[str]]:
  """Returns what the backbone's tensors and the statements about them say, and what had to be assumed."""
  kind = kind_of(encoder.own) or "vit"
  if kind == "vit":
    spec, notes = _spec_of_vit(dialect, encoder.own, stated, asked)
  else:
    spec, notes = _spec_of_stages(dialect, kind, encoder.own, stated, asked), []
  spec, assumed = heads_of(spec, dialect, encoder, stated, asked)
  notes += assumed
  for facts in stated.facts:
    refuse_other_facts(facts, spec)
  if stated.normalization and stated.normalization != (IMAGENET_MEAN, IMAGENET_STD):
    notes.append(
      f"its configuration wants images normalized with mean {list(stated.normalization[0])} and std"
      f" {list(stated.normalization[1])}; here they are normalized with ImageNet's"
    )
  return spec, notes


def _spec_of_vit(dialect: str, state: State, stated: Stated, asked: Asked) -> tuple[BackboneSpec, list[str]]:
  shape = lambda name: np.shape(state.get(name, 0))
  positions, patches = shape("pos_embed"), shape("patch_embed.proj.weight")
  if len(positions) != 3 and len(patches) != 4:
    raise ValueError(no_vit(dialect, state))
  # One of the two is enough to list all that is missing.
  width = positions[-1] if len(positions) == 3 else patches[0]
  patch = patches[-1] if len(patches) == 4 else USUAL_PATCH
  depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
  name = name_of(width, depth, patch, rope="_rope_" in (stated.architecture or ""))
  if stated.architecture:
    refuse_other_architecture(stated.architecture, name)
  if len(positions) == 3:
    hw, note = size_of_positions(positions[1] - 1, patch, stated.image_hw, asked.image_hw)
  else:
    hw, note = stated.image_hw or build_backbone(name).image_hw, None
  spec = BackboneSpec(name, hw, stated.pos_interpolation or DIALECTS[dialect].pos_interpolation)
  return spec, [note] if note else []


def _spec_of_stages(dialect: str, kind: str, state: State, stated: Stated, asked: Asked) -> BackboneSpec:
  """Returns the backbone without positions: the one that the file names, or else the first of its kind.

  Any size of images will do for it.
  """
  if DIALECTS[dialect] is not DIALECTS["timm"]:
    raise ValueError(f"--dialect={dialect} names tensors of ViTs, and these are of a {kind}; --dialect=timm reads them")
  names = [name for name, twin in TWINS.items() if twin.kind == kind]
  name = next((facts["name"] for facts in stated.facts if facts.get("name") in names), names[0])
  spec = BackboneSpec(name, tuple(asked.image_hw or stated.image_hw or build_backbone(name).image_hw))
  spec.check_size(spec.image_hw)
  first = spec.twin.timm[0]
  found, wanted = np.shape(state.get(first.torch)), parameter_shapes(spec.build())[first.path][-1]
  if found and found[0] != wanted:
    raise ValueError(f"a {kind} that begins {found[0]} wide is not {name}, which begins {wanted} wide")
  if stated.architecture:
    refuse_other_architecture(stated.architecture, name)
  return spec


def _unused(
  entry: Dialect,
  twin: Twin,
  located: Located,
  nested: Mapping[str, Any],
  plain: Mapping[str, Any],
  *states: State | None,
) -> list[str]:
  """Returns lines on what the file holds and has no place here."""
  matches = lambda name, patterns: any(re.search(p, name) for p in patterns)
  used = {row.torch for row in twin.timm}
  ignored = set(entry.ignored) | set(twin.ignored) - set(twin.buffers)
  names = [n for state in states for n in state or () if n not in used and matches(n, ignored)]
  names += located.other_names if entry.backbone_alone else []
  encoders = [e for e in (located.student, located.teacher) if e]
  sections = []
  if all(e.sections for e in encoders):
    read = {e.sections[0] for e in encoders}.union(used_settings(plain))
    sections = [key for key in dict.fromkeys([*nested, *plain]) if key not in read]
  notes = []
  if names:
    groups = collections.Counter(name.rpartition(".")[0] or name for name in names)
    notes.append(f"not used: {len(names)} tensors of {shortlist(groups)}")
  if sections:
    notes.append(f"not used: {shortlist(sections)}")
  return notes
