"""Reading one weight file of any dialect."""

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
from saip_jax.interop.architectures import ARCHITECTURES, TorchArchitecture, kind_of
from saip_jax.interop.attention_heads import heads_of
from saip_jax.interop.declared import Declared, ReadOptions, read_declared, used_settings
from saip_jax.interop.dialects import DIALECTS, Dialect, no_encoder, recognize_dialect
from saip_jax.interop.foreign_names import RENAMED, in_their_names, in_timms_names
from saip_jax.interop.identify import refuse_other_architecture, refuse_other_facts
from saip_jax.interop.nesting import FileEncoder, Located, StateDict, locate
from saip_jax.interop.normalization import normalization_of
from saip_jax.interop.refusals import missing_part
from saip_jax.interop.shapes import new_values, parameter_shapes
from saip_jax.interop.solider import without_controller
from saip_jax.interop.spec import BackboneSpec, Weights
from saip_jax.interop.swin import swin_name
from saip_jax.interop.tensor_files import read_tensors
from saip_jax.interop.variants import plain_vit
from saip_jax.interop.vit_files import entry_of, spec_of_vit, with_known_size


def extra_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the files in which `saip export` stores the tensors that timm's models lack: 0.1 beside timm's tensors."""
  names = sorted({architecture.extra_file for architecture in ARCHITECTURES.values()})
  places = [folder / place for name in names for place in (pathlib.Path(name).name, name)]
  return [path for path in places if path.is_file()]


def check_dialect(dialect: str) -> None:
  """Raises ValueError unless files of the dialect can be read."""
  readable = [*(name for name, entry in DIALECTS.items() if entry.reads), *RENAMED]
  if dialect not in readable:
    raise ValueError(f"--dialect={dialect} cannot be read; choose one of {', '.join(readable)}")


def open_weight_file(path: pathlib.Path, options: ReadOptions) -> Weights:
  """Returns the weights of one file; options and errors are those of `weights.open_weights`."""
  nested, plain = read_tensors(path)
  if path.suffix == ".safetensors":
    for extra_file in extra_files(path.parent):
      nested = nested | read_tensors(extra_file)[0]
  located = locate(nested, options.part)
  name = options.dialect or recognize_dialect(nested, options.part)
  if name is None:
    raise ValueError(_unknown(nested))
  check_dialect(name)
  if located is None:
    raise ValueError(no_encoder(name, _names(nested)))
  declared = read_declared(path, plain)
  declared, known = with_known_size(located.student, declared, options)
  located, changes = _in_plain_form(located, declared, options)
  entry = entry_of(name)
  student, teacher = (None if e is None else entry.state_of(e) for e in (located.student, located.teacher))
  try:
    spec, assumed = _spec_of(name, located.student, declared, options)
  except ValueError as e:
    raise ValueError(in_their_names(str(e), located.student.theirs)) from e
  notes = [*located.notes, *known, *changes, *assumed]

  # Both are read before anything is raised, so that all faults are reported at once.
  trees, faults, backbone = [], [], spec.build()
  for who, state in (("student", student), ("teacher", teacher)):
    try:
      trees.append(None if state is None else entry.from_state(state, spec.name, backbone))
    except ValueError as e:
      faults.append(f"{who}: {in_their_names(str(e), located.student.theirs)}")
  if faults:
    raise ValueError("; ".join(faults))
  halves = zip(("student", "teacher"), trees)
  new = [f"{who}/{added}" for who, tree in halves for added in _complete(tree, spec, backbone)]
  notes += _unused(entry, spec.architecture, located, nested, plain, student, teacher)
  if new:
    notes += [spec.architecture.note] if spec.architecture.note else []
    notes.append(f"not in the file, initialized as in a new model: {', '.join(new)}")
  head_counts = {name: n for name, n in declared.head_counts.items() if name.removesuffix("_heads") in trees[0]}
  how = name if options.semantic_weight is None else f"{name}, semantic weight {options.semantic_weight:g}"
  return Weights(spec, *trees, f"{path} ({how})", tuple(notes), tuple(new), head_counts)


def _unknown(nested: Mapping) -> str:
  names = _names(nested)
  return missing_part(names) or (
    f"the names of the tensors are of no known dialect ({shortlist(names) or 'none'}): no encoder was found under any"
    " prefix or section"
  )


def _names(nested: Mapping, prefix: str = "") -> list[str]:
  """Returns the names of all tensors, with `/` after section names."""
  names = []
  for name, value in nested.items():
    names += _names(value, f"{prefix}{name}/") if isinstance(value, Mapping) else [f"{prefix}{name}"]
  return names


def _in_plain_form(located: Located, declared: Declared, options: ReadOptions) -> tuple[Located, list[str]]:
  """Returns the encoders in the form of the tables, and notes on the changes."""
  encoders, notes = {}, []
  for who, encoder in (("student", located.student), ("teacher", located.teacher)):
    if encoder is not None and any(a.dtype == np.float64 for a in encoder.own.values()):
      notes.append("float64 values are rounded to float32")
    if encoder is not None:
      own, changes = without_controller(encoder.own, options.semantic_weight)
      notes += changes
      encoder = encoder.replaced(own)
    own, theirs = ({}, {}) if encoder is None else in_timms_names(encoder.own)
    if kind_of(own) == "vit":
      try:
        own, changes, again = plain_vit(own, declared, options)
      except ValueError as e:
        raise ValueError(in_their_names(str(e), theirs)) from e
      notes += changes
      theirs |= {name: theirs.get(other, other) for name, other in again.items()}
      encoder = encoder.replaced(own, theirs)
    encoders[who] = encoder
  return dataclasses.replace(located, **encoders), list(dict.fromkeys(notes))


def _complete(tree: dict | None, spec: BackboneSpec, backbone: Backbone) -> list[str]:
  """Initializes the extra tensors that a backbone lacks, as in a new model; returns their paths."""
  if tree is None:
    return []
  held = tree["backbone"]
  added = [
    row.path for module, rows in spec.architecture.names.extra_modules.items() if module not in held for row in rows
  ]
  if added:
    held |= new_values(backbone, added)
  return [f"backbone/{path}" for path in added]


def _spec_of(
  dialect: str, encoder: FileEncoder, declared: Declared, options: ReadOptions
) -> tuple[BackboneSpec, list[str]]:
  """Returns the spec by the backbone's tensors and the declarations about them, and notes on assumptions."""
  kind, named = kind_of(encoder.own) or "vit", entry_of(dialect).kind
  if named not in (None, kind):
    raise ValueError(
      f"--dialect={dialect} names tensors of a {named}, and these are of a {kind}; without --dialect their names decide"
    )
  if kind == "vit":
    spec, notes = spec_of_vit(dialect, encoder.own, declared, options)
  else:
    spec, notes = _spec_of_stages(dialect, kind, encoder.own, declared, options), []
  spec, assumed = heads_of(spec, dialect, encoder, declared, options)
  notes += assumed
  for facts in declared.facts:
    refuse_other_facts(facts, spec)
  normalization, note = normalization_of(spec, dialect, encoder, declared, options)
  return dataclasses.replace(spec, normalization=normalization), [*notes, *[note] * bool(note)]


