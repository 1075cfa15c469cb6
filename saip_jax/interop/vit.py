"""The names of a plain ViT's tensors: timm's, and those of packages that renamed some of them.

Paths are relative to the backbone. The norm of the tapped layer is SAIP's own and stands apart: no loader of timm's
names accepts it.
"""

import dataclasses
import re
from typing import Iterable

import jax
import numpy as np

from saip_jax.backbones.vit import ViT
from saip_jax.interop.tables import PATCH, Row, blocks, linear, norm

TIMM = [
    Row("cls_token", "cls_token"),
    Row("pos_embed", "pos_embed"),
    *linear("patch_embed.proj", "patch_embed", PATCH),
    *blocks("blocks", "blocks"),
    *norm("norm", "norm"),
]
TAPPED_NORM = norm("inter_norm", "inter_norm")

# The table of every backbone, for both directions and all dialects.
TABLES = dict.fromkeys(("vit_tiny", "vit_small", "vit_base", "vit_large"), TIMM)

VITPOSE = ((r"^norm\.", "last_norm."),)
MMPRETRAIN = (
    (r"^norm\.", "ln1."),
    (r"^blocks\.", "layers."),
    (r"\.norm([12])\.", r".ln\1."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
)


def parameter_shapes(backbone: ViT) -> dict[str, tuple[int, ...]]:
  """Returns path -> shape of every parameter of the backbone; nothing is allocated."""
  images = jax.ShapeDtypeStruct((1, *backbone.image_hw, 3), np.float32)
  init = lambda key, x: backbone.init(key, x, ("cls", "hidden"))
  tree = jax.eval_shape(init, jax.random.key(0), images)["params"]
  return shapes_of(tree)


def shapes_of(tree) -> dict[str, tuple[int, ...]]:
  """Returns path -> shape of every leaf of a tree of arrays, abstract or not."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


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
