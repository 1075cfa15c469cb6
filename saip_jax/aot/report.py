"""Text and facts of `saip compile`."""

from collections.abc import Callable
from typing import Any

from saip_jax.aot.breakdown import Row
from saip_jax.aot.breakdown_table import breakdown_table
from saip_jax.aot.compile import OutOfMemory, bytes_of_state, estimate_largest, setting_facts
from saip_jax.aot.topologies import Topology, describe_devices
from saip_jax.config import RunConfig

_GIB = 2**30


def out_of_memory_facts(
  config: RunConfig, build: Callable[..., Any], topology: Topology, error: OutOfMemory
) -> dict[str, Any]:
  """Returns the facts of `compile.examine_step` for a step that does not fit."""
  state = bytes_of_state(config, build, describe_devices(topology))
  return setting_facts(config, topology) | {
    "fits": False,
    "error": str(error),
    "hbm": {"state": state, "total": error.needed, "limit": error.limit},
    "estimated_largest_batch": estimate_largest(config, topology.chips, error.needed, state, error.limit),
  }


def compile_report(facts: dict[str, Any]) -> str:
  """Returns the facts of `compile.examine_step` as text."""
  f, hbm = facts, facts["hbm"]
  gib = lambda name: f"{hbm[name] / _GIB:.2f}"
  lines = [
    f"{f['method']} with {f['backbone']} on {f['topology']}: {f['chips']} chips; all numbers are per chip",
    f"  batch          {f['batch_size']:,} images, {f['images_per_chip']:,} per chip"
    + (f", in {f['accumulate']} micro-steps" if f["accumulate"] > 1 else ""),
  ]
  if not f["fits"]:
    lines.append(f"  {f['error']}; {gib('state')} GiB are the state")
    return "\n".join(lines + _largest(f))
  r = f["roofline"]
  xla = f["hbm_bytes_per_chip_xla"]
  xla = f" (XLA counts loops once and on-chip memory too: {xla / 1e9:.2f})" if xla else ""
  ms = lambda seconds: f"{seconds * 1e3:.2f} ms"
  lines += [
    f"  parameters     {f['parameters']:,}",
    f"  memory         {gib('total')} of {gib('limit')} GiB: state and batch {gib('arguments')}, temporaries"
    f" {gib('temporaries')}, program {gib('program')}",
    f"  arithmetic     {f['flops_per_chip'] / 1e12:.3f} TFLOP, {f['gflop_per_image']:.1f} GFLOP per image"
    f" (XLA's count, blocks written out); including what is computed twice {f['flops_executed_per_chip'] / 1e12:.3f}",
    f"  memory traffic {f['hbm_bytes_per_chip'] / 1e9:.2f} GB, loops counted as often as they run" + xla,
    "  network        "
    + (", ".join(f"{c['count']} {kind}, {c['bytes'] / 1e6:.1f} MB" for kind, c in f["collectives"].items()) or "none"),
    f"  at best        {ms(r['step_s'])} a step, bound by {r['bound']}: compute {ms(r['compute_s'])}, memory"
    f" {ms(r['memory_s'])}, network {ms(r['network_s'])}",
    f"  that implies   {f['images_per_s']:,.0f} images/s on all chips, MFU {f['mfu']:.1%}, {f['hours']:.1f} hours for"
    f" {f['total_steps']:,} steps",
    f"  assuming       {f['assumptions']}",
    f"  compiled in    {f['compile_s']:.1f} s",
  ]
  if f["compiler_step_s"]:
    kernels = f" and {f['kernel_runs']} runs of Pallas kernels" if f["kernel_runs"] else ""
    lines.append(f"  the compiler's own estimate of the step, without network{kernels}: {ms(f['compiler_step_s'])}")
  lines += _largest(f)
  if "breakdown" in f:
    cycles = "the compiler's estimate" if f["compiler_step_s"] else "the least for products and traffic"
    lines += [
      "",
      f"million cycles by part and kind of work: {cycles}",
      breakdown_table([Row(**row) for row in f["breakdown"]]),
    ]
  return "\n".join(lines)


def _largest(facts: dict[str, Any]) -> list[str]:
  if "tried_batches" not in facts:
    estimate = facts["estimated_largest_batch"]
    return [
      f"  largest batch  about {estimate:,}, if memory grows in proportion to the batch; --largest searches for it"
    ]
  tried = ", ".join(f"{batch:,}: {size / _GIB:.2f} GiB" for batch, size in sorted(facts["tried_batches"].items()))
  found = facts["largest_batch"]
  return [f"  largest batch  {found:,} (tried {tried})" if found else f"  no batch fits (tried {tried})"]
