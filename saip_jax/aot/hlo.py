"""Reads compiled programs: their traffic with memory and between chips, loops counted as often as they run.

XLA's own analysis counts the body of a loop once, and counts accesses to the fast on-chip memory as memory traffic.
The program's text has the number of iterations and the memory of each array.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator

_SIZES = {"pred": 1, "token": 0, "opaque": 0}  # bytes; the others carry their bits in their name
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([0-9,]*)\](\{[^}]*\})?")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"(?:body|condition|calls|to_apply)=%?([\w.\-]+)|branch_computations=\{([^}]*)\}")
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


def shape_bytes(text: str, hbm_only: bool = False) -> int:
  """Returns the bytes of all arrays in a shape as XLA writes it, tuples included.

  Args:
    text: as `f32[8,128]{1,0:T(8,128)}` or `(bf16[2]{0}, s32[])`.
    hbm_only: leave out arrays that the compiler has placed in another memory than the large one, as S(1).
  """
  total = 0
  for kind, dims, layout in _ARRAY.findall(text):
    if hbm_only and "S(" in layout:
      continue
    count = 1
    for dim in filter(None, dims.split(",")):
      count *= int(dim)
    bits = re.search(r"\d+", kind)
    size = _SIZES[kind] if kind in _SIZES else int(bits.group()) / 8 if bits else 0
    total += int(count * size)
  return total


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a program; `rest` is all that follows the operands."""

  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  rest: str
  is_root: bool

  @property
  def called(self) -> list[str]:
    """Names of the computations it runs."""
    names = [single or several for single, several in _CALLED.findall(self.rest)]
    return [name.strip().lstrip("%") for group in names for name in group.split(",")]


@dataclasses.dataclass(frozen=True)
class Traffic:
  """What one device does in one run of a program.

  Attributes:
    hbm_bytes: read from and written to the large memory.
    collectives: kind -> (how many, bytes handed to the network).
    largest: kind -> (bytes, shape, place in the source) of the largest one.
    cycles: the compiler's own estimate of time; 0 where it gives none.
  """

  hbm_bytes: int
  collectives: dict[str, tuple[int, int]]
  largest: dict[str, tuple[int, str, str]]
  cycles: int


