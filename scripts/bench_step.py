"""Times the real training step on random images: python scripts/bench_step.py --config=configs/saip_vit_tiny.py

Needs jax, flax and optax only. Prints images/s, GFLOP per image by XLA's count (with unrolled blocks: XLA counts the
body of a scan once), and MFU where the peak of the device is known. The last line is JSON.

--shares adds where the thread time goes, by part. --against=FOLDER compares with the same script of another checkout:
processes of both take turns, and the ratio of their images/s is printed; each reads a relative --config in its own
folder. Only times of a machine without other work mean something. JAX_COMPILATION_CACHE_DIR spares all processes but
the first the compilation.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
from step_shares import measure_shares

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from saip_jax.host_memory import keep_freed_memory
from saip_jax.methods import METHODS
from saip_jax.methods.saip.method import Saip
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.training.mesh import make_mesh, replicated, shard_batch
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.step import init_state, make_train_step

PEAK_TFLOPS = {  # dense bfloat16, per device, from the vendors' data sheets
  "TPU v4": 275,
  "TPU v5 lite": 197,
  "TPU v5e": 197,
  "TPU v5": 459,
  "TPU v5p": 459,
  "TPU v6 lite": 918,
  "TPU v6e": 918,
  "NVIDIA A100-SXM4-40GB": 312,
  "NVIDIA A100-SXM4-80GB": 312,
  "NVIDIA H100 80GB HBM3": 989,
  "NVIDIA H200": 989,
}


def random_batch(method, size: int) -> dict[str, np.ndarray]:
  """Returns a random batch of the method's specification, every canvas filled to the edge."""
  rng = np.random.default_rng(0)
  batch = {name: rng.integers(0, 255, spec.shape).astype(spec.dtype) for name, spec in method.batch_spec(size).items()}
  for name in [n for n in batch if n.endswith("_hw")]:
    batch[name][:] = batch[name.removesuffix("_hw")].shape[1:3]
  return batch


def step_and_state(config, **backbone_options):
  """Returns (method, step function, initial state function) of a config."""
  method = METHODS[config.method.name].build(config, **backbone_options)
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  step = make_train_step(method, tx, schedule, config.accumulate, config.seed)
  return method, step, lambda: init_state(method, tx, config.seed)


class OnViews(Saip):
  """SAIP whose batch is the ready views."""

  def views(self, batch, key):
    return batch


def compiled(step, state, batch):
  """Returns a function that runs one step and replaces the state."""
  program = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
  current = [state]

  def run():
    current[0], _ = jax.block_until_ready(program(current[0], batch))

  return run


def count_flops(config) -> float:
  """Returns floating-point operations per image of one update, by XLA's count.

  The blocks are unrolled, as XLA counts the body of a scan once.
  """
  method, step, init = step_and_state(config, unroll=True)
  lowered = jax.jit(step).lower(jax.eval_shape(init), method.batch_spec(config.batch_size))
  return lowered.compile().cost_analysis()["flops"] / config.batch_size


def compare(folder: pathlib.Path, rounds: int, arguments: list[str]) -> dict:
  """Returns images/s of this checkout and of another one, whose processes take turns, and their ratios.

  Args:
    folder: the other checkout.
    rounds: processes of each.
    arguments: of both, without those of the comparison.
  """
  here = pathlib.Path(__file__).resolve().parent.parent
  found = {here: [], folder.resolve(): []}
  for _ in range(rounds):
    for checkout, speeds in found.items():
      command = [sys.executable, str(checkout / "scripts/bench_step.py"), "--no-flops", *arguments]
      environment = os.environ | {"PYTHONPATH": str(checkout)}
      lines = subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True, text=True).stdout
      speeds.append(json.loads(lines.splitlines()[-1])["images_per_s"])
      print(f"{speeds[-1]:.1f} images/s with the package of {checkout}", file=sys.stderr, flush=True)
  ours, theirs = found.values()
  return {
    "images_per_s": ours,
    "images_per_s_of_other": theirs,
    "ratios": [round(a / b, 3) for a, b in zip(ours, theirs)],
    "ratio": round(float(np.median(ours) / np.median(theirs)), 3),
  }


def show(result: dict) -> None:
  """Prints one line for each entry, and all of it as JSON."""
  for name, value in result.items():
    print(f"{name:>21}  {value}")
  print(json.dumps(result))


def main() -> None:
  keep_freed_memory()  # as `saip pretrain`
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", default="configs/saip_vit_tiny.py")
  parser.add_argument("--batch", type=int, default=8, help="images per update, over all devices")
  parser.add_argument("--precision", choices=["float32", "bfloat16"], default=None, help="default: the recipe's")
  parser.add_argument("--steps", type=int, default=5, help="timed updates, after one warm-up")
  parser.add_argument("--no-flops", action="store_true", help="skip the FLOP count, which compiles once more")
  parser.add_argument("--shares", action="store_true", help="thread time of the step by part, on CPU")
  parser.add_argument("--against", type=pathlib.Path, help="folder of another checkout to compare with")
  parser.add_argument("--rounds", type=int, default=3, help="processes of each checkout with --against")
  args, overrides = parser.parse_known_args()
  if args.against:
    common = [f"--config={args.config}", f"--batch={args.batch}", f"--steps={args.steps}", *overrides]
    common += [f"--precision={args.precision}"] if args.precision else []
    return show(compare(args.against, args.rounds, common))
  recipe = apply_overrides(load_recipe(args.config), ["--config.accumulate=1", *overrides])
  recipe["batch_size"] = args.batch
  if args.precision:
    recipe["precision"] = args.precision
  config = parse_config(recipe)

  mesh = make_mesh()
  method, step, init = step_and_state(config)
  state = jax.jit(init, out_shardings=replicated(mesh))()
  batch = shard_batch(mesh, random_batch(method, args.batch))
  start = time.perf_counter()
  step = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
  compile_s = time.perf_counter() - start
  state, metrics = jax.block_until_ready(step(state, batch))
  seconds = []
  for _ in range(args.steps):
    start = time.perf_counter()
    state, metrics = jax.block_until_ready(step(state, batch))
    seconds.append(time.perf_counter() - start)

  device = jax.devices()[0].device_kind
  result = {
    "device": device,
    "devices": jax.device_count(),
    "config": args.config,
    "batch": args.batch,
    "precision": config.precision,
    "compile_s": round(compile_s, 1),
    "step_s": [round(s, 4) for s in seconds],
    "images_per_s": round(args.batch / float(np.median(seconds)), 3),
  }
  if not args.no_flops:
    result["gflop_per_image"] = round(count_flops(config) / 1e9, 2)
    if device in PEAK_TFLOPS:
      achieved = result["gflop_per_image"] * result["images_per_s"] / jax.device_count() / 1e3
      result["mfu"] = round(achieved / PEAK_TFLOPS[device], 4)
  if args.shares:
    current = [state]

    def run():
      current[0], _ = jax.block_until_ready(step(current[0], batch))

    result["thread_ms_per_step"] = measure_shares(step, run)
  show(result)


if __name__ == "__main__":
  main()
