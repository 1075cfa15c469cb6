"""The names of a plain ViT's tensors in PyTorch: timm's, and those of packages that changed some of them.

Paths are relative to the backbone. The norm of the tapped layer belongs to SAIP, not to timm's model.
"""

import dataclasses
import re
from collections.abc import Iterable

from saip_jax.interop.tables import PATCH_LAYOUT, Row, TensorNames, block_rows, linear_rows, norm_rows

VIT_NAMES = TensorNames(
  timm=[
    Row("cls_token", "cls_token"),
    Row("pos_embed", "pos_embed"),
    *linear_rows("patch_embed.proj", "patch_embed", PATCH_LAYOUT),
    *block_rows("blocks", "blocks"),
    *norm_rows("norm", "norm"),
  ],
  extra=norm_rows("inter_norm", "inter_norm"),
  # A classifier, and mask tokens of pre-training.
  ignored=(r"^(head|heads|classifier|bottleneck|fc)\.", r"^(mask_token|masked_embed)$"),
)

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