def _spec_of_stages(
  dialect: str, kind: str, state: StateDict, declared: Declared, options: ReadOptions
) -> BackboneSpec:
  """Returns the spec of a backbone without positions: the one that the file names or its tensors fit.

  It accepts any image size.
  """
  names = [name for name, architecture in ARCHITECTURES.items() if architecture.kind == kind]
  name = next((facts["name"] for facts in declared.facts if facts.get("name") in names), None)
  name = name or (swin_name(state) if kind == "swin" else names[0])
  spec = BackboneSpec(name, tuple(options.image_hw or declared.image_hw or build_backbone(name).image_hw))
  spec.check_size(spec.image_hw)
  first = entry_of(dialect).table(name)[0]
  found, wanted = np.shape(state.get(first.torch)), parameter_shapes(spec.build())[first.path][-1]
  if found and found[0] != wanted:
    raise ValueError(f"a {kind} that begins {found[0]} wide is not {name}, which begins {wanted} wide")
  if declared.timm_name:
    refuse_other_architecture(declared.timm_name, name)
  return spec


def _unused(
  entry: Dialect,
  architecture: TorchArchitecture,
  located: Located,
  nested: Mapping[str, Any],
  plain: Mapping[str, Any],
  *states: StateDict | None,
) -> list[str]:
  """Returns one line each on tensors and on sections of the file that are not used."""
  matches = lambda name, patterns: any(re.search(p, name) for p in patterns)
  used = {row.torch for row in architecture.names.timm}
  ignored = set(entry.ignored) | set(architecture.names.ignored) - set(architecture.names.buffers)
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
