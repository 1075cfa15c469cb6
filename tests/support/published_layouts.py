"""Weight files as their authors publish them, of shallow models of timm with trained-looking weights."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.support.published_vits import DEPTH, state_of, timm_model

_GAP = {"class_token": False, "global_pool": "avg", "fc_norm": False}


@dataclasses.dataclass(frozen=True)
class Layout:
  """One layout.

  Attributes:
    name: the backbone here.
    timm_name: timm's name of the model.
    arguments: of timm's model.
    content: state of timm's model -> the published file, nested dicts of arrays.
    prefix: path and prefix of the encoder's tensors in it, "state_dict/module.".
    options: options of `saip import` that go with the file.
    padding: of the patches.
  """

  name: str
  timm_name: str
  arguments: dict[str, Any]
  content: Callable[[dict], dict]
  prefix: str = ""
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  padding: int = 0

  def model(self):
    """Returns timm's model."""
    model = timm_model(self.timm_name, **self.arguments)
    if self.padding:
      model.patch_embed.proj.padding = (self.padding,) * 2
    return model

  def file(self) -> dict:
    """Returns the content of the file."""
    return self.content(state_of(self.model()))


def _below(prefix: str, state: dict) -> dict:
  return {prefix + name: a for name, a in state.items()}


def _random(*shape) -> np.ndarray:
  return np.random.default_rng(2).standard_normal(shape, np.float32)


def _decoder(state):
  return {"decoder_pos_embed": _random(1, 197, 8), "decoder_blocks.0.norm1.weight": _random(8)}


def _mae(state):
  return {"model": state | _decoder(state) | {"mask_token": _random(1, 1, 8)}}


def _path(state, class_token: bool):
  """The trainer of PATH and UniHCP: the class token's position apart, or a class token that no block sees."""
  state = dict(state)
  if class_token:
    table = state["pos_embed"]
    state |= {"cls_token_pos_embed": table[:, :1], "pos_embed": table[:, 1:]}
  else:
    state["cls_token"] = _random(1, 1, 768)
  return {"state_dict": _below("module.backbone_module.", state) | {"module.decoder_module.weight": _random(4, 4)}}


def _ibot(state):
  """PersonViT: the teacher's names are plain, the student has a token for masked patches."""
  heads = {"head.mlp.0.weight": _random(4, 4)}
  student = _below("module.", _below("backbone.", state | {"masked_embed": _random(1, 384)}) | heads)
  return {"student": student, "teacher": _below("backbone.", state) | heads, "epoch_": {}}


def _reid(state):
  others = {"bottleneck.weight": _random(384), "bottleneck.bias": _random(384), "classifier.weight": _random(9, 384)}
  return _below("base.", state) | others


def _pass(state):
  """Class and part tokens with a position each, as PASS trains them; timm holds their sums."""
  state, places = dict(state), _random(4, 1, 1, 384)
  parts = np.split(state.pop("reg_token"), 3, axis=1)
  own = {"cls_token": state.pop("cls_token") - places[0], "cls_pos": places[0]}
  for i, part in enumerate(parts, 1):
    own |= {f"part_token{i}": part - places[i], f"part{i}_pos": places[i]}
  return {"teacher": _below("backbone.", state | own) | {"head.mlp.0.weight": _random(4, 4)}}


_MMPRETRAIN = (
  (r"^norm\.", "ln1."),
  (r"^blocks\.", "layers."),
  (r"\.norm", ".ln"),
  (r"\.mlp\.fc1", ".ffn.layers.0.0"),
  (r"\.mlp\.fc2", ".ffn.layers.1"),
  (r"^patch_embed\.proj", "patch_embed.projection"),
)


def _renamed(state, changes):
  found = {}
  for name, a in state.items():
    for pattern, replacement in changes:
      name = re.sub(pattern, replacement, name)
    found[name] = a
  return found


def _sapiens(state):
  backbone = _below("backbone.", _renamed(state, _MMPRETRAIN))
  return {"state_dict": backbone | {"decode_head.conv_seg.weight": _random(4, 4, 1, 1)}}


