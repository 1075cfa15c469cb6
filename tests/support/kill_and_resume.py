"""Kills a run at random moments, resumes it, and compares its final checkpoint with that of a run left alone.

For any command that takes --workdir=W and writes W/metrics.jsonl and W/checkpoints/<step>/:

    python tests/kill_and_resume.py --out=/tmp/kill --total-steps=20 -- \\
        python -m saip_jax pretrain --config=configs/saip_demo.py --config.total_steps=20 --config.checkpoint_every=5
"""

import argparse
import pathlib
import random
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp


def run(command, workdir) -> None:
  """Runs the command to its end; raises with its output if it fails."""
  done = subprocess.run([*command, f"--workdir={workdir}"], capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")


def run_with_kills(command, workdir, total_steps: int, kills: int, seed: int) -> list[int]:
  """Runs the command, kills it `kills` times, and lets it end.

  Args:
    command: the run without --workdir.
    workdir: its folder.
    total_steps: updates of the whole run.
    kills: how often to send SIGKILL, each some updates after the newest checkpoint, spread over the run.
    seed: fixes when, up to the speed of the machine.

  Returns:
    The last recorded step at each kill.
  """
  rng = random.Random(seed)
  killed_at = []
  for _ in range(kills):
    left = total_steps - _latest(workdir)
    target = _latest(workdir) + rng.randrange(max(1, min(left // 2, 2 * total_steps // kills)))
    process = subprocess.Popen([*command, f"--workdir={workdir}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = time.time()
    while process.poll() is None and not (_recorded(workdir, since=started) >= target):
      time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.1))  # any moment within a step or a save
    if process.poll() is None:
      process.kill()
    process.wait()
    killed_at.append(_recorded(workdir, since=started))
  run(command, workdir)
  return killed_at


def _latest(workdir) -> int:
  folder = pathlib.Path(workdir) / "checkpoints"
  return max((int(p.name) for p in folder.glob("*") if p.name.isdigit()), default=0)


def _recorded(workdir, since: float) -> int:
  """Returns the number of recorded updates, -1 until the run that started at `since` has opened its record."""
  path = pathlib.Path(workdir) / "metrics.jsonl"
  if not path.exists() or path.stat().st_mtime < since:
    return -1
  return path.read_bytes().count(b"\n")


def final_state(workdir) -> dict[str, np.ndarray]:
  """Returns the arrays of the newest checkpoint, by name."""
  path = pathlib.Path(workdir).absolute() / "checkpoints" / str(_latest(workdir)) / "state"
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
    # as numpy arrays: those who saved may have had other devices
    stored = reader.metadata(path).item_metadata.tree
    to_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored)
    tree = reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=to_numpy))
  return {name: np.asarray(leaf) for name, leaf in _leaves(tree, "")}


def _leaves(tree, name):
  if isinstance(tree, (dict, list, tuple)):
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
      yield from _leaves(value, f"{name}/{key}")
  elif tree is not None:
    yield name.removeprefix("/"), tree


def differing(workdir_a, workdir_b) -> list[str]:
  """Returns the names of the arrays that are not the same bits in both final checkpoints."""
  a, b = final_state(workdir_a), final_state(workdir_b)
  assert a.keys() == b.keys() and a, "the checkpoints hold different arrays"
  return [name for name in a if a[name].dtype != b[name].dtype or a[name].tobytes() != b[name].tobytes()]


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--total-steps", type=int, required=True)
  parser.add_argument("--kills", type=int, default=5)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("command", nargs="+")
  options = parser.parse_args()
  killed, whole = options.out / "killed", options.out / "whole"
  print("killed after", run_with_kills(options.command, killed, options.total_steps, options.kills, options.seed))
  run(options.command, whole)
  names = differing(killed, whole)
  print(f"{len(final_state(whole))} arrays, differing: {names or 'none'}")
  sys.exit(bool(names))
