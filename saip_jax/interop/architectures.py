"""The PyTorch architecture of every backbone: tensor names, timm's model, and facts that no tensor determines.

The other modules of `interop` read `ARCHITECTURES`. A new backbone needs an entry here and an encoder in
`torch_encoders`.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from saip_jax.backbones import BACKBONES, VITS, build_backbone, rope
from saip_jax.backbones.batch_norm import BATCH_NORM_EPSILON
from saip_jax.backbones.convnext import TAPPED_STAGE as CONVNEXT_TAP
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.hrnet import HRNET_TAPPED_STAGE as HRNET_TAP
from saip_jax.backbones.linear import NORM_EPSILON
from saip_jax.backbones.swin import TAPPED_STAGE as SWIN_TAP
from saip_jax.backbones.tinyvit import TIMM_EPSILON
from saip_jax.backbones.vit import ViT
from saip_jax.interop.convnext import CONVNEXT_NAMES
from saip_jax.interop.hrnet import HRNET_NAMES
from saip_jax.interop.solider import SOLIDER_SIGN
from saip_jax.interop.swin import swin_names
from saip_jax.interop.tables import TensorNames
from saip_jax.interop.tinyvit import TINYVIT_NAMES
from saip_jax.interop.vit import vit_names
from saip_jax.run_folder.files import EXTRA

_GRAPHS = ("onnx", "torchscript", "stablehlo")
_PARTITIONED = (
  "timm computes the same if its model is created with always_partition=True; without it, timm skips the shift where a"
  " map is no larger than a window"
)


@dataclasses.dataclass(frozen=True)
class TorchArchitecture:
  """The PyTorch counterpart of a backbone.

  Attributes:
    kind: "vit", "swin", ...; backbones of one kind differ only in sizes.
    timm_name: timm's name of the model.
    equivalents: regular expression of timm's names of models that compute the same, at other image sizes or with other
      weights.
    names: names of the tensors.
    facts: module -> JSON-able facts that no tensor determines or that readers want to know.
    signs: regular expression of tensor names that no other kind has.
    dialects: those that the backbone can be exported to.
    arguments: image size -> arguments of `timm.create_model` that the features depend on.
    skip_init: arguments of `timm.create_model` that skip the computation of initial values.
    pretrained: entries of timm's `pretrained_cfg` about its layers.
    oldest_timm: the first version of timm whose model computes the same.
    renamed_by_timm: whether timm up to 1.0.28 renames the tensors of a folder without a classifier, as if they were of
      the original code; `timm.create_model` then needs `checkpoint_path` in place of `pretrained`.
    pool: timm's name of the pooling that makes the image feature.
    positions: whether there is a table of positions, which fits one image size.
    interpolation: how the published model resizes positions, one of `pos_embed.INTERPOLATIONS`; empty for the way of
      the dialect.
    smallest: pixels, the shortest side that PyTorch's model accepts.
    multiple: pixels; every side must be a multiple of it in PyTorch.
    upsampling: mode of PyTorch's `Upsample` layers if it differs from timm's model; else empty.
    merging_bias: whether the merging layers of a Swin have a bias, which timm's model lacks.
    extra_file: path, in the folder of an export, of the file of the extra tensors. timm up to 1.0.28 fails where two
      safetensors files lie side by side, so it is in a folder of its own.
    note: what differs in timm's model for weights made elsewhere; empty if nothing.
  """

  kind: str
  timm_name: str
  equivalents: str
  names: TensorNames
  facts: Callable[[Any], dict[str, Any]]
  signs: str
  dialects: tuple[str, ...] = ("timm", "safetensors", *_GRAPHS)
  arguments: Callable[[tuple[int, int]], dict[str, Any]] = lambda image_hw: {}
  skip_init: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  pretrained: Mapping[str, str] = dataclasses.field(default_factory=dict)
  oldest_timm: str = "1.0.17"
  renamed_by_timm: bool = False
  pool: str = "avg"
  positions: bool = False
  interpolation: str = ""
  smallest: int = 16
  multiple: int = 1
  upsampling: str = ""
  merging_bias: bool = False
  extra_file: str = f"{EXTRA}/inter_norm.safetensors"
  note: str = ""


def vit_architecture(name: str) -> TorchArchitecture:
  """Returns the architecture of a ViT of `BACKBONES`, by its name and its attributes."""
  module = BACKBONES[name]()
  family, _, rest = name.partition("_")
  size, form = rest.partition("_")[::2]
  plain = TorchArchitecture(
    "vit",
    f"vit_{size}_patch{module.patch}_224",
    rf"(vit|deit)_{size}_patch{module.patch}(_\d+)?",
    vit_names(module),
    _vit_facts,
    signs=r"^(cls_token|pos_embed|patch_embed\.proj\.weight)$",
    arguments=lambda image_hw: {"img_size": list(image_hw)},
    skip_init={"weight_init": "skip"},
    pretrained={"first_conv": "patch_embed.proj", "classifier": "head"},
    pool="token",
    positions=not module.rope,
  )
  arguments = functools.partial(_with_size, {})
  match family, form:
    case "vit", "":
      changes = {"dialects": ("timm", "safetensors", "saip", "mae", "dino", "vitpose", "mmpose", *_GRAPHS)}
    case "vit", "rope":
      changes = _rope_changes(size)
    case "vit", "gap":
      own = {"class_token": False, "global_pool": "avg", "fc_norm": False}
      changes = {"arguments": functools.partial(_with_size, own), "pool": "avg"}
    case "pass", "":
      own = {"reg_tokens": module.prefix_tokens, "no_embed_class": True}
      changes = {"arguments": functools.partial(_with_size, own)}
    case "dinov2", _:
      middle = "_reg4" if form else ""
      timm_name = f"vit_{size}_patch14{middle}_dinov2"
      changes = {"timm_name": timm_name, "equivalents": timm_name, "interpolation": "grid2d_antialiased"}
    case "dinov3", "":
      timm_name = f"vit_{size}_patch16_dinov3_qkvb"
      changes = {
        "timm_name": timm_name,
        "equivalents": rf"{timm_name.removesuffix('_qkvb')}(_qkvb)?",
        "skip_init": {},
        "oldest_timm": "1.0.31",  # the only one that was compared
        "multiple": 16,
      }
  return dataclasses.replace(plain, **{"arguments": arguments} | changes)


def _with_size(others: Mapping[str, Any], image_hw: tuple[int, int]) -> dict[str, Any]:
  return {"img_size": list(image_hw), **others}


def own_vit_architecture(name: str) -> TorchArchitecture:
  """Returns the architecture of a ViT of sizes that timm has no name for: its smallest ViT, with them as arguments."""
  module = BACKBONES[name]()
  sizes = {"patch_size": module.patch, "embed_dim": module.width, "depth": module.depth, "num_heads": module.heads}
  return dataclasses.replace(
    vit_architecture("vit_tiny"),
    dialects=("timm", "safetensors", *_GRAPHS),
    arguments=functools.partial(_with_size, sizes),
  )


def _rope_changes(size: str) -> dict[str, Any]:
  """Returns what differs for a ViT with rotary positions: it is timm's RoPE-ViT without LayerScale.

  timm before 1.0.30 pairs the angles of `rope_rotate_half` with other features. `rope_shift_coords` is its default,
  named because those versions refuse it: they must not compute something else without a word.
  """
  known, widths = ("small", {"embed_dim": 192, "num_heads": 3}) if size == "tiny" else (size, {})
  arguments = {
    "init_values": None,
    "rope_grid_indexing": "ij",
    "rope_rotate_half": True,
    "rope_shift_coords": None,
    **widths,
  }
  return {
    "timm_name": f"vit_{known}_patch16_rope_224",
    "equivalents": rf"vit_{known}_patch16_rope_\d+",
    "dialects": ("timm", *_GRAPHS),
    "arguments": functools.partial(_with_size, arguments),
    "skip_init": {},
    "oldest_timm": "1.0.30",
    "multiple": 16,
  }


def swin_architecture(name: str) -> TorchArchitecture:
  """Returns the architecture of a Swin with patches of 4 px and windows of 7 cells."""
  size = name.removeprefix("swin_")
  return TorchArchitecture(
    "swin",
    f"{name}_patch4_window7_224",
    rf"swin_{size}_patch4_window7_\d+",
    swin_names(build_backbone(name)),
    lambda module: _stages(module, 1e-5, SWIN_TAP, "heads", "window"),
    signs=rf"^layers\.\d+\.blocks\.\d+\.attn\.relative_position_bias_table$|{SOLIDER_SIGN}",
    arguments=lambda image_hw: {"img_size": list(image_hw), "always_partition": True},
    skip_init={"weight_init": "skip"},
    pretrained={"first_conv": "patch_embed.proj", "classifier": "head.fc"},
    renamed_by_timm=True,
    note=_PARTITIONED,
  )


def swin_solider_architecture(name: str) -> TorchArchitecture:
  """Returns the architecture of a Swin whose merging layers have a bias, which timm's do not have."""
  return dataclasses.replace(
    swin_architecture(name.removesuffix("_solider")),
    names=swin_names(build_backbone(name)),
    dialects=("safetensors", *_GRAPHS),
    facts=lambda module: _stages(module, 1e-5, SWIN_TAP, "heads", "window", "merging_bias"),
    merging_bias=True,
    note="timm's merging layers (downsample.reduction) have no bias; these have one, for the shifts of SOLIDER's"
    f" semantic controller. Apart from that, {_PARTITIONED}",
  )


