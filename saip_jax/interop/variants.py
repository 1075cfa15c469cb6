"""Variants of ViTs in timm's names, converted to the form of the tables.

A variant is converted if a ViT of `BACKBONES` computes exactly the same; tensors that take part in the computation and
have no counterpart here are refused by name, see `refusals`.
"""

import re

import numpy as np

from input_pipeline.checks import shortlist
from saip_jax.backbones.rope import BASE
from saip_jax.interop.declared import Declared, ReadOptions
from saip_jax.interop.identify import has_class_row
from saip_jax.interop.nesting import StateDict
from saip_jax.interop.refusals import refuse_missing_parts

USUAL_PATCH = 16  # pixels, if the patch embedding is missing
_REGISTERS = ("register_tokens", "storage_tokens")  # of DINOv2 and DINOv3; timm's reg_token
_SCALES = {"attn.proj": ("ls1.gamma", "gamma_1"), "mlp.fc2": ("ls2.gamma", "gamma_2")}  # LayerScale of each layer
_LINEAR = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
_FREQUENCIES = "rope_embed.periods"
_TOLERANCE = 0.01  # periods are stored in bfloat16


def plain_vit(
  state: StateDict, declared: Declared = Declared(), options: ReadOptions = ReadOptions()
) -> tuple[dict[str, np.ndarray], list[str], dict[str, str]]:
  """Returns a ViT's tensors in the form of the tables, the changes, one line each, and new name -> name in the file.

  Args:
    state: tensors of the encoder, in timm's names or the originals of DINOv2, DINOv3, PASS or PATH.
    declared: what the file and the files beside it declare.
    options: what the user specifies.

  Raises:
    ValueError: a part that the ViTs here do not have, a tensor without the one it belongs to, or a class token of which
      nothing states whether it is used.
  """
  refuse_missing_parts(state)
  if "fc_norm.weight" in state and "norm.weight" not in state:
    raise ValueError(
      "it has fc_norm and no norm: its image feature is the mean of the patch tokens, normalized after it (timm's"
      " global_pool='avg'); the ViTs here normalize every token first"
    )
  state, notes, context = dict(state), [], _Context(state, declared, options)
  for change in (_fold_parts, _join_positions, _name_registers, _join_qkv, _split_biases, _scales, _add_biases):
    note = change(state, context)
    notes += [note] if note else []
  note = _class_token(state, context)
  return state, notes + ([note] if note else []), context.theirs


class _Context:
  """What the changes depend on beside the tensors.

  Attributes:
    blocks: the indices of the blocks, as text.
    patch: side of a patch in pixels.
    key_biases: keys have biases.
    rotary: the ViT has the form of DINOv3: rotary positions, prefix tokens, LayerScale, keys without bias.
    theirs: timm's name -> name in the file, of tensors that were renamed.
  """

  def __init__(self, state: StateDict, declared: Declared, options: ReadOptions):
    self.blocks = sorted({name.split(".")[1] for name in state if re.match(r"blocks\.\d+\.", name)}, key=int)
    shape = np.shape(state.get("patch_embed.proj.weight"))
    self.patch = shape[-1] if len(shape) == 4 else USUAL_PATCH
    has = lambda pattern: any(re.search(rf"\.attn\.({pattern})$", name) for name in state)
    self.key_biases = has(r"qkv\.bias|k\.bias|k_proj\.bias")
    signs = has(r"q_bias|v_bias|qkv\.bias_mask") or has(r"q\.bias|q_proj\.bias") and not self.key_biases
    registers = not {"reg_token", "register_tokens"}.isdisjoint(state) and not self.key_biases
    signs = signs or registers or "storage_tokens" in state or _FREQUENCIES in state
    self.rotary = "pos_embed" not in state and signs
    self.theirs = {"reg_token": "storage_tokens"} if has(r"qkv\.bias_mask") else {}
    self.declared, self.options = declared, options

  def has_row(self, rows: int) -> bool:
    """Returns whether the first of so many rows of a table of positions belongs to the class token."""
    return has_class_row(rows, self.patch, self.declared.image_hw, self.options.image_hw)


