"""Times our step and the same step in eager PyTorch, in turns on one device: python scripts/bench_against_torch.py

The PyTorch step (scripts/torch_step.py) is the network alone, with float16 autocast on a GPU as released; other
processes make its views. So our step is timed twice: as a whole, and on ready views. Where a C++ compiler is found, the
step by `torch.compile` is timed too. The ratios are medians of --rounds turns. The last line is JSON. Needs torch.
"""

import argparse
import json
import os
import shutil
import statistics
import time

import jax
import torch
from bench_step import OnViews, compiled, random_batch, step_and_state
from torch_step import TorchStep

from saip_jax.host_memory import keep_freed_memory
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.step import make_train_step


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--rounds", type=int, default=10)
  parser.add_argument("--eager-only", action="store_true", help="leave out torch.compile, which compiles for minutes")
  args = parser.parse_args()
  keep_freed_memory()  # as `saip pretrain`
  on_gpu = jax.default_backend() == "gpu"
  precision = "bfloat16" if on_gpu else "float32"
  config = parse_config(
    apply_overrides(
      load_recipe("configs/saip_vit_tiny.py"),
      [f"--config.batch_size={args.batch}", "--config.accumulate=1", f"--config.precision={precision}"],
    )
  )
  method, step, init = step_and_state(config)
  batch = jax.device_put(random_batch(method, args.batch))
  views = jax.jit(method.views)(batch, jax.random.key(0))
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  on_views = make_train_step(OnViews(**vars(method)), tx, schedule, 1, config.seed)
  contenders = {
    "ours": compiled(step, jax.jit(init)(), batch),
    "ours_on_views": compiled(on_views, jax.jit(init)(), views),
    "torch": TorchStep(args.batch, "cuda" if on_gpu else "cpu", half=on_gpu),
  }
  if not args.eager_only and (on_gpu or shutil.which(os.environ.get("CXX", "g++"))):
    contenders["torch_compiled"] = TorchStep(args.batch, "cuda" if on_gpu else "cpu", half=on_gpu, compiled=True)
  seconds = {name: [] for name in contenders}
  for number in range(args.rounds + 1):  # the first round warms up
    for name, run in contenders.items():
      start = time.perf_counter()
      run()
      if number:
        seconds[name].append(time.perf_counter() - start)
  ratios = {
    f"{name}_to_{other}": sorted(theirs / ours for ours, theirs in zip(seconds[name], seconds[other]))
    for name in ("ours", "ours_on_views")
    for other in contenders
    if other.startswith("torch")
  }
  result = {
    "device": jax.devices()[0].device_kind,
    "batch": args.batch,
    "precision": precision,
    "threads": torch.get_num_threads(),
    "images_per_s": {name: round(args.batch / statistics.median(times), 3) for name, times in seconds.items()},
    "ratio": {name: round(statistics.median(found), 3) for name, found in ratios.items()},
    "ratios": {name: [round(ratio, 3) for ratio in found] for name, found in ratios.items()},
  }
  for name, value in result.items():
    print(f"{name:>20}  {value}")
  print(json.dumps(result))


if __name__ == "__main__":
  main()
