"""Prints what the Pallas kernels of attention cost on a TPU, beside attention as XLA compiles it. Needs libtpu.

  python scripts/kernel_cost.py --chip=v5e

No TPU is needed: nothing runs. How a kernel is counted: libtpu writes the schedule of every program that it compiles
(LIBTPU_INIT_ARGS=--xla_jf_dump_to=FOLDER --xla_jf_dump_llo_text=true --xla_jf_dump_llo_pass_label_regex=final). The
file NUMBER-KERNEL-NUMBER-final_bundles.txt has one line for each bundle, the instructions that a core starts in one
cycle, with one ">" for each loop that it is in. A kernel has a loop over the grid and in it one over the rows of a
step; their lengths are those of the traced kernel. Cycles are bundles times lengths. A bundle that waits for data takes
longer than a cycle; the waits for memory are judged by the bytes of the rows (whole tiles) at the chip's bandwidth:
copies run beside the bundles, so the larger of the two numbers is the cost.

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

# name, tokens of a row, tokens of a sequence, width, heads
SHAPES = (
  ("encoder, whole image", 129, 129, 192, 3),
  ("encoder, 3 x 33 in a row", 99, 33, 192, 3),
  ("encoder, 2 x 51 in a row", 102, 51, 192, 3),
  ("encoder, 33 alone", 33, 33, 192, 3),
  ("encoder, 51 alone", 51, 51, 192, 3),
  ("CSR decoder", 202, 202, 512, 16),
  ("CSS decoder, whole image", 129, 129, 512, 16),
  ("CSS decoder, region", 33, 33, 512, 16),
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


def measure(chip: str, folder: str, tokens: int, sequence: int, width: int, heads: int) -> dict[str, float]:
  """Compiles attention of one shape both ways and returns cycles for one row.

  Args:
    chip: a key of `CHIPS`.
    folder: where libtpu writes its schedules.
    tokens: of a row.
    sequence: tokens of each sequence in it.
    width: all heads together.
    heads: their number.

  Returns:
    "plain" and "plain_both": forward, forward and backward as XLA compiles them. "forward", "backward": of the kernels.
    "forward_copies", "backward_copies": the least time of their copies.
  """
  import jax
  import jax.numpy as jnp

  from saip_jax.aot.hlo import Program
  from saip_jax.aot.topologies import CHIPS, describe_devices, find_topology
  from saip_jax.backbones.attention import attend
  from saip_jax.backbones.pallas_attention import attend_rows
  from saip_jax.backbones.pallas_rows import row_bytes

  jax.config.update("jax_enable_compilation_cache", False)  # a program that is read from there writes no schedule
  sharding = jax.sharding.SingleDeviceSharding(describe_devices(find_topology(f"{chip}-1"))[0])
  row = jax.ShapeDtypeStruct((_BATCH, tokens, width), jnp.bfloat16, sharding=sharding)
  segments = None if sequence == tokens else tuple(i // sequence for i in range(tokens))

  def plain(q, k, v):
    split = lambda a: a.reshape(-1, sequence, heads, width // heads)
    return attend(split(q), split(k), split(v)).reshape(q.shape)

  kernel = lambda q, k, v: attend_rows(q, k, v, heads, segments, segments)

  def both(function, q, k, v, dout):
    out, pull = jax.vjp(function, q, k, v)
    return out, pull(dout)

  xla = lambda f, *args: Program(jax.jit(f).lower(*args).compile().as_text()).traffic().cycles / _BATCH
  found = {"plain": xla(plain, row, row, row), "plain_both": xla(functools.partial(both, plain), row, row, row, row)}
  for path in pathlib.Path(folder).iterdir():
    path.unlink()
  traced = jax.jit(functools.partial(both, kernel)).trace(row, row, row, row)
  traced.lower().compile()
  trips = loops_of(traced.jaxpr.jaxpr)
  lse = jax.ShapeDtypeStruct((_BATCH, heads, tokens), jnp.float32)
  bytes_per_cycle = CHIPS[chip].hbm_gb_per_s / CHIPS[chip].ghz
  for name, rows in (("forward", 4), ("backward", 7)):
    of_group = f"attention_{name}"
    found[name] = cycles_of(bundles_of(folder, of_group), trips[of_group]) / _BATCH
    found[f"{name}_copies"] = (rows * row_bytes(row) + row_bytes(lse)) / bytes_per_cycle
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--chip", default="v5e", choices=("v5e", "v6e"))
  parser.add_argument("--only", default="", help="shapes whose name contains this")
  options = parser.parse_args()
  heading = ("cycles for one row, forward", "XLA", "kernel", "its copies", "XLA", "kernel", "its copies")
  print(f"{options.chip:34}{'forward':>24}{'forward and backward':>30}")
  print(f"{heading[0]:34}" + "".join(f"{word:>12}" for word in heading[1:]))
  with tempfile.TemporaryDirectory() as folder:
    dump_schedules(folder)
    for name, *shape in SHAPES:
      if options.only in name:
        f = measure(options.chip, folder, *shape)
        both = (f["plain_both"], f["forward"] + f["backward"], f["forward_copies"] + f["backward_copies"])
        numbers = (f["plain"], f["forward"], f["forward_copies"], *both)
        print(f"{name:34}" + "".join(f"{number:12,.0f}" for number in numbers), flush=True)


if __name__ == "__main__":
  main()
