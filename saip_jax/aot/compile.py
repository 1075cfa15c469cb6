"""Compiles the training step for TPUs and GPUs without having one: its memory, its costs and its least time."""

import contextlib
import dataclasses
import functools
import re
import time
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from saip_jax.aot.breakdown import breakdown
from saip_jax.aot.chips import Gpu
from saip_jax.aot.hlo import Program
from saip_jax.aot.roofline import ASSUMPTIONS, roofline
from saip_jax.aot.topologies import Topology, describe_devices
from saip_jax.aot.traffic import measure_traffic
from saip_jax.config import RunConfig
from saip_jax.training.mesh import check_batch_size, lower_step, make_mesh, place_state
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.step import make_train_step, state_shapes

_GIB = 2**30
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SEARCH_COMPILES = 5
# Without a GPU XLA cannot try tiles for its own products, and those it takes then do not fit rows of any length
# ("Couldn't find output tile sizes"). With one it chooses between these and those of cuBLAS, which always fit.
_GPU_OPTIONS = {"xla_gpu_enable_triton_gemm": False}


class OutOfMemory(Exception):
  """The step does not fit into the memory of a chip.

  Attributes:
    needed: bytes, according to the compiler.
    limit: bytes.
  """

  def __init__(self, needed: int, limit: int):
    super().__init__(f"out of memory: needs {needed / _GIB:.2f} of {limit / _GIB:.2f} GiB per chip")
    self.needed, self.limit = needed, limit


def lower_run(config: RunConfig, build: Callable[..., Any], devices, **backbone_options):
  """Returns (lowered step, shapes of the state), made as the loop makes them.

  Args:
    config: the run.
    build: (config, **backbone options) -> `saip_jax.methods.base.Method`.
    devices: devices to compile for.
    **backbone_options: such as `unroll`.
  """
  method = build(config, **backbone_options)
  mesh = make_mesh(devices, config.fsdp)
  check_batch_size(mesh, config.batch_size, config.accumulate)
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  state = place_state(mesh, state_shapes(method, tx, config.seed))
  step = make_train_step(method, tx, schedule, config.accumulate, config.seed)
  return lower_step(mesh, step, state, method.batch_spec(config.batch_size)), state


def compile_lowered(lowered, topology: Topology):
  """Returns the compiled step; raises `OutOfMemory` if it does not fit."""
  is_gpu = isinstance(topology.chip.target, Gpu)
  with _without_cache():
    try:
      compiled = lowered.compile(compiler_options=_GPU_OPTIONS if is_gpu else None)
    except jax.errors.JaxRuntimeError as error:
      raise read_out_of_memory(str(error), topology) or error from None
  limit = int(topology.chip.usable_gib * _GIB)
  if is_gpu and total_bytes(compiled) > limit:  # which its compiler does not mind
    raise OutOfMemory(total_bytes(compiled), limit)
  return compiled


@contextlib.contextmanager
def _without_cache():
  """Keeps JAX from its compilation cache: programs without a device cannot be read back from it."""
  cached = jax.config.jax_enable_compilation_cache
  jax.config.update("jax_enable_compilation_cache", False)
  compilation_cache.reset_cache()  # JAX looks at the setting once
  try:
    yield
  finally:
    jax.config.update("jax_enable_compilation_cache", cached)
    compilation_cache.reset_cache()


def read_out_of_memory(message: str, topology: Topology) -> OutOfMemory | None:
  """Returns the error in a message of the compiler, None if the message is not about memory."""
  if "RESOURCE_EXHAUSTED" not in message and "out of memory" not in message.lower():
    return None
  sizes = [float(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+(?:\.\d+)?)([KMGT]?)(?=\)| of | hbm|\.)", message)]
  limit = int(topology.chip.usable_gib * _GIB)
  sentence = re.search(r"Used (\d+(?:\.\d+)?)([KMGT]) of (\d+(?:\.\d+)?)([KMGT])", message)
  if sentence:
    needed, limit = (int(float(sentence[i]) * _UNITS[sentence[i + 1]]) for i in (1, 3))
  else:
    needed = int(max([size for size in sizes if size > limit], default=limit))
  return OutOfMemory(needed, limit)


