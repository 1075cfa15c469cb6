"""The twin in PyTorch of every backbone: its tensors' names, timm's model of it, and what no tensor tells.

Everything else in `interop` asks here; a new backbone needs an entry, and an encoder in `torch_encoders`.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from saip_jax.backbones import rope
from saip_jax.backbones.batch_norm import BATCH_NORM_EPSILON
from saip_jax.backbones.convnext import TAPPED_STAGE as CONVNEXT_TAP
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.hrnet import HRNET_TAPPED_STAGE as HRNET_TAP
from saip_jax.backbones.linear import NORM_EPSILON
from saip_jax.backbones.swin import TAPPED_STAGE as SWIN_TAP
from saip_jax.backbones.tinyvit import TIMM_EPSILON
from saip_jax.interop import convnext, hrnet, swin, tinyvit, vit
from saip_jax.interop.tables import Row

_GRAPHS = ("onnx", "torchscript")


@dataclasses.dataclass(frozen=True)
class Twin:
  """What PyTorch knows a backbone as.

  Attributes:
    kind: "vit", "swin", ...: backbones of one kind differ in sizes alone.
    architecture: timm's name of the model.
    same: regular expression of timm's names of models that compute the same, at other image sizes or trained otherwise.
    timm: rows in timm's names.
    extra: rows of what timm's model does not have.
    facts: module -> what no tensor tells, or what people want to know, JSON-able.
    signs: regular expression of tensors that no other kind has.
    dialects: those that it can be exported to.
    arguments: image size -> arguments of `timm.create_model` that the features depend on.
    skip_init: others, that spare timm the making of initial values.
    pretrained: what timm's `pretrained_cfg` says of its layers.
    pool: timm's name of how the image feature is made.
    ignored: regular expressions of what files hold beside.
    buffers: those of them that are no weights and not worth a word.
    positions: has a table of positions, which fits one image size.
    smallest: pixels, the shortest side that PyTorch's model takes.
    multiple: pixels, of which every side must be a multiple there.
    upsampling: mode of PyTorch's `Upsample` that takes the place of the one in timm's model; empty: as it is.
    extra_file: name of the file beside timm's tensors that holds the others.
    note: what to know of weights that were not made here; empty if nothing.
  """

  kind: str
  architecture: str
  same: str
  timm: Sequence[Row]
  extra: Sequence[Row]
  facts: Callable[[Any], dict[str, Any]]
  signs: str
  dialects: tuple[str, ...] = ("timm", "safetensors", *_GRAPHS)
  arguments: Callable[[tuple[int, int]], dict[str, Any]] = lambda image_hw: {}
  skip_init: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  pretrained: Mapping[str, str] = dataclasses.field(default_factory=dict)
  pool: str = "avg"
  ignored: tuple[str, ...] = ()
  buffers: tuple[str, ...] = ()
  positions: bool = False
  smallest: int = 16
  multiple: int = 1
  upsampling: str = ""
  extra_file: str = "inter_norm.safetensors"
  note: str = ""

  @property
  def extra_modules(self) -> dict[str, list[Row]]:
    """The extra rows by the first part of their path."""
    modules = {}
    for row in self.extra:
      modules.setdefault(row.path.partition("/")[0], []).append(row)
    return modules


def vit_twin(name: str) -> Twin:
  """Returns the twin of a plain ViT with 16 px patches."""
  size = name.removeprefix("vit_")
  return Twin(
    "vit",
    f"{name}_patch16_224",
    rf"(vit|deit)_{size}_patch16(_\d+)?",
    vit.TIMM,
    vit.EXTRA,
    _vit_facts,
    signs=r"^(cls_token|pos_embed|patch_embed\.proj\.weight)$",
    dialects=("timm", "safetensors", "saip", "mae", "dino", "vitpose", "mmpose", *_GRAPHS),
    arguments=lambda image_hw: {"img_size": list(image_hw)},
    skip_init={"weight_init": "skip"},
    pretrained={"first_conv": "patch_embed.proj", "classifier": "head"},
    pool="token",
    ignored=vit.IGNORED,
    positions=True,
  )


def nano_twin() -> Twin:
  """Returns the twin of the ViT for two CPU cores: timm's smallest one, cut down further by its arguments."""
  sizes = {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}
  return dataclasses.replace(
    vit_twin("vit_tiny"),
    dialects=("timm", "safetensors", *_GRAPHS),
    arguments=lambda image_hw: {"img_size": list(image_hw), **sizes},
  )


def rope_twin(name: str) -> Twin:
  """Returns the twin of a ViT of rotary positions: timm's of the RoPE-ViT paper, without the scales of its layers."""
  size = name.removeprefix("vit_").removesuffix("_rope")
  known, widths = ("small", {"embed_dim": 192, "num_heads": 3}) if size == "tiny" else (size, {})
  arguments = {"init_values": None, "rope_grid_indexing": "ij", "rope_rotate_half": True, **widths}
  return dataclasses.replace(
    vit_twin(name),
    architecture=f"vit_{known}_patch16_rope_224",
    same=rf"vit_{known}_patch16_rope_\d+",
    timm=[row for row in vit.TIMM if row.torch != "pos_embed"],
    dialects=("timm", *_GRAPHS),
    facts=lambda module: _vit_facts(module) | {"rope_temperature": rope.BASE},
    arguments=lambda image_hw: {"img_size": list(image_hw), **arguments},
    skip_init={},
    positions=False,
    multiple=16,
  )


