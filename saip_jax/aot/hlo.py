"""Reads the text of compiled programs: instructions, the computations they run, and how often loops run."""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

_SIZES = {"pred": 1, "token": 0, "opaque": 0}  # bytes; the others carry their bits in their name
ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([0-9,]*)\](\{[^}]*\})?")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"(?:body|condition|calls|to_apply)=%?([\w.\-]+)|branch_computations=\{([^}]*)\}")


def shape_bytes(text: str, hbm_only: bool = False) -> int:
  """Returns the bytes of all arrays in a shape as XLA writes it, tuples included.

  Args:
    text: as `f32[8,128]{1,0:T(8,128)}` or `(bf16[2]{0}, s32[])`.
    hbm_only: leave out arrays that the compiler has placed in another memory than the large one, as S(1).
  """
  total = 0
  for kind, dims, layout in ARRAY.findall(text):
    if hbm_only and "S(" in layout:
      continue
    count = 1
    for dim in filter(None, dims.split(",")):
      count *= int(dim)
    bits = re.search(r"\d+", kind)
    size = _SIZES[kind] if kind in _SIZES else int(bits.group()) / 8 if bits else 0
    total += int(count * size)
  return total


def shape_dims(text: str) -> tuple[int, ...]:
  """Returns the dimensions of the first array in a shape."""
  found = ARRAY.search(text)
  return tuple(int(dim) for dim in found.group(2).split(",") if dim) if found else ()


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

  @functools.cached_property
  def op_name(self) -> str:
    """The place in the traced function that it comes from; empty if the compiler does not say."""
    found = re.search(r'op_name="([^"]*)"', self.rest)
    return found.group(1) if found else ""

  @property
  def library_call(self) -> str:
    """The function of cuBLAS or cuDNN that it calls, as `cublas$lt$matmul`; empty if it calls none."""
    found = re.search(r'custom_call_target="__(cu(?:blas|dnn)[^"]*)"', self.rest)
    return found.group(1) if found else ""

  @property
  def is_kernel(self) -> bool:
    """Whether it is a Pallas kernel for TPUs, whose time the compiler does not estimate."""
    return 'custom_call_target="tpu_custom_call"' in self.rest

  @property
  def cycles(self) -> int:
    """The compiler's own estimate of its time; 0 where it gives none."""
    found = re.search(r'estimated_cycles"?:"?(\d+)', self.rest)
    return int(found.group(1)) if found else 0


class Computation(dict[str, Instruction]):
  """The instructions of a computation by name, in the order in which they run."""

  @functools.cached_property
  def readers(self) -> dict[str, list[Instruction]]:
    """Name of a value -> the instructions that read it."""
    readers = collections.defaultdict(list)
    for instruction in self.values():
      for name in instruction.operands:
        readers[name].append(instruction)
    return readers


class Visit(NamedTuple):
  """An instruction as a program runs it.

  Attributes:
    instruction: the instruction.
    computation: its surroundings, name -> instruction.
    times: how often it runs.
    callers: the instructions that run this computation, outermost first.
  """

  instruction: Instruction
  computation: Computation
  times: int
  callers: tuple[Instruction, ...]

  @property
  def in_loop(self) -> bool:
    return any(caller.opcode == "while" for caller in self.callers)


class Program:
  """A compiled program, from its text.

  Attributes:
    computations: name -> its instructions by name.
  """

  def __init__(self, text: str):
    self.computations: dict[str, Computation] = {}
    self._entry = ""
    current = Computation()
    for line in text.splitlines():
      if head := _HEAD.match(line):
        current = self.computations.setdefault(head.group(2), Computation())
        self._entry = head.group(2) if head.group(1) else self._entry
      elif instruction := _parse(line):
        current[instruction.name] = instruction
    if not self._entry:
      raise ValueError("this text is no compiled program: it has no ENTRY computation")

  def walk(self) -> Iterator[Visit]:
    """Yields what a run of the program does, fusions as one instruction each."""
    yield from self._walk(self._entry, 1, ())

  def inside(self, instruction: Instruction, computation: Computation) -> list[tuple[Instruction, Computation]]:
    """Returns the instructions that a fusion consists of, nested ones included; of others the instruction itself."""
    if instruction.opcode != "fusion":
      return [(instruction, computation)]
    called = self.computations[instruction.called[0]]
    return [found for part in called.values() for found in self.inside(part, called)]

  def trip_count(self, loop: Instruction) -> int:
    """Returns how often a loop runs: the bound that its condition compares the counter with."""
    if known := re.search(r'known_trip_count"?:\{"n":"(\d+)"', loop.rest):
      return int(known.group(1))
    condition = self.computations[re.search(r"condition=%?([\w.\-]+)", loop.rest).group(1)]
    bounds = [
      int(i.rest.rpartition("literal=")[2])
      for part in condition.values()
      for i, _ in self.inside(part, condition)
      if i.opcode == "constant" and i.shape.startswith(("s32[]", "u32[]"))
    ]
    return max(bounds, default=1)

  def _walk(self, name: str, times: int, callers: tuple[Instruction, ...]) -> Iterator[Visit]:
    computation = self.computations.get(name, Computation())
    for instruction in computation.values():
      yield Visit(instruction, computation, times, callers)
      if instruction.opcode == "while":
        body = re.search(r"body=%?([\w.\-]+)", instruction.rest).group(1)
        yield from self._walk(body, times * self.trip_count(instruction), (*callers, instruction))
      elif instruction.opcode in ("call", "conditional", "async-start"):
        for called in instruction.called:
          yield from self._walk(called, times, (*callers, instruction))


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
