"""The names of a Swin's tensors in PyTorch."""

import re
from collections.abc import Mapping

import numpy as np

from saip_jax.backbones import BACKBONES
from saip_jax.backbones.swin import Swin
from saip_jax.interop.tables import CONV_LAYOUT, Row, TensorNames, linear_rows, norm_rows


def _block(torch: str, path: str) -> list[Row]:
  offsets = "attn{}relative_position_bias_table"
  return [
    *norm_rows(f"{torch}.norm1", f"{path}/norm1"),
    Row(f"{torch}.{offsets.format('.')}", f"{path}/{offsets.format('/')}"),
    linear_rows(f"{torch}.attn.qkv", f"{path}/attn/qkv")[0],
    Row(f"{torch}.attn.qkv.bias", f"{path}/attn/qkv_bias"),
    *linear_rows(f"{torch}.attn.proj", f"{path}/attn/proj"),
    *norm_rows(f"{torch}.norm2", f"{path}/norm2"),
    *linear_rows(f"{torch}.mlp.fc1", f"{path}/mlp/fc1"),
    *linear_rows(f"{torch}.mlp.fc2", f"{path}/mlp/fc2"),
  ]


def _stages(module: Swin) -> list[Row]:
  rows = []
  for stage, depth in enumerate(module.depths):
    torch, path = f"layers.{stage}", f"layers_{stage}"
    if stage:
      rows += norm_rows(f"{torch}.downsample.norm", f"{path}/downsample/norm")
      reduction = linear_rows(f"{torch}.downsample.reduction", f"{path}/downsample/reduction")
      rows += reduction if module.merging_bias else reduction[:1]
    for i in range(depth):
      rows += _block(f"{torch}.blocks.{i}", f"{path}/blocks_{i}")
  return rows


_BUFFERS = (r"\.relative_position_index$", r"\.attn_mask$")  # indices and masks, determined by the sizes


def swin_names(module: Swin) -> TensorNames:
  """Returns the names of the tensors of a Swin of these depths."""
  return TensorNames(
    timm=[
      *linear_rows("patch_embed.proj", "patch_embed/proj", CONV_LAYOUT),
      *norm_rows("patch_embed.norm", "patch_embed/norm"),
      *_stages(module),
      *norm_rows("norm", "norm"),
    ],
    extra=norm_rows("inter_norm", "inter_norm"),
    ignored=(*_BUFFERS, r"^head\."),  # and the classifier
    buffers=_BUFFERS,
  )


def swin_name(state: Mapping[str, np.ndarray]) -> str:
  """Returns the name of the Swin that tensors are nearest to: by depth, then by width, and by biases of merging layers.

  Args:
    state: tensors of a Swin, in timm's names or in SOLIDER's.
  """
  blocks = {match[0] for match in map(re.compile(r"\w+\.\d+\.blocks\.\d+").match, state) if match}
  widths = [np.shape(a)[:1] for name, a in state.items() if re.match(r"patch_embed\.proj(ection)?\.weight$", name)]
  width = widths[0][0] if widths and widths[0] else 0
  biased = any(name.endswith(".downsample.reduction.bias") for name in state)
  swins = {name: module for name, build in BACKBONES.items() if isinstance(module := build(), Swin)}
  return min(
    (name for name, module in swins.items() if module.merging_bias == biased),
    key=lambda name: (abs(sum(swins[name].depths) - len(blocks)), abs(swins[name].dims[0] - width)),
  )
