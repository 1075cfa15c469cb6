"""Traffic of a compiled program with memory and between chips, loops counted as often as they run.

XLA's own analysis counts the body of a loop once, and counts accesses to the fast on-chip memory as memory traffic.
The program's text has the number of iterations and the memory of each array.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator

from saip_jax.aot.hlo import ARRAY, Computation, Instruction, Program, shape_bytes

_FREE = frozenset(
  (
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "conditional",
    "call",
    "after-all",
    "opt-barrier",
    "partition-id",
    "replica-id",
    "iota",
    "async-start",  # its computation is walked
    "async-done",
    "async-update",
    "copy-done",
    "slice-done",
    "all-reduce-done",
    "all-gather-done",
    "collective-permute-done",
    "send",
    "send-done",
    "recv",
    "recv-done",
  )
)
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Traffic:
  """What one device does in one run of a program.

  Attributes:
    hbm_bytes: read from and written to the large memory.
    collectives: kind -> (how many, bytes handed to the network).
    largest: kind -> (bytes, shape, place in the source) of the largest one.
    cycles: the compiler's own estimate of time; 0 where it gives none.
    kernels: runs of Pallas kernels, whose time is not in `cycles`.
  """

  hbm_bytes: int
  collectives: dict[str, tuple[int, int]]
  largest: dict[str, tuple[int, str, str]]
  cycles: int
  kernels: int


def measure_traffic(program: Program) -> Traffic:
  """Walks the program, every loop as often as it runs."""
  memory, hbm, cycles, kernels = MemoryTraffic(program), 0, 0, 0
  counts = collections.defaultdict(lambda: (0, 0))
  largest = {}
  for instruction, computation, times, _ in program.walk():
    hbm += times * memory.hbm_bytes(instruction, computation)
    cycles += times * instruction.cycles
    kernels += times * instruction.is_kernel
    if kind := collective_kind(instruction):
      size = _payload(instruction, computation)
      number, total = counts[kind]
      counts[kind] = number + times, total + times * size
      largest[kind] = max(largest.get(kind, (0, "", "")), (size, instruction.shape, instruction.op_name))
  return Traffic(hbm, dict(counts), largest, cycles, kernels)


def collective_kind(instruction: Instruction) -> str | None:
  """Returns one of `COLLECTIVES`, None for what is none or only waits for one."""
  kind = instruction.opcode.removesuffix("-start")
  return kind if kind in COLLECTIVES else None


def _payload(instruction: Instruction, computation: Computation) -> int:
  """Bytes that a collective works on: what goes in, or for a gather the whole that comes out."""
  if instruction.opcode.startswith("all-gather"):
    whole = [shape_bytes(a.group()) for a in ARRAY.finditer(instruction.shape)]
    return max(whole) if instruction.opcode.endswith("-start") else sum(whole)
  return sum(shape_bytes(computation[o].shape) for o in instruction.operands if o in computation)


class MemoryTraffic:
  """Bytes that the instructions of a program move from and to the large memory."""

  def __init__(self, program: Program):
    self._computations = program.computations

  def hbm_bytes(self, instruction: Instruction, computation: Computation) -> int:
    """Bytes that an instruction reads and writes, a slice of a larger array counted as the slice."""
    opcode = instruction.opcode
    if opcode in _FREE or 'custom_call_target="AllocateBuffer"' in instruction.rest:
      return 0
    read = [computation[o] for o in instruction.operands if o in computation]
    if opcode in ("dynamic-slice", "slice", "slice-start"):
      result = _result(instruction)
      in_hbm = [shape_bytes(shape, hbm_only=True) > 0 for shape in (read[0].shape, result)]
      return shape_bytes(result) * sum(in_hbm)
    if opcode == "dynamic-update-slice":
      return 2 * shape_bytes(read[1].shape, hbm_only=True)
    if opcode == "copy-start":
      return sum(shape_bytes(a.group(), hbm_only=True) for a in list(ARRAY.finditer(instruction.shape))[:2])
    if opcode == "fusion":
      called = instruction.called[0]
      total = sum(self._written(called, ARRAY.finditer(instruction.shape)))
      for index, operand in enumerate(read):
        if shape_bytes(operand.shape, hbm_only=True):
          total += self._read_of_parameter(called, index)
      return total
    result = _without_workspace(instruction) if instruction.library_call else instruction.shape
    return shape_bytes(result, hbm_only=True) + sum(shape_bytes(r.shape, hbm_only=True) for r in read)

  @functools.cache
  def _read_of_parameter(self, name: str, index: int) -> int:
    """Bytes of a parameter that a fused computation reads."""
    computation = self._computations[name]
    parameter = next(i for i in computation.values() if i.opcode == "parameter" and i.operands == (str(index),))
    return min(self._read_of(name, parameter), shape_bytes(parameter.shape))

  def _read_of(self, name: str, value: Instruction) -> int:
    total = 0
    for user in self._computations[name].values():
      if value.name not in user.operands or user.opcode == "parameter":
        continue
      if user.opcode in ("bitcast", "copy", "reshape", "transpose") and not user.is_root:
        total += self._read_of(name, user)
      elif user.opcode in ("dynamic-slice", "slice"):
        total += shape_bytes(user.shape)
      elif user.opcode == "dynamic-update-slice" and user.operands[0] == value.name:
        continue  # written in place
      elif user.opcode == "fusion":
        total += sum(self._read_of_parameter(user.called[0], i) for i, o in enumerate(user.operands) if o == value.name)
      else:
        total += shape_bytes(value.shape)
    return total

  def _written(self, name: str, results: Iterable[re.Match]) -> Iterator[int]:
    """Yields the bytes that a fused computation writes of each of its results: of one changed in place the new part."""
    computation = self._computations[name]
    root = next(i for i in computation.values() if i.is_root)
    if root.opcode == "fusion":
      yield from self._written(root.called[0], results)
      return
    parts = [computation[o] for o in root.operands] if root.opcode == "tuple" else [root]
    for part, result in zip(parts, results):
      while part.opcode == "bitcast":
        part = computation[part.operands[0]]
      size = shape_bytes(result.group(), hbm_only=True)
      if size and part.opcode == "dynamic-update-slice":
        size = shape_bytes(computation[part.operands[1]].shape)
      yield size


def _without_workspace(instruction: Instruction) -> str:
  """The results of a call to a library without the last, its scratch memory."""
  return " ".join([a.group() for a in ARRAY.finditer(instruction.shape)][:-1])


def _result(instruction: Instruction) -> str:
  """The shape of the result of an operation, of which an asynchronous one lists its operand first."""
  arrays = [a.group() for a in ARRAY.finditer(instruction.shape)]
  return arrays[1] if instruction.opcode.endswith("-start") and len(arrays) > 1 else arrays[0]
