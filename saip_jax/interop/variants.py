"""Variants of ViTs in timm's names, converted to the plain form of the tables.

A variant is converted if the ViTs here compute exactly the same; tensors that take part in the computation and have no
counterpart here are refused by name.
"""

import re

import numpy as np

from input_pipeline.checks import shortlist
from saip_jax.interop.identify import has_class_row
from saip_jax.interop.nesting import StateDict

USUAL_PATCH = 16  # pixels, if the patch embedding is missing
_TOKENS = re.compile(r"^(?!cls_token$|mask_token$)\w*(token|tokens|token\d+)$")  # register tokens, distillation tokens
_SCALES = {"attn.proj": ("ls1.gamma", "gamma_1"), "mlp.fc2": ("ls2.gamma", "gamma_2")}  # LayerScale of each layer
_LINEAR = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
_TRANSFORMERS = re.compile(r"(^|\.)embeddings\.patch_embeddings\.projection\.weight$")


def plain_vit(
  state: StateDict, declared_hw: tuple[int, int] | None = None, given_hw: tuple[int, int] | None = None
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Returns a ViT's tensors in the form of the tables, and the changes, one line each.

  Args:
    state: tensors of the encoder, in timm's names.
    declared_hw: image size of the positions that the file declares; None if unspecified.
    given_hw: image size that the user specifies; None if unspecified.

  Raises:
    ValueError: tokens, norms or a pooling that the ViTs here do not have.
  """
  tokens = [name for name in state if _TOKENS.match(name)]
  if tokens:
    counts = [f"{name} ({np.shape(state[name])[1]})" if np.ndim(state[name]) == 3 else name for name in tokens]
    raise ValueError(
      f"it has tokens beside the class token: {shortlist(counts)}; they take part in every attention, and the ViTs"
      " here have none (no register or distillation tokens)"
    )
  if "fc_norm.weight" in state and "norm.weight" not in state:
    raise ValueError(
      "it has fc_norm and no norm: its image feature is the mean of the patch tokens, normalized after it (timm's"
      " global_pool='avg'); the ViTs here normalize every token and read the class token"
    )
  whole = any(name.startswith("blocks.") for name in state) and "patch_embed.proj.weight" in state
  if whole and "cls_token" not in state:
    raise ValueError("it has no cls_token: the ViTs here have a class token, and encoders without one are not read")
  state, notes = dict(state), []
  blocks = sorted({name.split(".")[1] for name in state if re.match(r"blocks\.\d+\.", name)}, key=int)
  for change in (_join_qkv, _fold_scales, _add_biases):
    note = change(state, blocks)
    notes += [note] if note else []
  patches, table = np.shape(state.get("patch_embed.proj.weight")), state.get("pos_embed", np.zeros(0))
  patch = patches[-1] if len(patches) == 4 else USUAL_PATCH
  if np.ndim(table) == 3 and not has_class_row(table.shape[1], patch, declared_hw, given_hw):
    state["pos_embed"] = np.concatenate([np.zeros_like(table[:, :1]), table], axis=1)
    notes.append(
      "the positions have no row for the class token: zeros here, as timm's no_embed_class=True computes; a model"
      " without the class token computes something else"
    )
  return state, notes


def _join_qkv(state: dict, blocks: list[str]) -> str | None:
  joined = False
  for i in blocks:
    for kind in ("weight", "bias"):
      for names in ("q", "k", "v"), ("q_proj", "k_proj", "v_proj"):
        parts = [f"blocks.{i}.attn.{name}.{kind}" for name in names]
        if all(part in state for part in parts) and len({np.shape(state[part]) for part in parts}) == 1:
          state[f"blocks.{i}.attn.qkv.{kind}"] = np.concatenate([state.pop(part) for part in parts])
          joined = True
  return "queries, keys and values were separate tensors; joined" if joined else None


def _fold_scales(state: dict, blocks: list[str]) -> str | None:
  """Multiplies LayerScale, which scales the outputs of a linear layer, into the weights of that layer."""
  folded = False
  for i in blocks:
    for linear, scales in _SCALES.items():
      weight, bias = (f"blocks.{i}.{linear}.{kind}" for kind in ("weight", "bias"))
      for scale in (f"blocks.{i}.{name}" for name in scales):
        if weight in state and scale in state and np.shape(state[scale]) == np.shape(state[weight])[:1]:
          factors = np.asarray(state.pop(scale), np.float32)
          state[weight] = np.asarray(state[weight], np.float32) * factors[:, None]
          if bias in state:
            state[bias] = np.asarray(state[bias], np.float32) * factors
          folded = True
  return "LayerScale was multiplied into attn.proj and mlp.fc2, which computes the same" if folded else None


def _add_biases(state: dict, blocks: list[str]) -> str | None:
  """Adds zero biases for the linear layers that have none in any block."""
  added = []
  for linear in _LINEAR:
    weights, biases = ([f"blocks.{i}.{linear}.{kind}" for i in blocks] for kind in ("weight", "bias"))
    if blocks and all(name in state for name in weights) and not any(name in state for name in biases):
      state |= {bias: np.zeros(len(state[weight]), np.float32) for weight, bias in zip(weights, biases)}
      added.append(linear)
  return f"without bias in the file, zeros here: {', '.join(added)} of every block" if added else None


def foreign_names(names) -> str | None:
  """Returns why a known naming cannot be read; None if the naming is unknown."""
  if any(_TRANSFORMERS.search(name) for name in names):
    return (
      "its tensors have the names of transformers (embeddings.*, encoder.layer.*), whose ViT computes its norms with"
      " another epsilon than the ViTs here (1e-12 unless its config.json sets another): save it under timm's names"
    )
  return None
