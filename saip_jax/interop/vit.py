"""The names of a plain ViT's tensors: timm's, and those of packages that renamed some of them.

Paths are relative to the backbone. The norm of the tapped layer is SAIP's own and stands apart.
"""

import dataclasses
import re
from collections.abc import Iterable

from saip_jax.interop.tables import PATCH, Row, blocks, linear, norm

TIMM = [
  Row("cls_token", "cls_token"),
  Row("pos_embed", "pos_embed"),
  *linear("patch_embed.proj", "patch_embed", PATCH),
  *blocks("blocks", "blocks"),
  *norm("norm", "norm"),
]
EXTRA = norm("inter_norm", "inter_norm")  # no loader of timm's names accepts these

# What files hold beside: a classifier, mask tokens of pre-training.
IGNORED = (r"^(head|heads|classifier|bottleneck|fc)\.", r"^(mask_token|masked_embed)$")

VITPOSE = ((r"^norm\.", "last_norm."),)
MMPRETRAIN = (
  (r"^norm\.", "ln1."),
  (r"^blocks\.", "layers."),
  (r"\.norm([12])\.", r".ln\1."),
  (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
  (r"\.mlp\.fc2\.", ".ffn.layers.1."),
  (r"^patch_embed\.proj\.", "patch_embed.projection."),
)


def renamed(table: Iterable[Row], changes: Iterable[tuple[str, str]]) -> list[Row]:
  """Returns the table with regular expressions replaced in its PyTorch names, one after the other."""
  rows = []
  for row in table:
    name = row.torch
    for pattern, replacement in changes:
      name = re.sub(pattern, replacement, name)
    rows.append(dataclasses.replace(row, torch=name))
  return rows


def inside(table: Iterable[Row], torch: str, path: str) -> list[Row]:
  """Returns the table with a prefix before its PyTorch names and one before its paths."""
  return [dataclasses.replace(row, torch=torch + row.torch, path=path + row.path) for row in table]