def _vit_facts(module) -> dict[str, Any]:
  return {
    "width": module.width,
    "depth": module.depth,
    "heads": module.heads,
    "last_heads": module.last_heads or module.heads,
    "patch": module.patch,
    "grid": list(module.stored_grid),
    "norm_eps": NORM_EPSILON,
    "gelu": "exact",
    "tapped_block": module.tapped_block,
  }


def _stages(
  module: Backbone, norm_eps: float, tapped_stage: int, *names: str, activation: str = "gelu"
) -> dict[str, Any]:
  """Returns the facts of a network of stages; `names` are attributes that this kind has."""
  plain = lambda value: list(value) if isinstance(value, tuple) else value
  return {name: plain(getattr(module, name)) for name in ("dims", "depths", *names)} | {
    "feature_width": module.feature_width,
    "stride": module.stride,
    "norm_eps": norm_eps,
    activation: "exact",
    "tapped_stage": tapped_stage,
  }


_TINYVIT = Twin(
  "tinyvit",
  "tiny_vit_5m_224",
  r"tiny_vit_5m_\d+",
  tinyvit.TIMM,
  tinyvit.EXTRA,
  lambda module: _stages(module, TIMM_EPSILON, len(module.dims) - 1, "heads", "windows"),
  signs=r"^(stages\.\d+\.blocks\.\d+\.(local_conv|conv\d)\.conv\.weight|patch_embed\.conv1\.conv\.weight)$",
  dialects=("safetensors", *_GRAPHS),
  ignored=tinyvit.IGNORED,
  buffers=tinyvit.BUFFERS,
  extra_file="neck.safetensors",
  note="timm's own model has a final stride of 32 and no neck; here the stride is 16, and a neck stands for the head",
)
_SWIN = Twin(
  "swin",
  "swin_tiny_patch4_window7_224",
  r"swin_tiny_patch4_window7_\d+",
  swin.TIMM,
  swin.EXTRA,
  lambda module: _stages(module, 1e-5, SWIN_TAP, "heads", "window"),
  signs=r"^layers\.\d+\.blocks\.\d+\.attn\.relative_position_bias_table$",
  arguments=lambda image_hw: {"img_size": list(image_hw), "always_partition": True},
  skip_init={"weight_init": "skip"},
  pretrained={"first_conv": "patch_embed.proj", "classifier": "head.fc"},
  ignored=swin.IGNORED,
  buffers=swin.BUFFERS,
  note="timm computes the same where its model is created with always_partition=True; without, it leaves out the"
  " shift where a map is no larger than a window",
)
_CONVNEXT = Twin(
  "convnext",
  "convnext_femto",
  r"convnext_femto",
  convnext.TIMM,
  convnext.EXTRA,
  lambda module: _stages(module, NORM_EPSILON, CONVNEXT_TAP),
  signs=r"^stages\.\d+\.blocks\.\d+\.conv_dw\.weight$",
  pretrained={"first_conv": "stem.0", "classifier": "head.fc"},
  ignored=convnext.IGNORED,
  smallest=32,
)
_HRNET = Twin(
  "hrnet",
  "hrnet_w18",
  r"hrnet_w18(_ssld)?",
  hrnet.TIMM,
  hrnet.EXTRA,
  lambda module: _stages(module, BATCH_NORM_EPSILON, HRNET_TAP, "units", "enlarging", activation="relu"),
  signs=r"^stage\d\.\d+\.fuse_layers\.",
  arguments=lambda image_hw: {"head": ""},
  pretrained={"first_conv": "conv1", "classifier": "classifier"},
  pool="",
  ignored=hrnet.IGNORED,
  buffers=hrnet.BUFFERS,
  smallest=32,
  multiple=32,
)

TWINS: dict[str, Twin] = {
  **{name: vit_twin(name) for name in ("vit_tiny", "vit_small", "vit_base", "vit_large")},
  "vit_nano": nano_twin(),
  **{name: rope_twin(name) for name in ("vit_tiny_rope", "vit_small_rope", "vit_base_rope", "vit_large_rope")},
  "tinyvit_5m": _TINYVIT,
  "swin_tiny": _SWIN,
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
  """Returns the kind of backbone that tensors in timm's names belong to; None if of none."""
  names = list(names)
  kinds = {twin.kind: twin for twin in reversed(TWINS.values())}  # the first of a kind speaks for it
  by_stages_first = sorted(kinds.values(), key=lambda twin: twin.positions)  # a ViT's names are the least telling
  return next((t.kind for t in by_stages_first if any(re.search(t.signs, name) for name in names)), None)
