"""Where the time of a compiled step goes: cycles, traffic and ideal cycles by part of the method and kind of work."""

import collections
import dataclasses
import functools
import re
from collections.abc import Container, Iterator
from typing import NamedTuple

from saip_jax.aot.chips import Chip
from saip_jax.aot.hlo import Computation, Instruction, Program, Visit, shape_dims
from saip_jax.aot.products import product_flops
from saip_jax.aot.traffic import MemoryTraffic, collective_kind

KINDS = (
  "products",
  "attention products",
  "softmax",
  "norm",
  "bias gradients",
  "layout",
  "saves",
  "loads",
  "views",
  "update",
  "collectives",
  "kernels",
  "other",
)
"""What an instruction does; a fusion counts as the first that fits.

"views" and "update" are all that is in these parts; "collectives" is communication of chips; "kernels" are Pallas's,
whose time the compiler does not estimate: they have traffic, no cycles. Of the rest, "attention products" are those in
a scope "attention", "softmax" is what else such a scope computes, and what else has exponentials; "norm" is in a scope
named after a norm; "bias gradients" are sums of gradients to vectors; "layout" moves data only; "saves" and "loads" are
slices that a loop writes to and reads from what is kept for all its trips.
"""

_WHOLE = ("views", "update")  # parts that are one kind
_ATTENTION = "attention"  # the scope of attention without its projections
_LOOP_WORDS = frozenset(
  ("while", "body", "cond", "closed_call", "checkpoint", "rematted_computation", "custom_vjp_call", "custom_jvp_call")
)
_MOVES = frozenset(
  (
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "fusion",
    "bitcast",
    "broadcast",
    "iota",
    "copy",
    "copy-start",
    "copy-done",
    "slice-start",
    "slice-done",
    "transpose",
    "reshape",
    "pad",
    "slice",
    "concatenate",
    "reverse",
    "convert",
    "dynamic-slice",
    "dynamic-update-slice",
  )
)
_JOINS = frozenset(("add", "maximum", "or"))  # of padded parts: a concatenation, or the gradient of a split


@dataclasses.dataclass(frozen=True)
class Place:
  """A place in the traced step.

  Attributes:
    scopes: the named scopes and modules that it is in, outermost first.
    direction: "forward" and "backward" within the loss, "" outside of it.
  """

  scopes: tuple[str, ...]
  direction: str


class Row(NamedTuple):
  """What a part of the method costs in one kind of work.

  Attributes:
    part: scopes joined by "/", with the direction; "losses" is what no scope names within the loss, "rest" outside.
    kind: one of `KINDS`.
    cycles: the compiler's estimate of its time; of a program without estimates, as for GPUs, the least time that its
      products and its traffic need at the peaks of the chip.
    ideal_cycles: its products at the peak of the chip.
    hbm_bytes: its traffic with the large memory.
  """

  part: str
  kind: str
  cycles: float
  ideal_cycles: float
  hbm_bytes: int


def breakdown(program: Program | str, chip: Chip, depth: int = 1) -> list[Row]:
  """Returns the costs of a compiled program, loops counted as often as they run, the most expensive part first.

  Args:
    program: the compiled program, or its text, from `compiled.as_text()`.
    chip: what it is compiled for.
    depth: how many nested scopes a part is named by.
  """
  program = Program(program) if isinstance(program, str) else program
  memory, per_cycle = MemoryTraffic(program), chip.bf16_tflops * 1e3 / chip.ghz
  bytes_per_cycle = chip.hbm_gb_per_s / chip.ghz
  estimated = any(visit.instruction.cycles for visit in program.walk())
  cells = collections.defaultdict(lambda: [0.0, 0.0, 0])
  for visit in program.walk():
    instruction, computation, times, _ = visit
    traffic = memory.hbm_bytes(instruction, computation)
    members = program.inside(instruction, computation)
    inside = [i for i, _ in members]
    products = {i.name: count for i, at in members if (count := product_flops(i, at))}
    flops = sum(products.values())
    cycles = instruction.cycles if estimated else max(flops / per_cycle, traffic / bytes_per_cycle)
    if not (cycles or traffic or flops):
      continue
    place = find_place(visit, inside, products)
    cell = cells[_part(place, depth), _kind(visit, inside, products, place)]
    for i, cost in enumerate((cycles, flops / per_cycle, traffic)):
      cell[i] += times * cost
  rows = [Row(part, kind, *cell) for (part, kind), cell in cells.items()]
  whole = collections.Counter()
  for row in rows:
    whole[row.part] += row.cycles
  return sorted(rows, key=lambda row: (-whole[row.part], row.part, KINDS.index(row.kind)))