def count_flops(config: RunConfig, build: Callable[..., Any]) -> float:
  """Returns the floating-point operations of one update over all devices.

  XLA's count of the program before optimization, with the blocks unrolled, because XLA counts the body of a scan once.
  `remat="none"` leaves out operations that are computed twice to save memory. Kernels are counted as what they stand
  for.
  """
  alone = dataclasses.replace(config, accumulate=1, batch_size=config.batch_size // config.accumulate, fsdp=1)
  lowered, _ = lower_run(alone, build, jax.local_devices()[:1], unroll=True, attention="xla")
  return lowered.cost_analysis()["flops"] * config.accumulate


def examine_step(
  config: RunConfig, build: Callable[..., Any], topology: Topology, breakdown_depth: int | None = None
) -> dict[str, Any]:
  """Compiles the step and returns its costs, JSON-able.

  Args:
    config: the run.
    build: as in `lower_run`.
    topology: chips to compile for.
    breakdown_depth: `depth` of `breakdown`, whose rows are added to the facts; None for no breakdown.

  Raises:
    OutOfMemory: it does not fit.
    ValueError: settings that do not fit the number of chips, or libtpu is missing.
  """
  chip, chips = topology.chip, topology.chips
  devices = describe_devices(topology)
  started = time.perf_counter()
  lowered, state = lower_run(config, build, devices)
  lowered_at = time.perf_counter()
  compiled = compile_lowered(lowered, topology)
  compiled_at = time.perf_counter()

  memory, total = compiled.memory_analysis(), total_bytes(compiled)
  program = Program(compiled.as_text())
  traffic = measure_traffic(program)
  useful = count_flops(dataclasses.replace(config, remat="none"), build) / chips
  executed = useful if config.remat == "none" else count_flops(config, build) / chips
  times = roofline(chip, executed, traffic.hbm_bytes, traffic.collectives)
  images = config.batch_size // chips
  state_bytes = _bytes_per_device(state)
  facts = setting_facts(config, topology) | {
    "fits": True,
    "parameters": sum(a.size for a in jax.tree.leaves(state.params)),
    "hbm": {
      "state": state_bytes,
      "arguments": memory.argument_size_in_bytes,
      "temporaries": memory.temp_size_in_bytes,
      "program": memory.generated_code_size_in_bytes,
      "total": total,
      "limit": int(chip.usable_gib * _GIB),
    },
    "flops_per_chip": useful,
    "flops_executed_per_chip": executed,
    "gflop_per_image": useful / images / 1e9,
    "hbm_bytes_per_chip": traffic.hbm_bytes,
    "hbm_bytes_per_chip_xla": (compiled.cost_analysis() or {}).get("bytes accessed"),
    "collectives": {kind: {"count": n, "bytes": size} for kind, (n, size) in traffic.collectives.items()},
    "largest_collectives": {
      kind: {"bytes": size, "shape": shape[:200], "from": place}
      for kind, (size, shape, place) in traffic.largest.items()
    },
    "roofline": {
      "compute_s": times.compute_s,
      "memory_s": times.memory_s,
      "network_s": times.network_s,
      "step_s": times.step_s,
      "bound": times.bound,
    },
    "assumptions": ASSUMPTIONS,
    "images_per_s": config.batch_size / times.step_s,
    "mfu": useful / (times.step_s * chip.bf16_tflops * 1e12),
    "hours": times.step_s * config.total_steps / 3600,
    "kernel_runs": traffic.kernels,
    "compiler_step_s": traffic.cycles / (chip.ghz * 1e9) if traffic.cycles else None,
    "estimated_largest_batch": estimate_largest(config, chips, total, state_bytes, int(chip.usable_gib * _GIB)),
    "lower_s": lowered_at - started,
    "compile_s": compiled_at - lowered_at,
  }
  if breakdown_depth is not None:
    facts["breakdown"] = [row._asdict() for row in breakdown(program, chip, breakdown_depth)]
  return facts


def setting_facts(config: RunConfig, topology: Topology) -> dict[str, Any]:
  """Returns the settings that the costs belong to."""
  return {
    "topology": topology.name,
    "chips": topology.chips,
    "backbone": config.model.backbone,
    "method": config.method.name,
    "batch_size": config.batch_size,
    "images_per_chip": config.batch_size // topology.chips,
    "accumulate": config.accumulate,
    "fsdp": config.fsdp,
    "remat": config.remat,
    "precision": config.precision,
    "total_steps": config.total_steps,
  }


def bytes_of_state(config: RunConfig, build: Callable[..., Any], devices) -> int:
  """Returns the bytes per chip of parameters, teacher and optimizer."""
  _, state = lower_run(config, build, devices)
  return _bytes_per_device(state)


def total_bytes(compiled) -> int:
  """Returns the bytes of a chip that a program needs; donated arguments hold outputs."""
  memory = compiled.memory_analysis()
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.generated_code_size_in_bytes
  )


