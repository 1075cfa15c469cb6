"""Compiles for TPUs that are not attached, and prints a Markdown table backbone x topology: python scripts/pod_table.py

Each row is one `saip compile --json` in its own process. Rows are kept in --out and not compiled again. Needs libtpu.
"""

import argparse
import json
import pathlib
import subprocess
import sys

REPO = pathlib.Path(__file__).resolve().parent.parent
HEAD = (
  "| backbone | chips | images per chip | memory GiB | traffic GB | TFLOP | bound | at best ms | MFU | images/s |"
  " compile s |"
)


def compile_row(config: str, backbone: str, topology: str, overrides: list[str]) -> dict:
  """Returns the facts of one compilation; a step that does not fit is a row too."""
  command = [
    sys.executable,
    "-m",
    "saip_jax",
    "compile",
    f"--config={config}",
    f"--topology={topology}",
    "--json",
    "--config.accumulate=1",
    f"--config.model.backbone={backbone}",
    *overrides,
  ]
  run = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
  if run.returncode not in (0, 1):
    raise RuntimeError(f"{' '.join(command)} failed:\n{run.stderr}")
  return json.loads(run.stdout)


def line(f: dict) -> str:
  """Returns a row of the table."""
  gib = lambda size: f"{size / 2**30:.1f}"
  cells = [f["backbone"], f["topology"], f["images_per_chip"], f"{gib(f['hbm']['total'])} of {gib(f['hbm']['limit'])}"]
  if f["fits"]:
    r = f["roofline"]
    cells += [
      f"{f['hbm_bytes_per_chip'] / 1e9:.1f}",
      f"{f['flops_per_chip'] / 1e12:.2f}",
      r["bound"],
      f"{r['step_s'] * 1e3:.1f}",
      f"{f['mfu']:.0%}",
      f"{f['images_per_s']:,.0f}",
      f"{f['compile_s']:.0f}",
    ]
  else:
    cells += ["", "", "does not fit", "", "", "", ""]
  return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", default="configs/saip_vit_tiny.py")
  parser.add_argument("--backbones", default="vit_tiny,vit_base")
  parser.add_argument("--topologies", default="v5e-256,v4-64")
  parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("pod_table"), help="folder for the rows as JSON")
  args, overrides = parser.parse_known_args()
  args.out.mkdir(parents=True, exist_ok=True)
  rows = []
  for backbone in args.backbones.split(","):
    for topology in args.topologies.split(","):
      name = "_".join([backbone, topology, *(o.removeprefix("--config.") for o in overrides)])
      path = args.out / f"{name.replace('/', '-')}.json"
      if not path.exists():
        print(f"compiling {path.stem}", file=sys.stderr, flush=True)
        path.write_text(json.dumps(compile_row(args.config, backbone, topology, overrides), indent=2))
      rows.append(json.loads(path.read_text()))
  print("\n".join([HEAD, "|---" * (HEAD.count("|") - 1) + "|", *map(line, rows)]))


if __name__ == "__main__":
  main()
