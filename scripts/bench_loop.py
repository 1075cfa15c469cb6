"""Measures what the loop adds to the steps: python scripts/bench_loop.py --part=scaling|checkpoint|views [--json]

scaling     processor time of the loop's own thread per step on 1, 2, 4, 8 virtual devices with the same batch on each,
            in the real loop with the tiny SAIP of tests/. One part is spent in JAX, which shards the batch, starts the
            step and frees the arrays of the previous step; the rest is ours: metrics and records
checkpoint  how long a save of the recipe's state stops the loop, and the share of the time between two saves that this
            is with steps of --step-ms
views       share of a step that makes views: time on this device, where whole steps and steps on ready views take
            turns; with --topology also FLOPs, memory traffic and cycles by the TPU compiler, of the views and the step
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
from bench_step import OnViews, compiled, random_batch, step_and_state

from saip_jax.aot.compile import compile_lowered
from saip_jax.aot.hlo import Program
from saip_jax.aot.topologies import describe_devices, find_topology
from saip_jax.aot.traffic import measure_traffic
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.training import loop, opening
from saip_jax.training.checkpoint import Checkpoints, state_bytes
from saip_jax.training.mesh import batch_sharding, lower_step, make_mesh, place_batch, place_state, replicated
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.step import make_train_step

_WARM_UP = 5  # first steps, which do not count


class _Clocked:
  """Wraps functions and sums the processor time that the calling thread spends in them."""

  def __init__(self):
    self.seconds = collections.Counter()

  def wrap(self, name, function):
    def clocked(*args):
      started = time.thread_time()
      result = function(*args)
      self.seconds[name] += time.thread_time() - started
      return result

    return clocked


class _Step:
  """A lowered step that compiles to a clocked program."""

  def __init__(self, lowered, clock):
    self._lowered, self._clock = lowered, clock

  def compile(self):
    step, before = self._clock.wrap("start_step", self._lowered.compile()), []
    free = self._clock.wrap("free_arrays", before.clear)

    def run(state, batch):
      free()  # the arrays of the previous step, which the loop would free in between
      before.append((state, batch))
      return step(state, batch)

    return run


def scaling(steps: int, per_device: int) -> dict:
  """Returns milliseconds per step of the loop's thread, by number of devices."""
  from tests.support.tiny_saip import MadeUpData, tiny

  found = {}
  shard_batch, lower = loop.shard_batch, opening.lower_step
  for devices in (1, 2, 4, 8):
    config, method = tiny(
      f"batch_size={per_device * devices}",
      f"total_steps={steps + _WARM_UP}",
      "panel_every=0",
      f"checkpoint_every={steps + _WARM_UP}",
    )
    clock, requests = _Clocked(), []

    class Data(MadeUpData):
      def batches(self, *where):
        batch = next(super().batches(*where))
        while True:
          requests.append((time.thread_time(), dict(clock.seconds)))
          yield batch

    loop.shard_batch = clock.wrap("shard_batch", shard_batch)
    opening.lower_step = lambda *args: _Step(lower(*args), clock)
    with tempfile.TemporaryDirectory() as workdir, contextlib.redirect_stdout(sys.stderr):
      loop.train(
        config, method, Data(config.batch_size), pathlib.Path(workdir) / "run", devices=jax.devices()[:devices]
      )
    (start, before), (end, after) = requests[_WARM_UP], requests[-1]
    count = len(requests) - 1 - _WARM_UP
    parts = {name: (after[name] - before[name]) / count * 1e3 for name in after}
    parts["rest"] = (end - start) / count * 1e3 - sum(parts.values())
    found[devices] = {name: round(value, 3) for name, value in parts.items()}
  return {"loop_thread_ms_per_step": found}


