"""Files of SOLIDER's Swins (Chen et al. 2023, arXiv 2303.17602): mmsegmentation's names, and the semantic controller.

The controller scales and shifts the cells after each merging by functions of a semantic weight, a number from 0 to 1
that the user chooses: x * softplus(W [weight, 1 - weight] + b) + (V [weight, 1 - weight] + c). For a fixed weight both
are constants, and they follow a linear layer: they are folded into its weights and a bias. So the network is a Swin
with `merging_bias`, at no cost. A fourth pair of the controller comes after the last output and has no effect.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np

from input_pipeline.checks import shortlist
from saip_jax.interop.tables import Layout, Row
from saip_jax.interop.vit import renamed

SOLIDER_SIGN = r"^stages\.\d+\.blocks\.\d+\.attn\.w_msa\.relative_position_bias_table$"
"""Regular expression of names that only mmsegmentation's Swin has."""

SOLIDER_IGNORED = (r"^norm[012]\.", r"^semantic_embed_[wb]\.3\.")  # norms of maps for dense tasks; the fourth pair

_CHANGES = (
  *((rf"^layers\.{stage}\.downsample\.", f"stages.{stage - 1}.downsample.") for stage in (1, 2, 3)),
  (r"^layers\.", "stages."),
  (r"\.attn\.", ".attn.w_msa."),
  (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
  (r"\.mlp\.fc2\.", ".ffn.layers.1."),
  (r"^patch_embed\.proj\.", "patch_embed.projection."),
  (r"^norm\.", "norm3."),
)
_MERGED = r"^stages\.\d\.downsample\.(norm\.(weight|bias)|reduction\.weight)$"
_CELLS = [0, 2, 1, 3]  # the 2x2 cells of a merging in the order of timm, which reads columns first; its own inverse
_MERGINGS = 3


def _by_cell(a: np.ndarray) -> np.ndarray:
  """(4C, ...), the four cells of each channel together -> timm's order, all channels of each cell together."""
  return a.reshape(-1, 4, *a.shape[1:])[:, _CELLS].swapaxes(0, 1).reshape(a.shape)


def _by_channel(a: np.ndarray) -> np.ndarray:
  """Inverse of `_by_cell`."""
  return a.reshape(4, -1, *a.shape[1:])[_CELLS].swapaxes(0, 1).reshape(a.shape)


def solider_rows(timm: Iterable[Row]) -> list[Row]:
  """Returns timm's rows of a Swin in SOLIDER's names, with the layouts of its merging layers."""
  rows = renamed(timm, _CHANGES)
  return [dataclasses.replace(row, layout=_merged(row.layout)) if re.match(_MERGED, row.torch) else row for row in rows]


def _merged(layout: Layout) -> Layout:
  """Returns the layout for a tensor whose parameter's first axis is 4C."""
  return Layout(lambda a: _by_cell(layout.from_torch(a)), lambda a, patch: layout.to_torch(_by_channel(a), patch))


def without_controller(
  state: Mapping[str, np.ndarray], weight: float | None
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Returns an encoder's tensors with its controller folded into the merging layers, and notes on it.

  Args:
    state: tensors of the encoder; those of a Swin with a controller in SOLIDER's names.
    weight: the semantic weight; None if unspecified.

  Raises:
    ValueError: no weight for a controller or a weight without one, or a controller that is incomplete or does not fit.
  """
  if not any(name.startswith("semantic_embed_") for name in state):
    if weight is not None:
      raise ValueError(
        f"--semantic-weight={weight:g} is for a semantic controller, and there is none (no semantic_embed_w,"
        " semantic_embed_b): leave it out"
      )
    return dict(state), []
  if weight is None or not 0 <= weight <= 1:
    given = "none is specified" if weight is None else f"--semantic-weight={weight:g} is none"
    raise ValueError(
      "it has a semantic controller (semantic_embed_w, semantic_embed_b): its features depend on a semantic weight from"
      f" 0 to 1, and {given}; set one with saip import: --semantic-weight=0 is the default of SOLIDER's code,"
      " --semantic-weight=0.2 is its weight for ReID"
    )
  state, faults = dict(state), []
  for stage in range(_MERGINGS):
    faults += _fold(state, stage, weight)
  if faults:
    raise ValueError(f"the semantic controller and the merging layers do not fit: {shortlist(faults)}")
  note = (
    f"the semantic controller at --semantic-weight={weight:g} is a scale and a shift of the merged cells; folded into"
    " the weights and a bias of the merging layers, which computes the same"
  )
  return state, [note]


def _fold(state: dict[str, np.ndarray], stage: int, weight: float) -> list[str]:
  """Folds the scale and the shift after one merging into its layer, in place; returns what does not fit."""
  merging = f"stages.{stage}.downsample.reduction"
  parts = [f"semantic_embed_{part}.{stage}" for part in "wb"]
  names = [f"{merging}.weight", *(f"{part}.{kind}" for part in parts for kind in ("weight", "bias"))]
  missing = [f"{name} is missing" for name in names if name not in state]
  if missing:
    return missing
  tensors = [np.asarray(state.pop(name), np.float64) for name in names]
  width = tensors[0].shape[0] if tensors[0].ndim == 2 else None
  wanted = [tensors[0].shape if width else (0, 0), (width, 2), (width,), (width, 2), (width,)]
  odd = [f"{name} {a.shape}" for name, a, shape in zip(names, tensors, wanted, strict=True) if a.shape != shape]
  if odd:
    return [f"{', '.join(odd)} beside {names[0]} {tensors[0].shape}"]
  reduction, scale, scale_bias, shift, shift_bias = tensors
  inputs = np.array([weight, 1 - weight])
  state[names[0]] = (reduction * np.logaddexp(0, scale @ inputs + scale_bias)[:, None]).astype(np.float32)  # softplus
  state[f"{merging}.bias"] = (shift @ inputs + shift_bias).astype(np.float32)
  return []
