"""Tables that relate PyTorch tensors to parameters here, and the two functions that apply them.

A row relates one tensor to one parameter, and the same table converts in both directions:

  >>> import numpy as np
  >>> from saip_jax.interop.tables import from_torch, linear_rows, to_torch
  >>> table = linear_rows("fc", "head")
  >>> state = {"fc.weight": np.ones((5, 3), np.float32), "fc.bias": np.zeros(5, np.float32)}
  >>> tree = from_torch(state, table)
  >>> tree["head"]["kernel"].shape
  (3, 5)
  >>> back = to_torch(tree, table, patch=16)
  >>> all(np.array_equal(back[name], state[name]) for name in state)
  True
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import ml_dtypes
import numpy as np

from input_pipeline.checks import shortlist

_FLOATS = tuple(map(np.dtype, (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)))


@dataclasses.dataclass(frozen=True)
class Layout:
  """The memory layouts of a tensor in PyTorch and here; the two functions are inverse and linear."""

  from_torch: Callable[[np.ndarray], np.ndarray]
  to_torch: Callable[[np.ndarray, int], np.ndarray]


def _same(a, *_):
  return a


SAME_LAYOUT = Layout(_same, _same)
LINEAR_LAYOUT = Layout(lambda a: a.T, lambda a, _: a.T)  # (out, in) <-> (in, out)
CONV_LAYOUT = Layout(lambda a: a.transpose(2, 3, 1, 0), lambda a, _: a.transpose(3, 2, 0, 1))  # OIHW <-> HWIO
CONV_1X1_LAYOUT = Layout(lambda a: a[:, :, 0, 0].T, lambda a, _: a.T[:, :, None, None])
PATCH_LAYOUT = Layout(  # (D, C, p, p) <-> (p * p * C, D): a strided convolution is a linear layer over patches
  lambda a: a.transpose(2, 3, 1, 0).reshape(-1, len(a)),
  lambda a, patch: a.reshape(patch, patch, -1, a.shape[-1]).transpose(3, 2, 0, 1),
)


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a table.

  Attributes:
    torch: tensor name; each `{}` is the index of a block, or of a block within a block.
    path: parameter path, `/` between names; blocks are stacked along leading axes.
    layout: conversion of the values.
  """

  torch: str
  path: str
  layout: Layout = SAME_LAYOUT

  @property
  def stacks(self) -> list[str]:
    """The stacks of blocks that the tensor belongs to, outermost first: the part of the name before each `{}`."""
    parts = self.torch.split("{}")
    return ["{}".join(parts[:n]) for n in range(1, len(parts))]


@dataclasses.dataclass(frozen=True)
class TensorNames:
  """The names of one architecture's tensors in PyTorch.

  Attributes:
    timm: rows in timm's names.
    extra: rows of tensors that timm's model does not have; timm's strict loaders refuse them.
    ignored: regular expressions of other tensors that files hold.
    buffers: those of `ignored` that are no weights and are not reported.
  """

  timm: Sequence[Row]
  extra: Sequence[Row]
  ignored: tuple[str, ...] = ()
  buffers: tuple[str, ...] = ()

  @property
  def extra_modules(self) -> dict[str, list[Row]]:
    """The extra rows by the first part of their path."""
    modules = {}
    for row in self.extra:
      modules.setdefault(row.path.partition("/")[0], []).append(row)
    return modules


def linear_rows(torch: str, path: str, layout: Layout = LINEAR_LAYOUT) -> list[Row]:
  """Returns the rows of a layer's weight and bias."""
  return [Row(f"{torch}.weight", f"{path}/kernel", layout), Row(f"{torch}.bias", f"{path}/bias")]


def norm_rows(torch: str, path: str) -> list[Row]:
  """Returns the rows of a layer norm."""
  return [Row(f"{torch}.weight", f"{path}/scale"), Row(f"{torch}.bias", f"{path}/bias")]


def batch_norm_rows(torch: str, path: str) -> list[Row]:
  """Returns the rows of a batch norm; its running statistics are leaves beside its scale and bias."""
  statistics = Row(f"{torch}.running_mean", f"{path}/mean"), Row(f"{torch}.running_var", f"{path}/var")
  return [*norm_rows(torch, path), *statistics]


def block_rows(torch: str, path: str) -> list[Row]:
  """Returns the rows of a stack of timm-style blocks."""
  torch = torch + ".{}"
  return [
    *norm_rows(f"{torch}.norm1", f"{path}/norm1"),
    *linear_rows(f"{torch}.attn.qkv", f"{path}/qkv"),
    *linear_rows(f"{torch}.attn.proj", f"{path}/proj"),
    *norm_rows(f"{torch}.norm2", f"{path}/norm2"),
    *linear_rows(f"{torch}.mlp.fc1", f"{path}/mlp/fc1"),
    *linear_rows(f"{torch}.mlp.fc2", f"{path}/mlp/fc2"),
  ]


def flatten(tree, prefix: str = "") -> dict[str, np.ndarray]:
  """Returns nested dicts as {path: array}, the names joined by `/`."""
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