def _fold_parts(state: dict, context: _Context) -> str | None:
  """Adds the positions of PASS's class and part tokens to these tokens: the sum is all that the model computes with."""
  names = sorted((name for name in state if re.match(r"^part_?token\d+$|^part\d+_pos$", name)), key=_number)
  if not names and "cls_pos" not in state:
    return None
  count = max((_number(name) for name in names), default=0)
  tokens = ["cls_token", *(f"part_token{i}" for i in range(1, count + 1))]
  positions = ["cls_pos", *(f"part{i}_pos" for i in range(1, count + 1))]
  _held(state, [*tokens, *positions])
  shapes, table = {name: np.shape(state[name]) for name in (*tokens, *positions)}, np.shape(state.get("pos_embed", 0))
  odd = [f"{name} {shape}" for name, shape in shapes.items() if shape != (1, 1, *table[-1:])]
  if odd and table:
    raise ValueError(
      f"the parts of PASS are of another shape: [{shortlist(map(repr, odd))}], expected (1, 1, width) as of 'pos_embed'"
      f" {table}"
    )
  folded = [_sum(state.pop(token), state.pop(place)) for token, place in zip(tokens, positions)]
  state["cls_token"], state["reg_token"] = folded[0], np.concatenate(folded[1:], axis=1)
  return f"the positions of the class token and of {count} part tokens were added to these tokens, which is the same"


def _number(name: str) -> int:
  return int(re.sub(r"\D", "", name))


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  return np.asarray(a, np.float32) + np.asarray(b, np.float32)


def _join_positions(state: dict, context: _Context) -> str | None:
  if "cls_token_pos_embed" not in state or "pos_embed" not in state:
    return None
  first, patches = state["cls_token_pos_embed"], state["pos_embed"]
  if np.ndim(first) != 3 or np.ndim(patches) != 3 or np.shape(first) != (1, 1, np.shape(patches)[-1]):
    raise ValueError(
      f"'cls_token_pos_embed {np.shape(first)}' is of another shape: expected (1, 1, width) as of pos_embed"
      f" {np.shape(patches)}"
    )
  state["pos_embed"] = np.concatenate([state.pop("cls_token_pos_embed"), patches], axis=1)
  return "the position of the class token was a tensor of its own; joined with those of the patches"


def _name_registers(state: dict, context: _Context) -> str | None:
  """Gives register tokens timm's name; positions of the tokens before the patches are added to them, as timm does."""
  for name in _REGISTERS:
    if name in state:
      state["reg_token"], context.theirs["reg_token"] = state.pop(name), name
  if "reg_token" not in state or np.ndim(state["reg_token"]) != 3 or np.ndim(state.get("pos_embed", 0)) != 3:
    return None
  rows, count, width = state["pos_embed"].shape[1], state["reg_token"].shape[1], state["pos_embed"].shape[2]
  if not context.has_row(rows):
    return None
  first = np.shape(_held(state, ["cls_token"])[0])
  if first != (1, 1, width):
    table = np.shape(state["pos_embed"])
    raise ValueError(f"of another shape: 'cls_token' {first}, expected (1, 1, width) as of 'pos_embed' {table}")
  state["cls_token"] = _sum(state["cls_token"], state["pos_embed"][:, :1])
  state["pos_embed"] = state["pos_embed"][:, 1:]
  return f"the position of the class token was added to it: {count} registers have none"


def _join_qkv(state: dict, context: _Context) -> str | None:
  joined = False
  for i in context.blocks:
    for names in ("q", "k", "v"), ("q_proj", "k_proj", "v_proj"):
      parts = {kind: [f"blocks.{i}.attn.{name}.{kind}" for name in names] for kind in ("weight", "bias")}
      held = {kind: [part for part in parts[kind] if part in state] for kind in parts}
      if not held["weight"] and not held["bias"]:
        continue
      joined = True
      state[f"blocks.{i}.attn.qkv.weight"] = _joined(state, parts["weight"])
      if held["bias"] == [parts["bias"][0], parts["bias"][2]] and not context.key_biases:
        for name, part in zip(("q_bias", "v_bias"), held["bias"]):
          state[f"blocks.{i}.attn.{name}"], context.theirs[f"blocks.{i}.attn.{name}"] = state.pop(part), part
      elif held["bias"]:
        state[f"blocks.{i}.attn.qkv.bias"] = _joined(state, parts["bias"])
  return "queries, keys and values were separate tensors; joined" if joined else None


def _held(state: dict, names: list[str]) -> list[np.ndarray]:
  """Returns tensors; raises ValueError, naming them all, if some are missing."""
  missing = [name for name in names if name not in state]
  if missing:
    raise ValueError(f"the weights do not fit the dialect: missing [{shortlist(map(repr, missing))}], unexpected none")
  return [state[name] for name in names]


def _joined(state: dict, parts: list[str]) -> np.ndarray:
  shapes = [np.shape(part) for part in _held(state, parts)]
  if len(set(shapes)) > 1:
    if shapes[0] != shapes[1] == shapes[2] and shapes[0][1:] == shapes[1][1:] and shapes[0][0] % shapes[1][0] == 0:
      raise ValueError(
        f"it has grouped queries (GQA): {parts[0]!r} has {shapes[0][0]} rows and {parts[1]!r} {shapes[1][0]}; the ViTs"
        " here have as many heads of keys as of queries"
      )
    odd = [f"{part} {shape}" for part, shape in zip(parts, shapes) if shapes.count(shape) == 1]
    raise ValueError(f"of another shape [{shortlist(map(repr, odd))}]: queries, keys and values have one shape")
  return np.concatenate([state.pop(part) for part in parts])


