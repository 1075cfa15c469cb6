"""Tables that relate PyTorch tensors to parameters here, and the two functions that apply them."""

import dataclasses
import re
from typing import Callable, Iterable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a tensor is laid out on both sides; the two functions are inverse and linear."""

  from_torch: Callable[[np.ndarray], np.ndarray]
  to_torch: Callable[[np.ndarray, int], np.ndarray]


def _same(a, *_):
  return a


SAME = Layout(_same, _same)
LINEAR = Layout(lambda a: a.T, lambda a, _: a.T)  # (out, in) <-> (in, out)
CONV = Layout(lambda a: a.transpose(2, 3, 1, 0), lambda a, _: a.transpose(3, 2, 0, 1))  # OIHW <-> HWIO
CONV_1X1 = Layout(lambda a: a[:, :, 0, 0].T, lambda a, _: a.T[:, :, None, None])
PATCH = Layout(  # (D, C, p, p) <-> (p * p * C, D): a strided convolution is a linear layer over patches
    lambda a: a.transpose(2, 3, 1, 0).reshape(-1, len(a)),
    lambda a, patch: a.reshape(patch, patch, -1, a.shape[-1]).transpose(3, 2, 0, 1),
)


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a table.

  Attributes:
    torch: tensor name; `{}` stands for the index of a block.
    path: parameter path, `/` between names; blocks are stacked along a leading axis.
    layout: how the tensor is laid out.
  """

  torch: str
  path: str
  layout: Layout = SAME


def linear(torch: str, path: str, layout: Layout = LINEAR) -> list[Row]:
  """Returns the rows of a layer's weight and bias."""
  return [Row(f"{torch}.weight", f"{path}/kernel", layout), Row(f"{torch}.bias", f"{path}/bias")]


def norm(torch: str, path: str) -> list[Row]:
  """Returns the rows of a layer norm."""
  return [Row(f"{torch}.weight", f"{path}/scale"), Row(f"{torch}.bias", f"{path}/bias")]


def blocks(torch: str, path: str) -> list[Row]:
  """Returns the rows of a stack of timm-style blocks."""
  torch = torch + ".{}"
  return [
      *norm(f"{torch}.norm1", f"{path}/norm1"),
      *linear(f"{torch}.attn.qkv", f"{path}/qkv"),
      *linear(f"{torch}.attn.proj", f"{path}/proj"),
      *norm(f"{torch}.norm2", f"{path}/norm2"),
      *linear(f"{torch}.mlp.fc1", f"{path}/mlp/fc1"),
      *linear(f"{torch}.mlp.fc2", f"{path}/mlp/fc2"),
  ]


def flatten(tree, prefix: str = "") -> dict[str, np.ndarray]:
  """Returns nested dicts as {path: array}."""
  flat = {}
  for name, value in tree.items():
    path = f"{prefix}{name}"
    flat |= flatten(value, path + "/") if isinstance(value, dict) else {path: np.asarray(value)}
  return flat


def unflatten(flat: dict[str, np.ndarray]) -> dict:
  """Inverse of `flatten`."""
  tree = {}
  for path, value in flat.items():
    *parents, leaf = path.split("/")
    node = tree
    for name in parents:
      node = node.setdefault(name, {})
    node[leaf] = value
  return tree


def from_torch(state: dict[str, np.ndarray], table: Iterable[Row], ignored: Iterable[str] = ()) -> dict:
  """Returns the parameter tree held by a PyTorch state dict.

  Args:
    state: name -> array.
    table: rows of the dialect.
    ignored: regular expressions of tensors that have no place here.

  Raises:
    ValueError: listing every missing and every unexpected tensor at once.
  """
  flat, used, missing = {}, set(), []
  for row in table:
    names = [row.torch]
    if "{}" in row.torch:
      depth = 0
      while row.torch.format(depth) in state:
        depth += 1
      names = [row.torch.format(i) for i in range(max(depth, 1))]
    missing += [name for name in names if name not in state]
    if all(name in state for name in names):
      arrays = [row.layout.from_torch(np.asarray(state[name])) for name in names]
      flat[row.path] = np.stack(arrays) if "{}" in row.torch else arrays[0]
      used.update(names)
  extra = [name for name in state if name not in used and not any(re.search(p, name) for p in ignored)]
  if missing or extra:
    raise ValueError(
        f"the weights do not fit the dialect: missing {missing or 'none'}, unexpected {extra or 'none'}"
    )
  return unflatten(flat)


def to_torch(tree: dict, table: Iterable[Row], patch: int) -> dict[str, np.ndarray]:
  """Returns the PyTorch state dict of a parameter tree (or of gradients: the layouts are linear).

  Args:
    tree: nested dicts of arrays.
    table: rows of the dialect.
    patch: patch side in pixels, which a flattened patch embedding no longer tells.

  Raises:
    ValueError: listing every parameter without a row and every row without a parameter.
  """
  flat, table = flatten(tree), list(table)
  rows = {row.path: row for row in table}
  if flat.keys() != rows.keys():
    raise ValueError(
        f"the parameters do not fit the dialect: no row for {sorted(flat.keys() - rows.keys()) or 'none'}, "
        f"no parameter for {sorted(rows.keys() - flat.keys()) or 'none'}"
    )
  state = {}
  for path, row in rows.items():
    if "{}" in row.torch:
      state |= {row.torch.format(i): row.layout.to_torch(a, patch) for i, a in enumerate(flat[path])}
    else:
      state[row.torch] = row.layout.to_torch(flat[path], patch)
  return state