def _sapiens_mae(state):
  backbone = _below("backbone.", _renamed(state, _MMPRETRAIN))
  return {"state_dict": backbone | {"neck.decoder_pos_embed": _random(1, 5, 8)}}


def _dinov2(state):
  return state | {"mask_token": _random(1, 384)}


def _dinov2_registers(state):
  """The class token has a position, the registers have none; timm holds the sum of class token and position."""
  state, place = dict(state), _random(1, 1, 384)
  state["register_tokens"] = state.pop("reg_token")
  state["pos_embed"] = np.concatenate([place, state["pos_embed"]], axis=1)
  return state | {"cls_token": state["cls_token"] - place, "mask_token": _random(1, 384)}


def _dinov3(state):
  state = dict(state)
  width = len(state["norm.weight"])
  for i in range(DEPTH):
    at = f"blocks.{i}"
    q, v = state.pop(f"{at}.attn.q_bias"), state.pop(f"{at}.attn.v_bias")
    mask = np.repeat(np.float32([1, 0, 1]), width)
    state |= {f"{at}.attn.qkv.bias": np.concatenate([q, _random(width), v]), f"{at}.attn.qkv.bias_mask": mask}
    state |= {f"{at}.ls{n}.gamma": state.pop(f"{at}.gamma_{n}") for n in (1, 2)}
  state["storage_tokens"] = state.pop("reg_token")
  periods = 100 ** (np.arange(16, dtype=np.float32) / 16)
  return state | {"rope_embed.periods": periods, "mask_token": _random(1, width)}


def _eupe(state):
  return _dinov3(state) | {"projectors.a.weight": _random(4, 4)}


_SMALL, _BASE, _LARGE = (f"vit_{size}_patch16_224" for size in ("small", "base", "large"))
_PERSON = {"img_size": (256, 128)}
LAYOUTS: dict[str, Layout] = {
  "mae": Layout("vit_base", _BASE, {}, _mae, "model/"),
  "hap": Layout("vit_base", _BASE, _PERSON, lambda state: {"model": state}, "model/"),
  "path": Layout("vit_base", _BASE, {}, lambda s: _path(s, True), "state_dict/module.backbone_module."),
  "path_no_class": Layout(
    "vit_base_gap", _BASE, _GAP, lambda s: _path(s, False), "state_dict/module.backbone_module.", {"class_token": False}
  ),
  "path_released": Layout(
    "vit_base_gap",
    _BASE,
    _GAP,
    lambda state: {"model": state | {"cls_token": _random(1, 1, 768)}},
    "model/",
    {"class_token": False},
  ),
  "unihcp": Layout(
    "vit_base_gap",
    _BASE,
    _GAP | {"img_size": 1344},
    lambda state: {"state_dict": _below("module.backbone_module.", state)},
    "state_dict/module.backbone_module.",
  ),
  "personvit": Layout("vit_small", _SMALL, _PERSON, _ibot, "student/module.backbone."),
  "personvit_teacher": Layout(
    "vit_small", _SMALL, _PERSON, lambda state: {"teacher": _ibot(state)["teacher"]}, "teacher/backbone."
  ),
  "personvit_reid": Layout("vit_small", _SMALL, _PERSON, _reid, "base."),
  "pass": Layout("pass_small", _SMALL, _PERSON | {"reg_tokens": 3, "no_embed_class": True}, _pass, "teacher/backbone."),
  "sapiens": Layout(
    "vit_large_gap", _LARGE, _GAP | {"img_size": (1024, 768)}, _sapiens, "state_dict/backbone.", padding=2
  ),
  "sapiens_mae": Layout("vit_large", _LARGE, {"img_size": 1024}, _sapiens_mae, "state_dict/backbone."),
  "dinov2": Layout("dinov2_small", "vit_small_patch14_dinov2", {}, _dinov2),
  "dinov2_registers": Layout("dinov2_small_reg", "vit_small_patch14_reg4_dinov2", {}, _dinov2_registers),
  "dinov3": Layout("dinov3_small", "vit_small_patch16_dinov3_qkvb", {}, _dinov3),
  "eupe": Layout("dinov3_tiny", "vit_tiny_patch16_dinov3_qkvb", {}, _eupe),
}
