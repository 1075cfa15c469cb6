"""Prints what the Pallas kernels of attention and of blocks cost on a TPU, beside XLA's programs. Needs libtpu.

  python scripts/kernel_cost.py --chip=v5e

No TPU is needed: nothing runs. How a kernel is counted: libtpu writes the schedule of every program that it compiles
(LIBTPU_INIT_ARGS=--xla_jf_dump_to=FOLDER --xla_jf_dump_llo_text=true --xla_jf_dump_llo_pass_label_regex=final). The
file NUMBER-KERNEL-NUMBER-final_bundles.txt has one line for each bundle, the instructions that a core starts in one
cycle, with one ">" for each loop that it is in. A kernel has a loop over the grid and in it one over the rows of a
step; their lengths are those of the traced kernel. Cycles are bundles times lengths. A bundle that waits for data takes
longer than a cycle. Copies of rows between memories run beside the bundles: those of attention alone take about as long
as its bundles at the bandwidth of the data sheet, those of a block a tenth of that.

How XLA's program is counted: the `estimated_cycles` that libtpu writes beside every operation, as in `saip compile`.
It includes copies between layouts where the compiler wants others than those of the arguments.

All numbers are cycles for one row of the batch.
"""

import argparse
import collections
import functools
import os
import pathlib
import re
import tempfile

_BUNDLE = re.compile(r"^\s*(?:0x[0-9a-f]+|0)\s+(?:[A-Z]{2})?\s*:\s*([> ]*)\{")
_BATCH = 64

# name, tokens of the sequences in a row, width, heads
SHAPES = (
  ("encoder, an image", (129,), 192, 3),
  ("encoder, 51 + 33 + 33 tokens", (51, 33, 33), 192, 3),
  ("encoder, a scene", (197,), 192, 3),
  ("CSR decoder", (202,), 512, 16),
  ("CSS decoder, an image", (129,), 512, 16),
  ("CSS decoder, a crop", (51,), 512, 16),
)


def dump_schedules(folder: str) -> None:
  """Makes libtpu, which must not be loaded yet, write its final schedules."""
  flags = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true --xla_jf_dump_llo_pass_label_regex=final"
  os.environ["LIBTPU_INIT_ARGS"] = f"{os.environ.get('LIBTPU_INIT_ARGS', '')} {flags}".strip()
  os.environ.setdefault("JAX_PLATFORMS", "cpu")


def bundles_of(folder: str, kernel: str) -> list[int]:
  """Returns the bundles of a kernel at each depth of loops, outside of all first.

  Raises:
    FileNotFoundError: there is not exactly one schedule of that name.
  """
  found = [
    p for p in pathlib.Path(folder).iterdir() if re.fullmatch(rf"\d+-\w*{kernel}\w*\.\d+-\d+-final_bundles.txt", p.name)
  ]
  if len(found) != 1:
    raise FileNotFoundError(f"{len(found)} schedules of {kernel} in {folder}: expected one; libtpu may name them anew")
  matches = filter(None, map(_BUNDLE.match, found[0].read_text().splitlines()))
  counts = collections.Counter(match.group(1).count(">") for match in matches)
  return [counts[depth] for depth in range(max(counts) + 1)]


def loops_of(jaxpr) -> dict[str, list[int]]:
  """Returns the trips of the loops of every kernel in a traced program: those over the grid, those inside of it."""
  found = {}
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "pallas_call":
      inner = [e.params["length"] for e in eqn.params["jaxpr"].eqns if e.primitive.name == "scan"]
      steps = functools.reduce(lambda a, b: a * b, eqn.params["grid_mapping"].grid, 1)
      found[eqn.params["name"]] = [steps, *(n for n in inner if n > 1)]  # a loop of one trip is none
    for value in eqn.params.values():
      inside = getattr(value, "jaxpr", value)
      if eqn.primitive.name != "pallas_call" and hasattr(inside, "eqns"):
        found |= loops_of(inside)
  return found


def cycles_of(bundles: list[int], trips: list[int]) -> int:
  """Returns the cycles of a kernel: bundles at each depth of loops times the trips of the loops around them."""
  if len(bundles) > len(trips) + 1:
    raise ValueError(f"the schedule has loops in {len(bundles) - 1} depths, the kernel in {len(trips)}")
  total, times = 0, 1
  for count, trip in zip(bundles, [*trips, 1]):
    total, times = total + count * times, times * trip
  return total


