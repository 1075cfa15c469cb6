"""Reading one file of weights in whatever dialect it is."""

import collections
import pathlib
import re
from typing import Any, Mapping

import numpy as np

from saip_jax.backbones import build_backbone
from saip_jax.backbones.features import Backbone
from saip_jax.interop.dialects import DIALECTS, State, recognise
from saip_jax.interop.identify import name_of, refuse_other_architecture, refuse_other_facts, size_of_positions
from saip_jax.interop.shapes import new_values, parameter_shapes
from saip_jax.interop.spec import BackboneSpec, Weights
from saip_jax.interop.stated import Stated, read_stated
from saip_jax.interop.tensor_files import read_tensors
from saip_jax.interop.twins import TWINS, Twin, kind_of
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD

EXTRA_FILES = sorted({twin.extra_file for twin in TWINS.values()})  # beside what `saip export` writes in timm's names
_SHOWN, _USUAL_PATCH = 6, 16


def check_dialect(dialect: str) -> None:
  """Raises ValueError unless files of the dialect can be read."""
  readable = [name for name, entry in DIALECTS.items() if entry.reads]
  if dialect not in readable:
    raise ValueError(f"--dialect={dialect} cannot be read; choose one of {', '.join(readable)}")


def open_file(path: pathlib.Path, dialect: str | None, image_hw) -> Weights:
  """Returns the weights of one file; arguments and errors are those of `weights.open_weights`."""
  nested, plain = read_tensors(path)
  if path.suffix == ".safetensors":
    for side_file in filter(pathlib.Path.is_file, map(path.with_name, EXTRA_FILES)):
      nested = nested | read_tensors(side_file)[0]
  name = dialect or recognise(nested)
  if name is None:
    shown = ", ".join(list(nested)[:5]) or "none"
    raise ValueError(f"the names of the tensors are of no known dialect ({shown}); --dialect=NAME reads it as one")
  check_dialect(name)
  entry = DIALECTS[name]
  student, teacher = entry.states(nested)
  stated = read_stated(path, plain)
  spec, notes = _spec_of(name, nested, student, stated, image_hw)

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
  notes += _unused(name, spec.twin, nested, plain, student, teacher)
  if new:
    notes += [spec.twin.note] if spec.twin.note else []
    notes.append(f"not in the file, as in a new model: {', '.join(new)}")
  head_counts = {name: n for name, n in stated.head_counts.items() if name.removesuffix("_heads") in trees[0]}
  return Weights(spec, *trees, f"{path} ({name})", tuple(notes), tuple(new), head_counts)


def _complete(tree: dict | None, spec: BackboneSpec, backbone: Backbone) -> list[str]:
  """Gives a backbone what timm's model does not have, as in a new one; returns the paths of what was added."""
  if tree is None:
    return []
  held = tree["backbone"]
  added = [row.path for module, rows in spec.twin.extra_modules.items() if module not in held for row in rows]
  if added:
    held |= new_values(backbone, added)
  return [f"backbone/{path}" for path in added]


def _spec_of(
    dialect: str, nested: Mapping, student: State, stated: Stated, image_hw
) -> tuple[BackboneSpec, list[str]]:
  """Returns what the backbone's tensors and the statements about them say, and what had to be assumed."""
  kind = kind_of(name.removeprefix("backbone.") for name in student) or "vit"
  if kind == "vit":
    spec, notes = _spec_of_vit(dialect, nested, stated, image_hw)
  else:
    spec, notes = _spec_of_stages(dialect, kind, student, stated, image_hw), []
  for facts in stated.facts:
    refuse_other_facts(facts, spec)
  if stated.normalisation and stated.normalisation != (IMAGENET_MEAN, IMAGENET_STD):
    notes.append(
        f"its configuration wants images normalised with mean {list(stated.normalisation[0])} and std"
        f" {list(stated.normalisation[1])}; here they are normalised with ImageNet's"
    )
  return spec, notes


def _spec_of_vit(dialect: str, nested: Mapping, stated: Stated, image_hw) -> tuple[BackboneSpec, list[str]]:
  state = DIALECTS[dialect].backbone_of(nested)
  shape = lambda name: np.shape(state.get(name, 0))
  positions, patches = shape("pos_embed"), shape("patch_embed.proj.weight")
  if len(positions) != 3 and len(patches) != 4:
    raise ValueError(
        f"no ViT in the names of --dialect={dialect}, which has pos_embed and patch_embed.proj.weight; the file begins"
        f" with {', '.join(list(nested)[:_SHOWN]) or 'nothing'}"
    )
  # One of the two is enough to list all that is missing.
  width = positions[-1] if len(positions) == 3 else patches[0]
  patch = patches[-1] if len(patches) == 4 else _USUAL_PATCH
  depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
  name = name_of(width, depth, patch, rope="_rope_" in (stated.architecture or ""))
  if stated.architecture:
    refuse_other_architecture(stated.architecture, name)
  if len(positions) == 3:
    hw, note = size_of_positions(positions[1] - 1, patch, stated.image_hw, image_hw)
  else:
    hw, note = stated.image_hw or build_backbone(name).image_hw, None
  spec = BackboneSpec(name, hw, stated.pos_interpolation or DIALECTS[dialect].pos_interpolation)
  return spec, [note] if note else []


def _spec_of_stages(dialect: str, kind: str, state: State, stated: Stated, image_hw) -> BackboneSpec:
  """Returns the backbone without positions, of which each kind has one; any size of images will do for it."""
  if DIALECTS[dialect] is not DIALECTS["timm"]:
    raise ValueError(f"--dialect={dialect} names tensors of ViTs, and these are of a {kind}; --dialect=timm reads them")
  name = next(name for name, twin in TWINS.items() if twin.kind == kind)
  spec = BackboneSpec(name, tuple(image_hw or stated.image_hw or build_backbone(name).image_hw))
  spec.check_size(spec.image_hw)
  first = spec.twin.timm[0]
  found, wanted = np.shape(state.get(first.torch)), parameter_shapes(spec.build())[first.path][-1]
  if found and found[0] != wanted:
    raise ValueError(f"a {kind} that begins {found[0]} wide is not {name}, which begins {wanted} wide")
  if stated.architecture:
    refuse_other_architecture(stated.architecture, name)
  return spec


def _unused(
    dialect: str, twin: Twin, nested: Mapping[str, Any], plain: Mapping[str, Any], *states: State | None
) -> list[str]:
  """Returns lines on what the file holds and has no place here."""
  entry = DIALECTS[dialect]
  matches = lambda name, patterns: any(re.search(p, name) for p in patterns)
  used = {row.torch for row in twin.timm}
  told = set(entry.ignored) | set(twin.ignored) - set(twin.buffers)
  names = [n for state in states for n in state or () if n not in used and matches(n, told)]
  sections = [n for n in dict.fromkeys([*nested, *plain]) if entry.sections and n not in entry.sections]
  notes = []
  if names:
    groups = collections.Counter(name.rpartition(".")[0] or name for name in names)
    shown = ", ".join(list(groups)[:_SHOWN]) + (f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else "")
    notes.append(f"not used: {len(names)} tensors of {shown}")
  if sections:
    notes.append(f"not used: {', '.join(sections)}")
  return notes