def checkpoint(config, step_ms: float, saves: int) -> dict:
  """Returns how long saves stop the loop, and their share of the time between two saves."""
  _, _, init = step_and_state(config)
  state = jax.block_until_ready(jax.jit(init)())
  stalls, written = [], []
  with tempfile.TemporaryDirectory() as workdir:
    checkpoints = Checkpoints(workdir, 1, None, {})
    for step in range(saves):
      started = time.perf_counter()
      checkpoints.save(step, state)
      stalls.append(time.perf_counter() - started)
      checkpoints.wait()
      written.append(time.perf_counter() - started)
    checkpoints.close()
  stall, between = statistics.median(stalls), config.checkpoint_every * step_ms / 1e3
  return {
    "state_mb": round(state_bytes(state) / 1e6),
    "stall_s": [round(s, 3) for s in stalls],
    "on_disk_s": [round(s, 1) for s in written],
    "checkpoint_every": config.checkpoint_every,
    "step_ms": step_ms,
    "share": round(stall / (between + stall), 5),
    "share_is_1_percent_at_step_ms": round(stall * 99 / config.checkpoint_every * 1e3, 1),
  }


def views(config, rounds: int, topology: str | None) -> dict:
  """Returns the share of the views in the step: by time and, for a TPU, by its compiler."""
  method, step, init = step_and_state(config)
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  result = {}
  if rounds:
    batch = jax.device_put(random_batch(method, config.batch_size))
    ready = jax.jit(method.views)(batch, jax.random.key(0))
    on_views = make_train_step(OnViews(**vars(method)), tx, schedule, 1, config.seed)
    contenders = compiled(step, jax.jit(init)(), batch), compiled(on_views, jax.jit(init)(), ready)
    make = jax.jit(method.views).lower(batch, jax.random.key(0)).compile()
    contenders += (lambda: jax.block_until_ready(make(batch, jax.random.key(0))),)
    seconds = [[], [], []]
    for number in range(rounds + 1):  # the first round warms up
      for run, times in zip(contenders, seconds):
        started = time.perf_counter()
        run()
        times += [time.perf_counter() - started] if number else []
    whole, without, alone = seconds
    result["seconds"] = {"step": whole, "step_on_ready_views": without, "views_alone": alone}
    result["share_by_difference"] = statistics.median(1 - b / a for a, b in zip(whole, without))
    result["share_alone"] = statistics.median(b / a for a, b in zip(whole, alone))
  if topology:
    chips = find_topology(topology)
    mesh = make_mesh(describe_devices(chips))
    spec = method.batch_spec(config.batch_size)
    key = jax.eval_shape(lambda: jax.random.key(0)).update(sharding=replicated(mesh))
    programs = {
      "views": jax.jit(method.views, out_shardings=batch_sharding(mesh)).lower(place_batch(mesh, spec), key),
      "step": lower_step(mesh, step, place_state(mesh, jax.eval_shape(init)), spec),
    }
    for name, lowered in programs.items():
      program = compile_lowered(lowered, chips)
      traffic = measure_traffic(Program(program.as_text()))
      result[f"{name}_on_{topology}"] = {
        "flops": program.cost_analysis()["flops"],
        "hbm_bytes": traffic.hbm_bytes,
        "cycles": traffic.cycles,
      }
    of_views, of_step = result[f"views_on_{topology}"], result[f"step_on_{topology}"]
    result["shares_by_compiler"] = {name: round(of_views[name] / of_step[name], 4) for name in of_step}
  return result


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--part", choices=["scaling", "checkpoint", "views"], required=True)
  parser.add_argument("--config", default="configs/saip_vit_tiny.py")
  parser.add_argument("--steps", type=int, default=100, help="scaling: number of steps")
  parser.add_argument("--per-device", type=int, default=1, help="scaling: images per device")
  parser.add_argument(
    "--step-ms", type=float, default=33.0, help="checkpoint: time of a step; 33 by the v5e compiler's cycles"
  )
  parser.add_argument("--rounds", type=int, default=5, help="checkpoint: saves; views: turns (0: none)")
  parser.add_argument("--topology", help="views: for example v5e-8; needs libtpu")
  parser.add_argument("--json", action="store_true")
  args, overrides = parser.parse_known_args()
  config = parse_config(apply_overrides(load_recipe(args.config), ["--config.accumulate=1", *overrides]))
  match args.part:
    case "scaling":
      result = scaling(args.steps, args.per_device)
    case "checkpoint":
      result = checkpoint(config, args.step_ms, args.rounds)
    case "views":
      result = views(config, args.rounds, args.topology)
  result = {"part": args.part, "device": jax.devices()[0].device_kind} | result
  print(json.dumps(result) if args.json else "\n".join(f"{name:>28}  {value}" for name, value in result.items()))


if __name__ == "__main__":
  main()
