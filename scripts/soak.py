"""Tests whether a long run leaks memory and survives kills: python scripts/soak.py --out=/tmp/soak [--kills=100]

Without --kills: trains the toy method of tests/ for --steps updates, saving every 100, and prints how the memory of the
process grows in the second half. With --kills: kills such a run with SIGKILL at that many random moments, during steps
and saves, and compares its final state, bit by bit, with that of an undisturbed run. Fails if the memory grows by over
1 MB per 100 updates, or if the states differ. Takes one minute; 100 kills take half an hour.
"""

import argparse
import pathlib
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tests.support.kill_and_resume import differing, run, run_with_kills
from tests.support.processes import TOY


def watch_memory(command, workdir: pathlib.Path) -> tuple[list[int], list[float]]:
  """Runs a command to its end; returns (updates done, resident MB), sampled five times a second."""
  steps, megabytes, metrics = [], [], workdir / "metrics.jsonl"
  process = subprocess.Popen([*command, f"--workdir={workdir}"], stdout=subprocess.DEVNULL)
  while process.poll() is None:
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    if metrics.exists() and "VmRSS" in status:
      steps.append(metrics.read_bytes().count(b"\n"))
      megabytes.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
    time.sleep(0.2)
  assert process.returncode == 0, f"{' '.join(command)} ended with {process.returncode}"
  return steps, megabytes


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", type=pathlib.Path, required=True, help="new folder")
  parser.add_argument("--steps", type=int, default=2000)
  parser.add_argument("--kills", type=int, default=0)
  options, settings = parser.parse_known_args()
  every, seconds = (20, 0.01) if options.kills else (100, 0)
  command = [
    *TOY,
    f"--seconds={seconds}",
    f"--config.total_steps={options.steps}",
    f"--config.checkpoint_every={every}",
    *settings,
  ]
  if options.kills:
    killed_at = run_with_kills(command, options.out / "killed", options.steps, options.kills, seed=0)
    run(command, options.out / "whole")
    names = differing(options.out / "killed", options.out / "whole")
    print(f"{len(killed_at)} kills, after updates {killed_at}; arrays that differ at the end: {names or 'none'}")
    return bool(names)
  steps, megabytes = (np.array(values) for values in watch_memory(command, options.out))
  late = steps >= options.steps // 2
  growth = np.polyfit(steps[late], megabytes[late], 1)[0] * 100
  print(
    f"{steps[-1]} updates: {megabytes[~late][-1]:.0f} MB half way, {megabytes[-1]:.0f} MB at the end, slope of the"
    f" second half {growth:+.3f} MB per 100 updates over {late.sum()} readings"
  )
  return int(growth > 1)


if __name__ == "__main__":
  sys.exit(main())
