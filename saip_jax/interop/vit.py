"""The names of a ViT's tensors in PyTorch: timm's, and those of packages that changed some of them.

Paths are relative to the backbone. The norm of the tapped layer belongs to SAIP, not to timm's model.
"""

import dataclasses
import re
from collections.abc import Iterable

from saip_jax.backbones.vit import ViT
from saip_jax.interop.tables import PATCH_LAYOUT, Row, TensorNames, block_rows, linear_rows, norm_rows


def vit_names(module: ViT) -> TensorNames:
  """Returns the names of the tensors of timm's model of a ViT; its `Eva` where keys have no bias."""
  without = [Row("blocks.{}.attn.qkv.bias", "blocks/qkv/bias")] if not module.k_bias else []
  biases = [Row(f"blocks.{{}}.attn.{name}", f"blocks/{name}") for name in ("q_bias", "v_bias")]
  scales = "ls{}.gamma" if module.k_bias else "gamma_{}"
  scales = [Row("blocks.{}." + scales.format(i), f"blocks/ls{i}/gamma") for i in (1, 2)]
  return TensorNames(
    timm=[
      *[Row("cls_token", "cls_token")] * module.class_token,
      *[Row("reg_token", "reg_token")] * bool(module.prefix_tokens),
      *[Row("pos_embed", "pos_embed")] * (not module.rope),
      *linear_rows("patch_embed.proj", "patch_embed", PATCH_LAYOUT),
      *(row for row in block_rows("blocks", "blocks") if row not in without),
      *biases * (not module.k_bias),
      *scales * module.layer_scale,
      *norm_rows("norm", "norm"),
    ],
    extra=norm_rows("inter_norm", "inter_norm"),
    # A classifier, heads and mask tokens of pre-training, and rotary frequencies, which the model computes.
    ignored=(
      r"^(head|heads|classifier|bottleneck|fc|pooler|projectors|local_cls_norm)\.",
      r"^(mask_token|masked_embed)$",
      r"^rope(_embed)?\.",
    ),
    buffers=(r"^rope(_embed)?\.",),
  )


VIT_NAMES = vit_names(ViT(width=0, depth=0, heads=0))
"""Those of a plain ViT."""

# Changes of timm's names into those of other packages.
VITPOSE_CHANGES = ((r"^norm\.", "last_norm."),)
MMPRETRAIN_CHANGES = (
  (r"^norm\.", "ln1."),
  (r"^blocks\.", "layers."),
  (r"\.norm([12])\.", r".ln\1."),
  (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
  (r"\.mlp\.fc2\.", ".ffn.layers.1."),
  (r"^patch_embed\.proj\.", "patch_embed.projection."),
)


def renamed(table: Iterable[Row], changes: Iterable[tuple[str, str]]) -> list[Row]:
  """Returns the table with regular expressions replaced in its PyTorch names, in order."""
  rows = []
  for row in table:
    name = row.torch
    for pattern, replacement in changes:
      name = re.sub(pattern, replacement, name)
    rows.append(dataclasses.replace(row, torch=name))
  return rows


def inside(table: Iterable[Row], torch: str, path: str) -> list[Row]:
  """Returns the table with the prefix `torch` added to its PyTorch names and `path` added to its paths."""
  return [dataclasses.replace(row, torch=torch + row.torch, path=path + row.path) for row in table]