def measure(
  what: str, chip: str, folder: str, shape: tuple[tuple[int, ...], int, int], xla: bool
) -> list[float | None]:
  """Compiles one shape and returns cycles for one row: forward by XLA and by kernels, both directions likewise.

  Args:
    what: "attention" alone, or the whole "block".
    chip: a key of `CHIPS`.
    folder: where libtpu writes its schedules.
    shape: tokens of the sequences in a row, width, heads.
    xla: whether to compile XLA's version too; None stands in its places otherwise.
  """
  import jax
  import jax.numpy as jnp

  from saip_jax.aot.hlo import Program
  from saip_jax.aot.topologies import describe_devices, find_topology
  from saip_jax.aot.traffic import measure_traffic
  from saip_jax.backbones.attention import attend
  from saip_jax.backbones.block import Block
  from saip_jax.backbones.pallas_attention import attend_rows
  from saip_jax.backbones.pallas_block import block_rows

  jax.config.update("jax_enable_compilation_cache", False)  # a program that is read from there writes no schedule
  lengths, width, heads = shape
  sharding = jax.sharding.SingleDeviceSharding(describe_devices(find_topology(f"{chip}-1"))[0])
  place = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding)
  row = place(jax.ShapeDtypeStruct((_BATCH, sum(lengths), width), jnp.bfloat16))
  segments = tuple(i for i, length in enumerate(lengths) for _ in range(length)) if len(lengths) > 1 else None

  if what == "attention":
    plain = lambda q, k, v: attend(q, k, v, None, heads, lengths)
    kernel, inputs = lambda q, k, v: attend_rows(q, k, v, heads, segments, segments), (row, row, row)
  else:
    block = Block(width, heads, jnp.bfloat16)
    plain = lambda params, x: block.apply({"params": params}, x, lengths=lengths)
    kernel = lambda params, x: block_rows(params, x, heads, segments)
    params = jax.eval_shape(lambda: block.init(jax.random.key(0), jnp.zeros((1, 2, width)))["params"])
    inputs = jax.tree.map(place, params), row

  def both(function, dout, *inputs):
    out, pull = jax.vjp(function, *inputs)
    return out, pull(dout)

  program = lambda f, *args: Program(jax.jit(f).lower(*args).compile().as_text())
  by_xla = lambda f, *args: measure_traffic(program(f, *args)).cycles / _BATCH
  plain_both = functools.partial(both, plain)
  of_xla = [by_xla(plain, *inputs), by_xla(plain_both, row, *inputs)] if xla else [None, None]
  for path in pathlib.Path(folder).iterdir():
    path.unlink()
  traced = jax.jit(functools.partial(both, kernel)).trace(row, *inputs)
  traced.lower().compile()
  trips, names = loops_of(traced.jaxpr.jaxpr), (f"{what}_forward", f"{what}_backward")
  forward, backward = (cycles_of(bundles_of(folder, name), trips[name]) / _BATCH for name in names)
  return [of_xla[0], forward, of_xla[1], forward + backward]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--chip", default="v5e", choices=("v5e", "v6e"))
  parser.add_argument("--what", default="block", choices=("attention", "block"))
  parser.add_argument("--only", default="", help="shapes whose name contains this")
  parser.add_argument("--kernels", action="store_true", help="leave out XLA's version, which takes minutes")
  options = parser.parse_args()
  words = ("forward: XLA", "kernels", "and backward: XLA", "kernels")
  print(f"{options.what} on {options.chip}, cycles for a row".ljust(40) + "".join(f"{word:>18}" for word in words))
  with tempfile.TemporaryDirectory() as folder:
    dump_schedules(folder)
    for name, *shape in SHAPES:
      if options.only in name:
        cycles = measure(options.what, options.chip, folder, tuple(shape), not options.kernels)
        numbers = ("-" if n is None else f"{n:,.0f}" for n in cycles)
        print(name.ljust(40) + "".join(f"{number:>18}" for number in numbers), flush=True)


if __name__ == "__main__":
  main()
