"""Our step and the same step in eager PyTorch, taking turns on one device: python scripts/bench_against_torch.py

Ours makes its views too; PyTorch's (scripts/torch_step.py) is the network alone, with float16 autocast on a GPU as
released. The last line is JSON. Needs torch.
"""

import argparse
import json
import statistics
import time

import jax
import torch
from bench_step import made_up_batch, step_and_state
from torch_step import TorchStep

from saip_jax.config import apply_overrides, load_recipe, parse_config
from saip_jax.training.mesh import make_mesh, replicated, shard_batch


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args()
  on_gpu = jax.default_backend() == "gpu"
  precision = "bfloat16" if on_gpu else "float32"
  config = parse_config(apply_overrides(load_recipe("configs/saip_vit_tiny.py"), [
      f"--config.batch_size={args.batch}", "--config.accumulate=1", f"--config.precision={precision}"]))
  mesh = make_mesh(jax.devices()[:1])
  method, step, init = step_and_state(config)
  state = jax.jit(init, out_shardings=replicated(mesh))()
  batch = shard_batch(mesh, made_up_batch(method, args.batch))
  step = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
  torch_step = TorchStep(args.batch, "cuda" if on_gpu else "cpu", half=on_gpu)
  seconds = {"ours": [], "torch": []}
  for number in range(args.rounds + 1):  # the first round warms up
    start = time.perf_counter()
    state, _ = jax.block_until_ready(step(state, batch))
    middle = time.perf_counter()
    torch_step()
    if number:
      seconds["ours"].append(middle - start)
      seconds["torch"].append(time.perf_counter() - middle)
  rates = {name: args.batch / statistics.median(times) for name, times in seconds.items()}
  ratios = sorted(theirs / ours for ours, theirs in zip(*seconds.values()))
  result = {"device": jax.devices()[0].device_kind, "batch": args.batch, "precision": precision,
            "threads": torch.get_num_threads(), "ours_images_per_s": round(rates["ours"], 3),
            "torch_images_per_s": round(rates["torch"], 3), "ratio": round(statistics.median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios]}
  for name, value in result.items():
    print(f"{name:>20}  {value}")
  print(json.dumps(result))


if __name__ == "__main__":
  main()