class Program:
  """A compiled program, from its text."""

  def __init__(self, text: str):
    self._computations: dict[str, dict[str, Instruction]] = {}
    self._entry = ""
    current: dict[str, Instruction] = {}
    for line in text.splitlines():
      if head := _HEAD.match(line):
        current = self._computations.setdefault(head.group(2), {})
        self._entry = head.group(2) if head.group(1) else self._entry
      elif instruction := _parse(line):
        current[instruction.name] = instruction
    if not self._entry:
      raise ValueError("this text is no compiled program: it has no ENTRY computation")

  def traffic(self) -> Traffic:
    """Walks the program, every loop as often as it runs."""
    hbm, cycles = 0, 0
    counts = collections.defaultdict(lambda: (0, 0))
    largest = {}
    for instruction, computation, times in self._walk(self._entry, 1):
      hbm += times * self._hbm_bytes(instruction, computation)
      if estimate := re.search(r'estimated_cycles"?:"?(\d+)', instruction.rest):
        cycles += times * int(estimate.group(1))
      kind = instruction.opcode.removesuffix("-start")
      if kind in COLLECTIVES:
        size = self._payload(instruction, computation)
        number, total = counts[kind]
        counts[kind] = number + times, total + times * size
        place = re.search(r'op_name="([^"]*)"', instruction.rest)
        largest[kind] = max(largest.get(kind, (0, "", "")), (size, instruction.shape, place.group(1) if place else ""))
    return Traffic(hbm, dict(counts), largest, cycles)

  def trip_count(self, loop: Instruction) -> int:
    """Returns how often a loop runs: the bound that its condition compares the counter with."""
    if known := re.search(r'known_trip_count"?:\{"n":"(\d+)"', loop.rest):
      return int(known.group(1))
    condition = re.search(r"condition=%?([\w.\-]+)", loop.rest).group(1)
    bounds = [
      int(i.rest.rpartition("literal=")[2])
      for i, _, _ in self._walk(condition, 1, inside_fusions=True)
      if i.opcode == "constant" and i.shape.startswith(("s32[]", "u32[]"))
    ]
    return max(bounds, default=1)

  def _walk(
    self, name: str, times: int, inside_fusions: bool = False
  ) -> Iterator[tuple[Instruction, dict[str, Instruction], int]]:
    """Yields (instruction, its computation, how often it runs)."""
    computation = self._computations.get(name, {})
    for instruction in computation.values():
      yield instruction, computation, times
      if instruction.opcode == "while":
        body = re.search(r"body=%?([\w.\-]+)", instruction.rest).group(1)
        yield from self._walk(body, times * self.trip_count(instruction), inside_fusions)
      elif instruction.opcode in ("call", "conditional", "async-start") or (
        inside_fusions and instruction.opcode == "fusion"
      ):
        for called in instruction.called:
          yield from self._walk(called, times, inside_fusions)

  def _payload(self, instruction: Instruction, computation: dict[str, Instruction]) -> int:
    """Bytes that a collective works on: what goes in, or for a gather the whole that comes out."""
    if instruction.opcode.startswith("all-gather"):
      whole = [shape_bytes(a.group()) for a in _ARRAY.finditer(instruction.shape)]
      return max(whole) if instruction.opcode.endswith("-start") else sum(whole)
    return sum(shape_bytes(computation[o].shape) for o in instruction.operands if o in computation)

  def _hbm_bytes(self, instruction: Instruction, computation: dict[str, Instruction]) -> int:
    """Bytes that an instruction reads and writes, a slice of a larger array counted as the slice."""
    opcode = instruction.opcode
    if opcode in _FREE or 'custom_call_target="AllocateBuffer"' in instruction.rest:
      return 0
    if opcode == "async-start":
      return 0  # its computation is walked
    read = [computation[o] for o in instruction.operands if o in computation]
    if opcode in ("dynamic-slice", "slice", "slice-start"):
      result = _result(instruction)
      in_hbm = [shape_bytes(shape, hbm_only=True) > 0 for shape in (read[0].shape, result)]
      return shape_bytes(result) * sum(in_hbm)
    if opcode == "dynamic-update-slice":
      return 2 * shape_bytes(read[1].shape, hbm_only=True)
    if opcode == "copy-start":
      return sum(shape_bytes(a.group(), hbm_only=True) for a in list(_ARRAY.finditer(instruction.shape))[:2])
    if opcode == "fusion":
      called = instruction.called[0]
      total = sum(self._written(called, _ARRAY.finditer(instruction.shape)))
      for index, operand in enumerate(read):
        if shape_bytes(operand.shape, hbm_only=True):
          total += self._read_of_parameter(called, index)
      return total
    return shape_bytes(instruction.shape, hbm_only=True) + sum(shape_bytes(r.shape, hbm_only=True) for r in read)

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
      if user.opcode in ("bitcast", "copy", "reshape", "transpose"):
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


def _result(instruction: Instruction) -> str:
  """The shape of the result of an operation, of which an asynchronous one lists its operand first."""
  arrays = [a.group() for a in _ARRAY.finditer(instruction.shape)]
  return arrays[1] if instruction.opcode.endswith("-start") and len(arrays) > 1 else arrays[0]


def _closing(text: str, start: int) -> int:
  """Index of the parenthesis that closes the one at `start`."""
  depth = 0
  for i in range(start, len(text)):
    depth += (text[i] == "(") - (text[i] == ")")
    if depth == 0:
      return i
  return len(text) - 1


def _parse(line: str) -> Instruction | None:
  """Returns the instruction on a line, None if there is none."""
  name, equals, rest = re.sub(r"/\*.*?\*/", "", line).strip().partition(" = ")
  if not equals or not line.startswith(" "):
    return None
  is_root = name.startswith("ROOT ")
  end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
  shape, rest = rest[:end], rest[end:].lstrip()
  opcode, _, _ = rest.partition("(")
  end = _closing(rest, len(opcode))
  inside = rest[len(opcode) + 1 : end]
  if opcode == "constant":
    literal = inside if inside.isdigit() else "0"
    return Instruction(_bare(name), shape, opcode, (), f"literal={literal}", is_root)
  operands = tuple(_bare(part.split(" ")[-1]) for part in inside.split(", ")) if inside else ()
  return Instruction(_bare(name), shape, opcode, operands, rest[end + 1 :], is_root)


def _bare(name: str) -> str:
  return name.removeprefix("ROOT ").strip().lstrip("%")
