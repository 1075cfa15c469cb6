"""Floating-point operations of the matrix products and convolutions of a compiled program."""

import functools
import math
import re

from saip_jax.aot.hlo import Computation, Instruction, shape_dims


def product_flops(instruction: Instruction, computation: Computation) -> int:
  """Returns the operations of a product, two for each multiplication and addition; 0 for what is no product.

  What the padding and the holes of a convolution contribute is left out.

  Args:
    instruction: an instruction, not a fusion.
    computation: its surroundings.
  """
  library = instruction.library_call
  if instruction.opcode not in ("dot", "convolution") and not library.startswith(("cublas", "cudnn$conv")):
    return 0
  out = shape_dims(instruction.shape)
  left, right = (shape_dims(computation[name].shape) for name in instruction.operands[:2])
  if instruction.opcode == "dot" or library.startswith("cublas"):
    return 2 * math.prod(out) * math.prod(left[i] for i in _summed(instruction))
  if library == "cudnn$convBackwardInput":  # of the convolution that it belongs to
    return _convolution(instruction, out, right, left)
  if library == "cudnn$convBackwardFilter":
    return _convolution(instruction, left, out, right)
  return _convolution(instruction, left, right, out)


def _summed(instruction: Instruction) -> list[int]:
  """The dimensions of the first operand that a product sums over, from XLA's text or that of a call of cuBLAS."""
  found = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([0-9,"]*)', instruction.rest)
  return [int(n) for n in found.group(1).replace('"', "").split(",") if n] if found else []


def _convolution(
  instruction: Instruction, image: tuple[int, ...], kernel: tuple[int, ...], out: tuple[int, ...]
) -> int:
  """For TPUs products are convolutions too; a dimension that both share is one of space, with a hole for every pair.

  Args:
    instruction: the convolution.
    image: dimensions of its input.
    kernel: dimensions of its weights.
    out: dimensions of its output.
  """
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest).groups()
  window = re.search(r"window=\{([^}]*)\}", instruction.rest)
  fields = dict(part.split("=") for part in window.group(1).split()) if window else {}
  pairs = 1
  for i, size in enumerate(map(int, fields.get("size", "").split("x") if fields else [])):
    field = lambda name, default: fields[name].split("x")[i] if name in fields else default
    stride, holes, spread = (int(field(name, "1")) for name in ("stride", "lhs_dilate", "rhs_dilate"))
    sides = [dims[label.index(str(i))] for dims, label in zip((image, out), (labels[0], labels[2]))]
    pairs *= _pairs(*sides, size, stride, int(field("pad", "0_0").split("_")[0]), holes, spread)
  batch, feature = (out[labels[2].index(label)] for label in "bf")
  return 2 * batch * feature * kernel[labels[1].index("i")] * pairs


@functools.cache
def _pairs(image: int, out: int, size: int, stride: int, before: int, holes: int, spread: int) -> int:
  """Counts the pairs of an output and a weight, along one dimension of space, that meet an element of the image."""
  count = 0
  for o in range(out):
    for k in range(size):
      at = o * stride + k * spread - before
      count += 0 <= at <= (image - 1) * holes and at % holes == 0
  return count