@functools.cache
def parse_place(op_name: str) -> Place | None:
  """Returns the place that an `op_name` of the compiler encodes, None if it encodes none.

  Args:
    op_name: as `jit(step)/transpose(jvp(student))/ViT.encode/while/body/closed_call/block/norm1/mul`: functions,
      transformations around scopes, modules with their methods, loops, and last the primitive.
  """
  if not op_name.startswith("jit("):
    return None
  scopes = []
  for component in op_name.partition(";")[0].split("/")[1:-1]:  # of instructions made one, the first
    while wrapped := re.fullmatch(r"(?:jvp|transpose|vmap|remat|checkpoint)\((.*)\)", component):
      component = wrapped.group(1)
    if component.startswith("jit(") or "->" in component or "<" in component:
      break  # inside a function of a library
    component = component.partition(".")[0]
    if component and component not in _LOOP_WORDS and not component.startswith("branch_"):
      scopes += [component] if scopes[-1:] != [component] else []
  backward, forward = "transpose(" in op_name, "jvp(" in op_name
  return Place(tuple(scopes), "backward" if backward else "forward" if forward else "")


def find_place(visit: Visit, inside: list[Instruction], products: Container[str]) -> Place:
  """Returns the place of an instruction.

  The place of its product, its own, or without an `op_name` that of what is fused in it, what uses it, what it
  reads, or its loop.

  Args:
    visit: the instruction.
    inside: what it consists of, from `Program.inside`.
    products: names of those of them that are products.
  """
  instruction, computation = visit.instruction, visit.computation

  def candidates():
    yield from (i for i in inside if i.name in products)
    yield instruction
    yield from reversed(inside)
    yield from _users(instruction, computation)
    yield from (computation[name] for name in instruction.operands if name in computation)
    yield from reversed(visit.callers)

  return next((place for i in candidates() if (place := parse_place(i.op_name))), Place((), ""))


def _users(value: Instruction, computation: Computation) -> Iterator[Instruction]:
  """Yields the instructions that read a value, then those that read what these make of it, and so on."""
  values, seen = [value.name], {value.name}
  for name in values:
    readers = [reader for reader in computation.readers.get(name, []) if reader.name not in seen]
    yield from readers
    values += [reader.name for reader in readers]
    seen.update(reader.name for reader in readers)


def _part(place: Place, depth: int) -> str:
  if not place.scopes:
    return f"losses, {place.direction}" if place.direction else "rest"
  name = "/".join(place.scopes[:depth])
  return f"{name}, {place.direction}" if place.direction and place.scopes[0] not in _WHOLE else name


def _kind(visit: Visit, inside: list[Instruction], products: Container[str], place: Place) -> str:
  """Returns the kind of an instruction, the arguments as in `find_place`."""
  if collective_kind(visit.instruction):
    return "collectives"
  if visit.instruction.is_kernel:
    return "kernels"
  if place.scopes[:1] and place.scopes[0] in _WHOLE:
    return place.scopes[0]
  if products:
    return "attention products" if _ATTENTION in place.scopes else "products"
  opcodes = {i.opcode for i in inside}
  saves, loads = (visit.in_loop and name in opcodes for name in ("dynamic-update-slice", "dynamic-slice"))
  if opcodes <= _MOVES | (_JOINS if "pad" in opcodes else frozenset()):
    return "saves" if saves else "loads" if loads else "layout"
  scopes = {scope for i in (visit.instruction, *inside) if (at := parse_place(i.op_name)) for scope in at.scopes}
  if _ATTENTION in scopes or "exponential" in opcodes:
    return "softmax"
  if any("norm" in scope.lower() for scope in scopes):
    return "norm"
  if place.direction == "backward" and any(i.opcode == "reduce" and _is_vector(i.shape) for i in inside):
    return "bias gradients"
  return "saves" if saves else "other"


def _is_vector(shape: str) -> bool:
  return sum(size > 1 for size in shape_dims(shape)) == 1
