"""Reading one file of weights in whatever dialect it is."""

import collections
import pathlib
import re
from typing import Any, Mapping

import numpy as np

from saip_jax.backbones import build_backbone
from saip_jax.interop.dialects import DIALECTS, State, recognise
from saip_jax.interop.identify import name_of, refuse_other_architecture, refuse_other_facts, size_of_positions
from saip_jax.interop.spec import BackboneSpec, Weights
from saip_jax.interop.stated import Stated, read_stated
from saip_jax.interop.tensor_files import read_tensors
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD

TAPPED_NORM_FILE = "inter_norm.safetensors"  # beside what `saip export` writes in timm's names
_SHOWN, _USUAL_PATCH = 6, 16


def check_dialect(dialect: str) -> None:
  """Raises ValueError unless files of the dialect can be read."""
  readable = [name for name, entry in DIALECTS.items() if entry.reads]
  if dialect not in readable:
    raise ValueError(f"--dialect={dialect} cannot be read; choose one of {', '.join(readable)}")


def open_file(path: pathlib.Path, dialect: str | None, image_hw) -> Weights:
  """Returns the weights of one file; arguments and errors are those of `weights.open_weights`."""
  nested, plain = read_tensors(path)
  side_file = path.with_name(TAPPED_NORM_FILE)
  if path.suffix == ".safetensors" and side_file.is_file():
    nested = nested | read_tensors(side_file)[0]
  name = dialect or recognise(nested)
  if name is None:
    shown = ", ".join(list(nested)[:5]) or "none"
    raise ValueError(f"the names of the tensors are of no known dialect ({shown}); --dialect=NAME reads it as one")
  check_dialect(name)
  entry = DIALECTS[name]
  student, teacher = entry.states(nested)
  stated = read_stated(path, plain)
  spec, notes = _spec_of(name, nested, stated, image_hw)

  # Both halves are read before anything is raised, so that all faults are told at once.
  trees, faults, backbone = [], [], spec.build()
  for who, state in (("student", student), ("teacher", teacher)):
    try:
      trees.append(None if state is None else entry.from_state(state, spec.name, backbone))
    except ValueError as e:
      faults.append(f"{who}: {e}")
  if faults:
    raise ValueError("; ".join(faults))
  new = [f"{who}/{added}" for who, tree in zip(("student", "teacher"), trees) for added in _complete(tree)]
  notes += _unused(entry, nested, plain, student, teacher)
  if new:
    notes.append(f"not in the file, as in a new model: {', '.join(new)}")
  head_counts = {name: n for name, n in stated.head_counts.items() if name.removesuffix("_heads") in trees[0]}
  return Weights(spec, *trees, f"{path} ({name})", tuple(notes), tuple(new), head_counts)


def _complete(tree: dict | None) -> list[str]:
  """Gives a backbone without a norm of the tapped layer a new one; returns the paths of what was added."""
  if tree is None or "inter_norm" in tree["backbone"]:
    return []
  ones = np.ones(tree["backbone"]["cls_token"].shape[-1], np.float32)
  tree["backbone"]["inter_norm"] = {"scale": ones, "bias": 0 * ones}
  return [f"backbone/inter_norm/{name}" for name in ("scale", "bias")]


def _spec_of(dialect: str, nested: Mapping, stated: Stated, image_hw) -> tuple[BackboneSpec, list[str]]:
  """Returns what the backbone's tensors and the statements about them say, and what had to be assumed."""
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
  name = name_of(width, depth, patch)
  if stated.architecture:
    refuse_other_architecture(stated.architecture, name)
  if len(positions) == 3:
    hw, note = size_of_positions(positions[1] - 1, patch, stated.image_hw, image_hw)
  else:
    hw, note = build_backbone(name).image_hw, None
  spec = BackboneSpec(name, hw, stated.pos_interpolation or DIALECTS[dialect].pos_interpolation)
  for facts in stated.facts:
    refuse_other_facts(facts, spec)
  notes = [note] if note else []
  if stated.normalisation and stated.normalisation != (IMAGENET_MEAN, IMAGENET_STD):
    notes.append(
        f"its configuration wants images normalised with mean {list(stated.normalisation[0])} and std"
        f" {list(stated.normalisation[1])}; here they are normalised with ImageNet's"
    )
  return spec, notes


def _unused(entry, nested: Mapping[str, Any], plain: Mapping[str, Any], *states: State | None) -> list[str]:
  """Returns lines on what the file holds and has no place here."""
  names = [n for state in states for n in state or () if any(re.search(p, n) for p in entry.ignored)]
  sections = [n for n in dict.fromkeys([*nested, *plain]) if entry.sections and n not in entry.sections]
  notes = []
  if names:
    groups = collections.Counter(name.rpartition(".")[0] or name for name in names)
    shown = ", ".join(list(groups)[:_SHOWN]) + (f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else "")
    notes.append(f"not used: {len(names)} tensors of {shown}")
  if sections:
    notes.append(f"not used: {', '.join(sections)}")
  return notes