PLAIN_VIT = {
  "patch_padding": 0,
  "class_token": True,
  "prefix_tokens": 0,
  "prefix_positions": True,
  "layer_scale": False,
  "k_bias": True,
  "rope_coordinates": "cells",
}
"""Attributes of a plain ViT. Facts state those that differ."""


def _vit_facts(module: ViT) -> dict[str, Any]:
  rotary = {"rope_temperature": rope.BASE} if module.rope else {}
  own = {name: getattr(module, name) for name, plain in PLAIN_VIT.items() if getattr(module, name) != plain}
  return {
    "width": module.width,
    "depth": module.depth,
    "heads": module.heads,
    "last_heads": module.last_heads or module.heads,
    "patch": module.patch,
    "grid": list(module.stored_grid),
    "norm_eps": module.norm_eps,
    "gelu": "exact",
    "tapped_block": module.tapped_block,
    **rotary,
    **own,
  }


def _stages(
  module: Backbone, norm_eps: float, tapped_stage: int, *names: str, activation: str = "gelu"
) -> dict[str, Any]:
  """Returns the facts of a network of stages; `names` are further attributes of the module."""
  plain = lambda value: list(value) if isinstance(value, tuple) else value
  return {name: plain(getattr(module, name)) for name in ("dims", "depths", *names)} | {
    "feature_width": module.feature_width,
    "stride": module.stride,
    "norm_eps": norm_eps,
    activation: "exact",
    "tapped_stage": tapped_stage,
  }