def _split_biases(state: dict, context: _Context) -> str | None:
  """Splits the biases of DINOv3 into those of queries and values; those of keys are masked there."""
  periods = state.pop(_FREQUENCIES, None)
  if not context.rotary:
    return None
  if periods is not None:
    wanted = BASE ** (np.arange(periods.size) / periods.size)
    if np.shape(periods) != wanted.shape or not np.allclose(np.asarray(periods, np.float64), wanted, _TOLERANCE):
      raise ValueError(f"{_FREQUENCIES!r} is not that of base {BASE:g}, which the ViTs here compute")
  whole = [i for i in context.blocks if f"blocks.{i}.attn.qkv.bias" in state]
  if whole:
    _held(state, [f"blocks.{i}.attn.qkv.bias" for i in context.blocks])
  for i in whole:
    at = f"blocks.{i}.attn"
    bias, mask = np.asarray(state[f"{at}.qkv.bias"], np.float32), state.pop(f"{at}.qkv.bias_mask", None)
    if np.ndim(bias) != 1 or len(bias) % 3 or mask is not None and np.shape(mask) != np.shape(bias):
      raise ValueError(
        f"'{at}.qkv.bias {np.shape(bias)}' is of another shape: expected three times the width, as its mask"
      )
    q, k, v = np.split(bias if mask is None else bias * np.asarray(mask, np.float32), 3)
    if k.any():
      raise ValueError(f"'{at}.qkv.bias' is not zero for keys, and no bias_mask hides it: DINOv3's keys have no bias")
    del state[f"{at}.qkv.bias"]
    state[f"{at}.q_bias"], state[f"{at}.v_bias"] = q, v
  if not any(name.endswith(".attn.q_bias") or name.endswith(".attn.v_bias") for name in state):
    for i in context.blocks:
      zeros = np.zeros(np.shape(state.get(f"blocks.{i}.attn.proj.weight", np.zeros(0)))[:1], np.float32)
      state[f"blocks.{i}.attn.q_bias"], state[f"blocks.{i}.attn.v_bias"] = zeros, zeros.copy()
    return "without bias in the file, zeros here: queries and values of every block"
  return None


def _scales(state: dict, context: _Context) -> str | None:
  """Names LayerScale as timm's model does, or multiplies it into the layer before if no ViT here has one like this."""
  if context.rotary or context.patch == 14:
    for i in context.blocks:
      for number in "12":
        names = f"blocks.{i}.ls{number}.gamma", f"blocks.{i}.gamma_{number}"
        theirs, ours = names if context.rotary else names[::-1]
        if theirs in state:
          state[ours], context.theirs[ours] = state.pop(theirs), theirs
    return None
  folded = False
  for i in context.blocks:
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


def _add_biases(state: dict, context: _Context) -> str | None:
  """Adds zero biases for the linear layers that have none in any block."""
  added = []
  for linear in _LINEAR[context.rotary :]:
    weights, biases = ([f"blocks.{i}.{linear}.{kind}" for i in context.blocks] for kind in ("weight", "bias"))
    if context.blocks and all(name in state for name in weights) and not any(name in state for name in biases):
      state |= {bias: np.zeros(len(state[weight]), np.float32) for weight, bias in zip(weights, biases)}
      added.append(linear)
  return f"without bias in the file, zeros here: {', '.join(added)} of every block" if added else None


def _class_token(state: dict, context: _Context) -> str | None:
  """Settles what a class token without a position means."""
  positions, used = state.get("pos_embed", np.zeros(0)), context.options.class_token
  if "cls_token" not in state or "reg_token" in state or np.ndim(positions) != 3 or context.has_row(positions.shape[1]):
    return None
  if used is None:
    used = any(facts.get("no_embed_class") is True for facts in context.declared.facts) or None
  if used is None:
    raise ValueError(
      "it has a class token, and no position for it (a row of pos_embed, or cls_token_pos_embed): set"
      " --class-token=used if the blocks see it without a position (timm's no_embed_class=True), --class-token=unused"
      " if they do not see it (UniHCP, some of PATH)"
    )
  if used:
    state["pos_embed"] = np.concatenate([np.zeros_like(positions[:, :1]), positions], axis=1)
    return "the class token has no position: zeros here, which is the same"
  del state["cls_token"]
  return "the class token of the file is not used: the image feature is the mean of the patches"