def _bytes_per_device(tree) -> int:
  """Returns the bytes of a tree of placed shapes on each device."""
  return sum(
    a.dtype.itemsize * functools.reduce(lambda n, d: n * d, a.sharding.shard_shape(a.shape), 1)
    for a in jax.tree.leaves(tree)
  )


def estimate_largest(config: RunConfig, chips: int, total: int, state_bytes: int, limit: int) -> int:
  """Returns the largest batch that should fit, if all memory but the state grows in proportion to the batch.

  Args:
    config: the run that was compiled.
    chips: number of chips.
    total: bytes per chip that the run needs.
    state_bytes: bytes per chip of its state, independent of the batch.
    limit: bytes of a chip.
  """
  per_image = max(total - state_bytes, 1) / config.batch_size
  multiple = chips * config.accumulate
  return max(0, int((limit - state_bytes) / per_image) // multiple * multiple)


def largest_batch(
  needs: Callable[[int], int], first: tuple[int, int], state_bytes: int, limit: int, multiple: int
) -> tuple[int | None, dict[int, int]]:
  """Searches the largest batch that fits, by a line through the two nearest known batches.

  Args:
    needs: batch -> bytes that it needs (also beyond `limit`); a compilation each.
    first: a batch and the bytes that it needs.
    state_bytes: bytes at a batch of zero, the first guess.
    limit: bytes of a chip.
    multiple: batches are multiples of this.

  Returns:
    (the largest batch that fits or None, batch -> bytes of all batches tried).
  """
  known = dict([first])
  for _ in range(_SEARCH_COMPILES):
    fitting = max((b for b, size in known.items() if size <= limit), default=None)
    failing = min((b for b, size in known.items() if size > limit), default=None)
    nearest = sorted(known, key=lambda b: abs(known[b] - limit))[:2]
    (x0, y0), (x1, y1) = (0, state_bytes), (nearest[0], known[nearest[0]])
    if len(nearest) == 2 and known[nearest[1]] != y1:
      x0, y0 = nearest[1], known[nearest[1]]
    guess = int(x0 + (limit - y0) * (x1 - x0) / (y1 - y0)) // multiple * multiple
    if failing is not None:
      guess = min(guess, failing - multiple)
    if guess < multiple or guess in known or (fitting is not None and guess < fitting):
      break
    known[guess] = needs(guess)
  return max((b for b, size in known.items() if size <= limit), default=None), known


def search_largest(
  config: RunConfig, build: Callable[..., Any], topology: Topology, first: tuple[int, int], state_bytes: int
) -> tuple[int | None, dict[int, int]]:
  """Returns `largest_batch` of a run by compiling it at several batches."""
  devices = describe_devices(topology)

  def needs(batch_size: int) -> int:
    lowered, _ = lower_run(dataclasses.replace(config, batch_size=batch_size), build, devices)
    try:
      return total_bytes(compile_lowered(lowered, topology))
    except OutOfMemory as error:
      return max(error.needed, error.limit + 1)

  limit, multiple = int(topology.chip.usable_gib * _GIB), topology.chips * config.accumulate
  return largest_batch(needs, first, state_bytes, limit, multiple)