_TINYVIT = TorchArchitecture(
  "tinyvit",
  "tiny_vit_5m_224",
  r"tiny_vit_5m_\d+",
  TINYVIT_NAMES,
  lambda module: _stages(module, TIMM_EPSILON, len(module.dims) - 1, "heads", "windows"),
  signs=r"^(stages\.\d+\.blocks\.\d+\.(local_conv|conv\d)\.conv\.weight|patch_embed\.conv1\.conv\.weight)$",
  dialects=("safetensors", *_GRAPHS),
  extra_file=f"{EXTRA}/neck.safetensors",
  note="timm's own model has a final stride of 32 and no neck; here the stride is 16, and a neck replaces the head",
)
_CONVNEXT = TorchArchitecture(
  "convnext",
  "convnext_femto",
  r"convnext_femto",
  CONVNEXT_NAMES,
  lambda module: _stages(module, NORM_EPSILON, CONVNEXT_TAP),
  signs=r"^stages\.\d+\.blocks\.\d+\.conv_dw\.weight$",
  pretrained={"first_conv": "stem.0", "classifier": "head.fc"},
  smallest=32,
)
_HRNET = TorchArchitecture(
  "hrnet",
  "hrnet_w18",
  r"hrnet_w18(_ssld)?",
  HRNET_NAMES,
  lambda module: _stages(module, BATCH_NORM_EPSILON, HRNET_TAP, "units", "enlarging", activation="relu"),
  signs=r"^stage\d\.\d+\.fuse_layers\.",
  arguments=lambda image_hw: {"head": ""},
  pretrained={"first_conv": "conv1", "classifier": "classifier"},
  pool="",
  smallest=32,
  multiple=32,
)
_SWINS = ("swin_tiny", "swin_small", "swin_base")

ARCHITECTURES: dict[str, TorchArchitecture] = {
  **{name: vit_architecture(name) for name in VITS},
  "vit_nano": own_vit_architecture("vit_nano"),
  "tinyvit_5m": _TINYVIT,
  **{name: swin_architecture(name) for name in _SWINS},
  **{f"{name}_solider": swin_solider_architecture(f"{name}_solider") for name in _SWINS},
  "convnext_femto": _CONVNEXT,
  "hrnet_w18": _HRNET,
  "hrnet_w18_bilinear": dataclasses.replace(
    _HRNET,
    dialects=("safetensors", *_GRAPHS),
    upsampling="bilinear",
    note="timm's model repeats cells where this one interpolates: set the mode of its Upsample layers to bilinear",
  ),
}


def kind_of(names: Iterable[str]) -> str | None:
  """Returns the kind of backbone that has tensors of these names, timm's; None if there is none."""
  names = list(names)
  first_of_kind = {a.kind: a for a in reversed(ARCHITECTURES.values())}
  by_stages_first = sorted(first_of_kind.values(), key=lambda a: a.positions)  # a ViT's signs are the weakest
  return next((a.kind for a in by_stages_first if any(re.search(a.signs, name) for name in names)), None)
