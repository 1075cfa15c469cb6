"""Which ViT a weight file holds: what its tensors determine, and what the file, the user or its layout states."""

import dataclasses
from typing import Any

import numpy as np

from saip_jax.backbones import build_backbone
from saip_jax.backbones.vit import ViT
from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.declared import Declared, ReadOptions
from saip_jax.interop.dialects import DIALECTS, Dialect, no_encoder
from saip_jax.interop.foreign_names import RENAMED, foreign_dialect
from saip_jax.interop.identify import fits_size, form_of, name_of, refuse_other_architecture, size_of_positions
from saip_jax.interop.nesting import FileEncoder, StateDict
from saip_jax.interop.spec import BackboneSpec
from saip_jax.interop.variants import USUAL_PATCH

_SAPIENS_HW = (1024, 768)


def entry_of(dialect: str) -> Dialect:
  """Returns the dialect that reads a file after `foreign_names` has renamed its tensors."""
  return DIALECTS["timm" if dialect in RENAMED else dialect]


def spec_of_vit(
  dialect: str, state: StateDict, declared: Declared, options: ReadOptions
) -> tuple[BackboneSpec, list[str]]:
  """Returns the spec of a ViT by its tensors, in timm's names, and the declarations about them; notes on assumptions.

  Raises:
    ValueError: no ViT of these sizes, or nothing states what the tensors do not determine.
  """
  shape = lambda name: np.shape(state.get(name, 0))
  positions, patches = shape("pos_embed"), shape("patch_embed.proj.weight")
  names = "pos_embed", "patch_embed.proj.weight"
  found = ", ".join(f"'{name}' {shape(name)}" if name in state else f"'{name}' missing" for name in names)
  if len(positions) != 3 and len(patches) != 4:
    if any(name.startswith("blocks.") for name in state):
      raise ValueError(f"neither positions nor a patch embedding of a ViT: {found}")
    raise ValueError(no_encoder(dialect, state))
  square = len(patches) != 4 or patches[1] == 3 and patches[2] == patches[3]
  if not square or len(positions) == 3 and len(patches) == 4 and positions[-1] != patches[0]:
    raise ValueError(f"of another shape: {found}; expected (1, rows, width) and (width, 3, patch, patch)")
  # One of the two is enough to list all missing tensors.
  width = positions[-1] if len(positions) == 3 else patches[0]
  patch = patches[-1] if len(patches) == 4 else USUAL_PATCH
  depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
  rows = positions[1] if len(positions) == 3 else 0
  without = rows and fits_size(rows, patch, declared.image_hw, options.image_hw)
  form = form_of(state, "cls_token" in state or not without, declared.timm_name)
  try:
    name = name_of(width, depth, patch, **form)
  except ValueError as e:
    raise ValueError(f"{e}: its sizes are those of {found}") from e
  if declared.timm_name:
    refuse_other_architecture(declared.timm_name, name)
  module, notes = build_backbone(name), []
  if len(positions) == 3:
    rows -= (form["class_token"] + form["prefix_tokens"]) * form["prefix_positions"]
    try:
      hw, note = size_of_positions(rows, patch, declared.image_hw, options.image_hw)
    except ValueError as e:
      raise ValueError(f"{found}: {e}") from e
    notes += [note] if note else []
  else:
    hw = options.image_hw or declared.image_hw or module.image_hw
  own_way = ARCHITECTURES[name].interpolation or entry_of(dialect).pos_interpolation
  way = declared.pos_interpolation or own_way if ARCHITECTURES[name].positions else None
  spec = BackboneSpec(name, tuple(hw), way)
  attributes, assumed = _attributes_of(dialect, module, declared, options)
  return spec.having(**attributes), notes + assumed


def _attributes_of(
  dialect: str, module: ViT, declared: Declared, options: ReadOptions
) -> tuple[dict[str, Any], list[str]]:
  """Returns the epsilon of the norms and the padding of the patches, and notes on assumptions."""
  of_file = lambda name: next((f[name] for f in declared.facts if type(f.get(name)) in (int, float)), None)
  of_user = lambda name: getattr(options, name)
  found = {name: of_file(name) if of_user(name) is None else of_user(name) for name in ("norm_eps", "patch_padding")}
  if dialect == "transformers" and found["norm_eps"] is None:
    raise ValueError(
      "there is no config.json of transformers beside it, which states the epsilon of its norms (1e-12 for most ViTs):"
      " put it there, or set --norm-eps"
    )
  if dialect == "mmpose" and not module.class_token and found["patch_padding"] is None:
    if declared.image_hw != _SAPIENS_HW:
      raise ValueError(
        "its patches may be padded, and nothing states it: set --patch-padding=2 for ViTPose and Sapiens' models for"
        " pose, segmentation and depth, or --patch-padding=0"
      )
    note = "patches padded by 2 pixels, as in Sapiens' models for pose, segmentation and depth; --patch-padding sets it"
    return found | {"patch_padding": 2}, [note]
  return found, []


def with_known_size(encoder: FileEncoder, declared: Declared, options: ReadOptions) -> tuple[Declared, list[str]]:
  """Returns the declarations with the image size of Sapiens, whose positions are neither 1:1 nor 2:1, and a note."""
  rows = np.shape(encoder.own.get("pos_embed", 0))[1:2]
  known = foreign_dialect(encoder.own) == "mmpose" and rows == ((_SAPIENS_HW[0] // 16) * (_SAPIENS_HW[1] // 16),)
  if not known or declared.image_hw or options.image_hw:
    return declared, []
  height, width = _SAPIENS_HW
  note = (
    f"assumed {rows[0]} positions to be for {height}x{width} pixels, as in Sapiens; --image-hw=HxW sets another size"
  )
  return dataclasses.replace(declared, image_hw=_SAPIENS_HW), [note]
