"""Tables of the compiled steps in results/compile, from the outputs of `saip compile --json --breakdown`.

python scripts/compile_page.py results/compile/*.json
"""

import argparse
import collections
import json
import pathlib

_KERNEL_CYCLES = 16.82e6 / 16  # of an image in all kernels of the ViT-Ti step on v5e, see results/compile.md


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("files", nargs="+", type=pathlib.Path)
  facts = [json.loads(file.read_text()) for file in parser.parse_args().files]
  print(
    "| step | million cycles | of kernels | ms by cycles | MFU by cycles | memory GiB | traffic GB | compiled in s |"
  )
  print("|---|" + "---:|" * 7)
  for f in facts:
    cycles = sum(row["cycles"] for row in f["breakdown"])
    kernels = _KERNEL_CYCLES * f["images_per_chip"] if f["kernel_runs"] else 0
    step_s = f["compiler_step_s"] * (1 + kernels / cycles)
    ideal_s = f["flops_per_chip"] * f["roofline"]["compute_s"] / f["flops_executed_per_chip"]
    name = f"{f['backbone']}, {f['topology']}, {f['images_per_chip']} images per chip"
    name += ", pallas" if f["kernel_runs"] else ""
    name += f", fsdp {f['fsdp']}" if f["fsdp"] > 1 else ""
    cells = (
      f"{cycles / 1e6:.1f}",
      f"{kernels / 1e6:.1f}",
      f"{step_s * 1e3:.1f}",
      f"{ideal_s / step_s:.1%}",
      f"{f['hbm']['total'] / 2**30:.2f}",
      f"{f['hbm_bytes_per_chip'] / 1e9:.2f}",
      f"{f['compile_s']:.0f}",
    )
    print(f"| {name} | {' | '.join(cells)} |")
  print()
  parts = [collections.Counter() for _ in facts]
  for f, counter in zip(facts, parts):
    for row in f["breakdown"]:
      counter[row["part"]] += row["cycles"]
  names = sorted(set().union(*parts), key=lambda name: -max(counter[name] for counter in parts))
  print("| million cycles without kernels | " + " | ".join(str(i + 1) for i in range(len(facts))) + " |")
  print("|---|" + "---:|" * len(facts))
  for name in names:
    print(f"| {name} | " + " | ".join(f"{counter[name] / 1e6:.2f}" for counter in parts) + " |")


if __name__ == "__main__":
  main()