def refuse_not_finite(tensors: Mapping[str, np.ndarray]) -> None:
  """Raises ValueError, with names and counts, if tensors hold NaN or infinity in float32."""
  found, values = [], 0
  for name, array in tensors.items():
    with np.errstate(over="ignore"):
      bad = np.size(array) - np.count_nonzero(np.isfinite(np.asarray(array, np.float32)))
    if bad:
      found.append(f"{name} ({bad:,} of {np.size(array):,} values)")
      values += bad
  if found:
    tensor = "1 tensor holds" if len(found) == 1 else f"{len(found):,} tensors hold"
    raise ValueError(f"the weights are not finite: {tensor} NaN or infinity: {shortlist(found)}")


def from_torch(
  state: Mapping[str, np.ndarray],
  table: Iterable[Row],
  ignored: Iterable[str] = (),
  shapes: Mapping[str, tuple[int, ...]] | None = None,
  patch: int = 16,
) -> dict:
  """Returns the parameter tree of a PyTorch state dict, in float32; the arrays are copies.

  Args:
    state: name -> array; float16 and bfloat16 are widened, float64 is rounded.
    table: rows of the dialect.
    ignored: regular expressions of tensors to skip.
    shapes: parameter path -> expected shape; absent paths accept any shape.
    patch: patch side in pixels.

  Raises:
    ValueError: missing or unexpected tensors, wrong shapes or types, all listed at once; or values that are not
      finite.
  """
  table, shapes = list(table), shapes or {}
  depths = _depths(state, table, shapes)
  indices = lambda row: itertools.product(*(range(depths[stack]) for stack in row.stacks))
  names = {row.path: [row.torch.format(*index) for index in indices(row)] for row in table}
  known = {name for group in names.values() for name in group}
  faults = {
    "missing": [name for group in names.values() for name in group if name not in state],
    "unexpected": [n for n in state if n not in known and not any(re.search(p, n) for p in ignored)],
    "of another shape": [],
    "of another type": [],
  }
  for row in table:
    wanted = shapes.get(row.path)
    if wanted is not None:
      wanted = _torch_shape(row, wanted[len(row.stacks) :], patch)
    for name in (name for name in names[row.path] if name in state):
      array = state[name]
      if wanted is not None and np.shape(array) != wanted:
        faults["of another shape"].append(f"{name} {np.shape(array)}, expected {wanted}")
      if array.dtype not in _FLOATS:
        faults["of another type"].append(f"{name} {array.dtype}, expected a floating-point type")
  if any(faults.values()):
    listed = lambda found: f"[{shortlist(map(repr, found))}]" if found else "none"
    parts = [f"{kind} {listed(found)}" for i, (kind, found) in enumerate(faults.items()) if found or i < 2]
    raise ValueError(f"the weights do not fit the dialect: {', '.join(parts)}")
  refuse_not_finite({name: state[name] for group in names.values() for name in group})
  flat = {}
  for row in table:
    arrays = [row.layout.from_torch(np.asarray(state[name])) for name in names[row.path]]
    shape = *(depths[stack] for stack in row.stacks), *arrays[0].shape
    flat[row.path] = np.array(arrays, np.float32, order="C").reshape(shape)
  return unflatten(flat)


def _depths(state, table: list[Row], shapes) -> dict[str, int]:
  """Returns the number of blocks of each stack: from the expected shapes, or else from the names in the file."""
  depths = {}
  for row in table:
    for axis, stack in enumerate(row.stacks):
      if row.path in shapes:
        depths[stack] = shapes[row.path][axis]
      elif stack not in depths:
        pattern = r"\d{1,4}".join(map(re.escape, stack.split("{}"))) + r"(\d{1,4})\."
        indices = (re.match(pattern, name) for name in state)
        depths[stack] = 1 + max((int(index[1]) for index in indices if index), default=0)
  return depths


def _torch_shape(row: Row, shape: tuple[int, ...], patch: int) -> tuple[int, ...]:
  return row.layout.to_torch(np.broadcast_to(np.float32(0), shape), patch).shape  # takes no memory


def to_torch(tree: dict, table: Iterable[Row], patch: int) -> dict[str, np.ndarray]:
  """Returns the PyTorch state dict of a parameter tree (or of gradients: the layouts are linear).

  Args:
    tree: nested dicts of arrays.
    table: rows of the dialect.
    patch: patch side in pixels, which a flattened patch embedding does not determine.

  Raises:
    ValueError: parameters without a row or rows without a parameter, all listed.
  """
  flat, table = flatten(tree), list(table)
  rows = {row.path: row for row in table}
  if flat.keys() != rows.keys():
    listed = lambda paths: shortlist(sorted(paths)) or "none"
    raise ValueError(
      f"the parameters do not fit the dialect: no row for {listed(flat.keys() - rows.keys())}, "
      f"no parameter for {listed(rows.keys() - flat.keys())}"
    )
  state = {}
  for path, row in rows.items():
    for index in np.ndindex(flat[path].shape[: len(row.stacks)]):
      state[row.torch.format(*index)] = row.layout.to_torch(flat[path][index], patch)
  return state
